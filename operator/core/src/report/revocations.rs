//! The condition `RevocationsApplied`: whether what the user takes out is out.

use super::{Condition, Kind, Reason, Stage, Status};
use crate::{
    ledger::{Ledger, State},
    plan::{Enforcement, enforcement, revoke},
    snapshot::{Revoked, Snapshot},
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
    let (Some(ledger), Stage::Serving | Stage::DeletionBlocked) = (ledger, stage) else {
        let message = "the ring's keys have to be known first".to_owned();
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
    let enforced = matches!(enforcement::of(snapshot, ledger), Enforcement::Acknowledged(_));
    if waits || !enforced {
        let message = "Kyverno has not answered yet with the keys that remain".to_owned();
        return new(Status::False, Reason::RevocationPending, message);
    }
    let message = "no revoked version is accepted any more".to_owned();
    new(Status::True, Reason::RevocationsApplied, message)
}

fn name(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Version(number) => format!("version {number}"),
        Revoked::Fingerprint(fingerprint) => fingerprint.clone(),
    }
}
