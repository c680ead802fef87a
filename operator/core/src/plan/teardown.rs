//! Deleting a ring: rule out of the policies and acknowledged, pipeline
//! Secrets, ledger, finalizer.

use super::{Action, publish};
use crate::{
    facts::{Facts, carrying, highest_sequence},
    ledger::{Change, Leaving, Ledger, RuleSettings},
    policy_ref::PolicyKind,
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
            leaving: carrying.next().map(Leaving::beginning),
            ..RuleSettings::of(policy)
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
/// Where the kind is not served, nothing does, and where Kyverno is too old for it, nobody
/// answers.
fn rule_in_force(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> bool {
    let in_force = || {
        let policies = ledger.rule.settings.policies();
        let served = policies.filter(|policy| snapshot.serves(*policy));
        let mut seen = served.filter_map(|policy| Some((policy, snapshot.policies.get(&policy)?)));
        seen.any(|(policy, seen)| {
            let is_asked = snapshot.executes(policy.kind());
            is_in_force(policy.kind(), seen, is_asked)
        })
    };
    let left_behind = facts.left_behind.filter(|policy| snapshot.serves(*policy));
    in_force() || left_behind.is_some()
}

/// A policy that is gone holds nothing; neither does a gate that is open.
fn is_in_force(kind: PolicyKind, seen: &AskedPolicy, is_asked: bool) -> bool {
    match &seen.found {
        PolicyFound::Ours { mark: Some(_), .. } => true,
        PolicyFound::Ours { mark: None, .. } if !is_asked => false,
        PolicyFound::Ours { mark: None, .. } => match &seen.answer {
            Answer::Answered { mark, .. } => mark.is_some(),
            answer => !answer.is_open(kind),
        },
        PolicyFound::Foreign | PolicyFound::Absent { .. } => false,
    }
}
