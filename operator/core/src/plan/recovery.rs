//! How a ring goes on after a loss.

use std::collections::BTreeSet;

use super::{mint, place};
use crate::{
    facts::{Facts, highest_sequence},
    high_water::short,
    ledger::{Recovery, State, token_hash},
    snapshot::{LedgerFound, PolicyFound, Snapshot},
};

/// The new version with which the ring goes on after a loss, once the user
/// has asked for it by naming the highest version that was given out.
pub(super) fn next(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<Recovery> {
    let after = facts.last_version;
    let asked = snapshot.ring.recover_after == Some(after) && !snapshot.ring.suspend;
    if !asked || matches!(snapshot.ledger, LedgerFound::Foreign) {
        return None;
    }
    let rule = place::first(snapshot, facts.table.map(|table| &table.rule.settings));
    let in_force: BTreeSet<&String> = keys_in_force(snapshot).collect();
    let known = snapshot.reported.versions.iter().cloned().map(|mut version| {
        // The status is a report. What it says is accepted counts only where a
        // policy says so too.
        if version.state != State::Revoked && !in_force.contains(&version.public_key) {
            version.state = State::Retired;
            // One that never signed is in no window, however wide.
            version.activated_at = None;
        }
        version
    });
    let remembered = snapshot.witnesses.iter().flat_map(|w| w.high_water.revoked.iter().cloned());
    let reported = snapshot.reported.versions.iter().filter(|v| v.state == State::Revoked);
    let revoked = remembered.chain(reported.map(|v| short(v.fingerprint.as_str()))).collect();
    Some(Recovery {
        version: mint::free_number(snapshot, after),
        token: facts.token.map(token_hash),
        rule,
        known: known.collect(),
        revoked,
        publications: snapshot.reported.published.clone(),
        above: highest_sequence(snapshot),
        keep: snapshot.ring.keep,
    })
}

fn keys_in_force(snapshot: &Snapshot) -> impl Iterator<Item = &String> {
    snapshot.policies.values().flat_map(|seen| match &seen.found {
        PolicyFound::Ours { keys, .. } => keys.iter().collect(),
        _ => Vec::new(),
    })
}
