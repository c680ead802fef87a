//! The condition `RevocationsApplied`: whether what the user takes out is out.

use super::Stage;
use crate::{
    condition::{Condition, Kind, Reason, Status},
    ledger::{Ledger, State, Version},
    plan::{Enforcement, enforcement, revoke},
    snapshot::{LedgerFound, PolicyFound, Revoked, Snapshot},
};

/// Present while the ring's object revokes anything.
pub(super) fn condition(
    snapshot: &Snapshot,
    ledger: Option<&Ledger>,
    stage: Stage,
) -> Option<Condition> {
    if snapshot.ring.revoked.is_empty() {
        return None;
    }
    let new = |status, reason, message| {
        Some(Condition { kind: Kind::RevocationsApplied, status, reason, message })
    };
    // An operator that has just started knows no better than what was said before.
    let before = &snapshot.reported.revocations_applied;
    if stage == Stage::Lost && is_out(snapshot) {
        match (enforcement::of_what_is_left(snapshot), before) {
            (Enforcement::NotAsked, Some(before)) => return Some(before.clone()),
            (Enforcement::Acknowledged(_), _) => {
                let message = "no revoked version is accepted any more, and the ring's ledger is \
                               to take that in as soon as it can be relied on again"
                    .to_owned();
                return new(Status::True, Reason::RevocationsApplied, message);
            }
            _ => {}
        }
    }
    let (Some(ledger), Stage::Serving | Stage::DeletionBlocked) = (ledger, stage) else {
        let message = "the ring's keys have to be known first; until then only what is named by \
                       fingerprint leaves the policies"
            .to_owned();
        return new(Status::False, Reason::RevocationPending, message);
    };
    let unknown: Vec<String> = revoke::unknown(snapshot, ledger).map(name).collect();
    if !unknown.is_empty() {
        let newest = ledger.newest().map_or(0, |v| v.number);
        let message = format!(
            "spec.revoked names {}, which this ring never had (its newest version is {newest}), so \
             nothing was revoked by it. Correct the entry or take it out; kubectl get skr {} -o \
             yaml shows every version with its fingerprint",
            unknown.join(", "),
            snapshot.name,
        );
        return new(Status::False, Reason::RevocationUnknown, message);
    }
    let waits = ledger
        .versions
        .iter()
        .any(|v| v.state != State::Revoked && snapshot.ring.revoked.iter().any(|r| r.names(v)));
    let found = enforcement::of(snapshot, ledger);
    if let (false, Enforcement::NotAsked, Some(before)) = (waits, &found, before) {
        return Some(before.clone());
    }
    if waits || !matches!(found, Enforcement::Acknowledged(_)) {
        let message = "Kyverno has not answered yet with the keys that remain".to_owned();
        return new(Status::False, Reason::RevocationPending, message);
    }
    let message = "no revoked version is accepted any more".to_owned();
    new(Status::True, Reason::RevocationsApplied, message)
}

/// Whether the policies of a ring that is stalled hold none of the keys that
/// its object revokes.
fn is_out(snapshot: &Snapshot) -> bool {
    let (LedgerFound::Present(ledger) | LedgerFound::Damaged { table: Some(ledger), .. }) =
        &snapshot.ledger
    else {
        return false;
    };
    let in_force = |version: &Version| {
        snapshot.policies.values().any(|found| {
            matches!(found, PolicyFound::Ours { keys, .. } if keys.contains(&version.public_key))
        })
    };
    let out = |revoked: &Revoked| {
        let mut named = ledger.versions.iter().filter(|v| revoked.names(v)).peekable();
        named.peek().is_some() && !named.any(in_force)
    };
    snapshot.ring.revoked.iter().all(out)
}

fn name(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Version(number) => format!("version {number}"),
        Revoked::Fingerprint(fingerprint) => fingerprint.to_string(),
        Revoked::Unreadable(text) => text.clone(),
    }
}
