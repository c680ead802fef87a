//! Whether the ledger is what it was: what witnesses outside it remember, and
//! how a ring goes on after a loss.

use std::collections::BTreeSet;

use super::{mint, place};
use crate::{
    high_water::{HighWater, short},
    ledger::{Change, Ledger, Recovery, State},
    policy_ref::PolicyRef,
    snapshot::{LedgerFound, PolicyFound, Snapshot, Witness},
};

/// What all witnesses together remember.
#[must_use]
pub fn high_water(snapshot: &Snapshot) -> HighWater {
    let mut highest = HighWater::default();
    for witness in &snapshot.witnesses {
        highest.raise(&witness.high_water);
    }
    highest
}

/// The highest sequence of the ring that a policy carries.
#[must_use]
pub(super) fn highest_sequence(snapshot: &Snapshot) -> u64 {
    snapshot.witnesses.iter().filter_map(|witness| witness.sequence).max().unwrap_or(0)
}

/// The witness who remembers more than the ledger knows, if there is one. Then
/// an older ledger was restored: what it would do next was done before.
#[must_use]
pub fn who_knows_more<'a>(snapshot: &'a Snapshot, ledger: &Ledger) -> Option<&'a Witness> {
    snapshot.witnesses.iter().find(|witness| {
        !ledger.knows(&witness.high_water)
            || witness.sequence.is_some_and(|sequence| sequence > ledger.rule.sequence)
    })
}

/// Why versions must have existed although there is no ledger.
#[must_use]
pub fn evidence(snapshot: &Snapshot) -> Option<String> {
    let witness = snapshot
        .witnesses
        .iter()
        .find(|witness| witness.high_water.version > 0)
        .or_else(|| snapshot.witnesses.first());
    if let Some(witness) = witness {
        return Some(match witness.high_water.version {
            0 => format!("{} holds its rule", witness.who),
            version => format!("{} names version {version}", witness.who),
        });
    }
    snapshot.pipelines.iter().find_map(|(pipeline, found)| {
        matches!(found, crate::snapshot::PipelineFound::OursUnknownKey)
            .then(|| format!("Secret {pipeline} holds a key of it"))
    })
}

/// The new version with which the ring goes on after a loss, once the user
/// has asked for it by naming the highest version that was given out.
pub(super) fn recover(snapshot: &Snapshot) -> Option<Change> {
    let base = match &snapshot.ledger {
        LedgerFound::Present(ledger) => Some(ledger),
        LedgerFound::Damaged { table, .. } => table.as_ref(),
        LedgerFound::Absent | LedgerFound::Foreign => None,
    };
    let after = last_version(snapshot);
    if snapshot.ring.recover_after != Some(after) || snapshot.ring.suspend {
        return None;
    }
    let mut rule = base.map_or_else(|| place::first(snapshot), |b| b.rule.settings.clone());
    let carrying: Vec<PolicyRef> = carrying(snapshot).collect();
    if base.is_none()
        && let Some(policy) = carrying.first()
    {
        rule.policy = *policy;
        rule.leaving = carrying.get(1).copied();
    }
    let in_force: BTreeSet<&String> = keys_in_force(snapshot).collect();
    let known = snapshot.reported.versions.iter().cloned().map(|mut version| {
        // The status is a report. What it says is accepted counts only where a
        // policy says so too.
        if version.state != State::Revoked && !in_force.contains(&version.public_key) {
            version.state = State::Retired;
            // One that never signed is in no window, however wide.
            version.activated_at = None;
        }
        version.private_key = None;
        version
    });
    let reported = snapshot.reported.versions.iter().filter(|v| v.state == State::Revoked);
    let mut revoked = high_water(snapshot).revoked;
    revoked.extend(reported.map(|v| short(v.fingerprint.as_str())));
    Some(Change::Recover(Recovery {
        version: mint::free_number(snapshot, after),
        token: mint::token(snapshot).map(crate::ledger::token_hash),
        rule,
        known: known.collect(),
        revoked,
        publications: snapshot.reported.published.clone(),
        above: highest_sequence(snapshot),
        keep: snapshot.ring.keep,
    }))
}

/// The highest version that was given out, as far as anybody remembers.
#[must_use]
pub fn last_version(snapshot: &Snapshot) -> u32 {
    let table = match &snapshot.ledger {
        LedgerFound::Present(ledger) => Some(ledger),
        LedgerFound::Damaged { table, .. } => table.as_ref(),
        LedgerFound::Absent | LedgerFound::Foreign => None,
    };
    let known = table.and_then(Ledger::newest).map_or(0, |v| v.number);
    high_water(snapshot).version.max(known)
}

/// The policies that hold a rule of the ring.
pub(super) fn carrying(snapshot: &Snapshot) -> impl Iterator<Item = PolicyRef> {
    snapshot.policies.iter().filter_map(|(policy, found)| {
        matches!(found, PolicyFound::Ours { mark: Some(_), .. }).then_some(*policy)
    })
}

fn keys_in_force(snapshot: &Snapshot) -> impl Iterator<Item = &String> {
    snapshot.policies.values().flat_map(|found| match found {
        PolicyFound::Ours { keys, .. } => keys.iter().collect(),
        _ => Vec::new(),
    })
}
