//! The condition `RevocationsApplied`: whether what the user takes out is out.

use std::collections::BTreeSet;

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, Stage},
    high_water::short,
    ledger::{Ledger, State, Version},
    snapshot::{Answer, PolicyFound, Revoked, Snapshot},
};

/// Present while the ring's object revokes anything.
pub(super) fn condition(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<Condition> {
    if snapshot.ring.revoked.is_empty() {
        return None;
    }
    let new = |status, reason, message| {
        Some(Condition { kind: Kind::RevocationsApplied, status, reason, message })
    };
    // An operator that has just started knows no better than what was said before.
    let before = &snapshot.reported.revocations_applied;
    if facts.stage == Stage::Lost && is_out(snapshot, facts) {
        match (facts.enforcement, before) {
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
    if facts.stage == Stage::Serving && facts.ledger.is_none() {
        // Without a trace of a version there never was one.
        let names: Vec<String> = snapshot.ring.revoked.iter().map(name).collect();
        return new(Status::False, Reason::RevocationUnknown, never_had(snapshot, &names, 0));
    }
    let (Some(ledger), Stage::Serving | Stage::DeletionBlocked) = (facts.ledger, facts.stage)
    else {
        let message = match (facts.stage, facts.table) {
            (Stage::Deleting, _) => "the ring is being deleted, and its rule with all its keys",
            (_, Some(_)) => {
                "the ring's ledger has to be relied on again first; what is named leaves the \
                 policies before that"
            }
            (_, None) => {
                "the ring's keys have to be known first; until then only what is named by \
                 fingerprint leaves the policies"
            }
        };
        let message = message.to_owned();
        return new(Status::False, Reason::RevocationPending, message);
    };
    let unknown: Vec<String> = unknown(snapshot, ledger).map(name).collect();
    if !unknown.is_empty() {
        let newest = ledger.newest().map_or(0, |v| v.number);
        let message = never_had(snapshot, &unknown, newest);
        return new(Status::False, Reason::RevocationUnknown, message);
    }
    let waits = !facts.due_revocations.is_empty();
    let out = kyverno_has_let_go(snapshot, ledger);
    if let (false, None, Some(before)) = (waits, out, before) {
        return Some(before.clone());
    }
    if waits || out != Some(true) {
        let message = "Kyverno has not answered yet with the keys that remain".to_owned();
        return new(Status::False, Reason::RevocationPending, message);
    }
    let message = "no revoked version is accepted any more".to_owned();
    new(Status::True, Reason::RevocationsApplied, message)
}

fn never_had(snapshot: &Snapshot, names: &[String], newest: u32) -> String {
    format!(
        "spec.revoked names {}, which this ring never had (its newest version is {newest}), so \
         nothing was revoked by it. Correct the entry or take it out; this shows every version with \
         its fingerprint: kubectl get skr {} -o yaml",
        names.join(", "),
        snapshot.name,
    )
}

/// Whether no policy holds a revoked key of the ring any more, and Kyverno
/// answers with the keys that each holds; nothing where it was not asked yet.
/// Whatever else of the rule is still to change does not matter.
fn kyverno_has_let_go(snapshot: &Snapshot, ledger: &Ledger) -> Option<bool> {
    if !snapshot.serves(ledger.rule.settings.policy) {
        return Some(false);
    }
    let revoked = ledger.versions.iter().filter(|v| v.state() == State::Revoked);
    let revoked: BTreeSet<String> = revoked.map(|v| v.public_key.to_string()).collect();
    let mut asked = true;
    for policy in ledger.rule.settings.policies().filter(|policy| snapshot.serves(*policy)) {
        let found = snapshot.policies.get(&policy).map(|seen| &seen.found);
        if !matches!(found, Some(PolicyFound::Ours { mark: Some(_), .. })) {
            return Some(false);
        }
    }
    for seen in snapshot.policies.values() {
        let PolicyFound::Ours { mark: Some(mark), keys, .. } = &seen.found else { continue };
        if keys.iter().any(|key| revoked.contains(key)) {
            return Some(false);
        }
        match &seen.answer {
            Answer::NotAsked => asked = false,
            Answer::Answered { mark: Some(answered), .. }
                if answered.state.key_set == mark.state.key_set => {}
            _ => return Some(false),
        }
    }
    asked.then_some(true)
}

/// Whether the policies of a ring that is stalled hold none of the keys that
/// its object revokes.
fn is_out(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    let Some(table) = facts.table else { return false };
    let in_force = |version: &Version| {
        snapshot.policies.values().any(|seen| {
            matches!(&seen.found, PolicyFound::Ours { keys, .. } if keys.contains(&*version.public_key.text()))
        })
    };
    let out = |revoked: &Revoked| {
        let mut named = table.versions.iter().filter(|v| revoked.names(v)).peekable();
        named.peek().is_some() && !named.any(in_force)
    };
    snapshot.ring.revoked.iter().all(out)
}

/// The revocations that name no version that this ring ever had.
fn unknown<'a>(snapshot: &'a Snapshot, ledger: &'a Ledger) -> impl Iterator<Item = &'a Revoked> {
    let newest = ledger.newest().map_or(0, |v| v.number);
    snapshot.ring.revoked.iter().filter(move |revoked| match revoked {
        // A number that is not in the table any more was given out once.
        Revoked::Version(number) => *number > newest,
        Revoked::Fingerprint(fingerprint) => {
            ledger.by_fingerprint(fingerprint).is_none()
                && !ledger.revoked.contains(&short(fingerprint.as_str()))
        }
        Revoked::Unreadable(_) => true,
    })
}

fn name(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Version(number) => format!("version {number}"),
        Revoked::Fingerprint(fingerprint) => fingerprint.to_string(),
        Revoked::Unreadable(text) => text.clone(),
    }
}
