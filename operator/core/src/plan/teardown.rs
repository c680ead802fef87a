//! Deleting a ring: rule out of the policies and acknowledged, pipeline
//! Secrets, ledger, finalizer.

use super::{Action, enforcement, publish, witness};
use crate::{
    ledger::{Change, Ledger, RuleSettings},
    report::Stage,
    snapshot::{Answer, LedgerFound, PolicyFound, Snapshot},
};

/// Whether the deletion has to wait because namespaces are still enrolled.
pub(super) fn blocked(snapshot: &Snapshot) -> bool {
    !snapshot.enrolled.is_empty() && !snapshot.ring.allow_unenforced
}

/// The commit that lets the ring's rule leave the policies, as soon as it may.
/// It does not matter any more whether the ledger is an old one.
pub(super) fn start(snapshot: &Snapshot, ledger: &Ledger) -> (Vec<Action>, Stage) {
    if blocked(snapshot) {
        return (Vec::new(), Stage::DeletionBlocked);
    }
    let rule = ledger.rule.settings.clone();
    (vec![remove(snapshot, rule)], Stage::Deleting)
}

fn remove(snapshot: &Snapshot, rule: RuleSettings) -> Action {
    Action::Commit(Change::Remove { rule, above: witness::highest_sequence(snapshot) })
}

/// A ring that is deleted and has no ledger, or one that says nothing: either
/// all is done, or the ledger was lost and its rule is still in a policy. A
/// rule leaves only when a ledger says so, so then one is written that says
/// nothing else.
pub(super) fn without_ledger(snapshot: &Snapshot) -> (Vec<Action>, Stage) {
    let mut carrying = witness::carrying(snapshot);
    let Some(policy) = carrying.next() else {
        let mut actions: Vec<Action> =
            snapshot.key_secrets.keys().cloned().map(Action::DeleteKeySecret).collect();
        if matches!(snapshot.ledger, LedgerFound::Damaged { .. }) {
            actions.push(Action::DeleteLedger);
        }
        if snapshot.ring.finalizer {
            actions.push(Action::RemoveFinalizer);
        }
        return (actions, Stage::Deleting);
    };
    if blocked(snapshot) {
        return (Vec::new(), Stage::DeletionBlocked);
    }
    let settings = RuleSettings {
        action: snapshot.ring.action,
        exclude: Vec::new(),
        policy,
        leaving: carrying.next(),
    };
    (vec![remove(snapshot, settings)], Stage::Deleting)
}

/// Goes on once the ledger says that the ring was removed.
pub(super) fn tear_down(snapshot: &Snapshot, ledger: &Ledger) -> (Vec<Action>, Stage) {
    if rule_in_force(snapshot, ledger) {
        return (Vec::new(), Stage::Deleting);
    }
    let (mut actions, strike) = publish::unpublish(snapshot, ledger, |_| true);
    if !strike.is_empty() {
        let add = Default::default();
        actions.push(Action::Commit(Change::Publications { add, strike }));
    } else if ledger.publications.is_empty() {
        actions.extend(snapshot.key_secrets.keys().cloned().map(Action::DeleteKeySecret));
        actions.push(Action::DeleteLedger);
    }
    (actions, Stage::Deleting)
}

/// Whether a policy still holds the rule, or Kyverno still answers with it.
/// A policy that is gone holds nothing; neither does a kind that is not
/// served, nor a gate that is open.
pub(super) fn rule_in_force(snapshot: &Snapshot, ledger: &Ledger) -> bool {
    let in_force = || {
        ledger.rule.settings.policies().any(|policy| match snapshot.policies.get(&policy) {
            Some(PolicyFound::Ours { mark: Some(_), .. }) => true,
            Some(PolicyFound::Ours { mark: None, .. }) => match snapshot.gate.get(&policy) {
                Some(Answer::Answered { mark, .. }) => mark.is_some(),
                Some(Answer::Open) => false,
                Some(Answer::NotAsked | Answer::Mute(_) | Answer::Unreadable(_)) | None => true,
            },
            Some(PolicyFound::Foreign | PolicyFound::Absent { .. }) | None => false,
        })
    };
    snapshot.kyverno_served && (in_force() || enforcement::left_behind(snapshot, ledger).is_some())
}
