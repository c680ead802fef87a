//! Deleting a ring: rule out of the policies and acknowledged, pipeline
//! Secrets, ledger, finalizer.

use super::{Action, publish};
use crate::{
    facts::{Facts, carrying, highest_sequence},
    ledger::{Change, Ledger, RuleSettings},
    snapshot::{Answer, AskedPolicy, LedgerFound, PolicyFound, Snapshot},
};

/// The next steps towards the ring's end. It does not matter any more whether
/// its ledger is an old one.
pub(super) fn steps(snapshot: &Snapshot, facts: &Facts<'_>) -> Vec<Action> {
    match (facts.ledger, facts.table) {
        (Some(ledger), _) if ledger.removed => tear_down(snapshot, facts, ledger),
        (_, Some(table)) => vec![remove(snapshot, table.rule.settings.clone())],
        (_, None) => without_ledger(snapshot),
    }
}

/// The commit that lets the ring's rule leave the policies.
fn remove(snapshot: &Snapshot, rule: RuleSettings) -> Action {
    Action::Commit(Change::Remove { rule, above: highest_sequence(snapshot) })
}

/// A ring that has no ledger, or one that says nothing: either all is done, or
/// the ledger was lost and its rule is still in a policy. A rule leaves only
/// when a ledger says so, so then one is written that says nothing else.
fn without_ledger(snapshot: &Snapshot) -> Vec<Action> {
    let mut carrying = carrying(snapshot);
    if let Some(policy) = carrying.next() {
        let settings = RuleSettings {
            action: snapshot.ring.action,
            exclude: Vec::new(),
            policy,
            leaving: carrying.next(),
        };
        return vec![remove(snapshot, settings)];
    }
    let mut actions: Vec<Action> =
        snapshot.key_secrets.keys().cloned().map(Action::DeleteKeySecret).collect();
    if matches!(snapshot.ledger, LedgerFound::Damaged(_)) {
        actions.push(Action::DeleteLedger);
    }
    if snapshot.ring.finalizer {
        actions.push(Action::RemoveFinalizer);
    }
    actions
}

/// Goes on once the ledger says that the ring was removed.
fn tear_down(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Vec<Action> {
    // A rule above the ledger is kept, so what somebody raises is outdone.
    if highest_sequence(snapshot) > ledger.rule.sequence {
        return vec![remove(snapshot, ledger.rule.settings.clone())];
    }
    if rule_in_force(snapshot, facts, ledger) {
        return Vec::new();
    }
    let (mut actions, strike) = publish::unpublish(snapshot, ledger, |_| true);
    if !strike.is_empty() {
        let add = Default::default();
        actions.push(Action::Commit(Change::Publications { add, strike }));
    } else if ledger.publications.is_empty() {
        actions.extend(snapshot.key_secrets.keys().cloned().map(Action::DeleteKeySecret));
        actions.push(Action::DeleteLedger);
    }
    actions
}

/// Whether a policy still holds the rule, or Kyverno still answers with it.
/// Where the kind is not served, nothing does.
fn rule_in_force(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> bool {
    let in_force = || {
        let policies = ledger.rule.settings.policies();
        policies.filter_map(|policy| snapshot.policies.get(&policy)).any(is_in_force)
    };
    snapshot.kyverno_served && (in_force() || facts.left_behind.is_some())
}

/// A policy that is gone holds nothing; neither does a gate that is open.
fn is_in_force(seen: &AskedPolicy) -> bool {
    match &seen.found {
        PolicyFound::Ours { mark: Some(_), .. } => true,
        PolicyFound::Ours { mark: None, .. } => match &seen.answer {
            Answer::Answered { mark, .. } => mark.is_some(),
            Answer::Open => false,
            Answer::NotAsked
            | Answer::Silent(..)
            | Answer::Unreachable(_)
            | Answer::Unreadable(_) => true,
        },
        PolicyFound::Foreign | PolicyFound::Absent { .. } => false,
    }
}
