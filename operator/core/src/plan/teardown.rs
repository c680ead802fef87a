//! Deleting a ring: rule out of the policies and acknowledged, pipeline
//! Secrets, ledger, finalizer.

use super::{Action, publish};
use crate::{
    ledger::{Change, Ledger, RuleSettings},
    report::Stage,
    snapshot::{Answer, PolicyFound, Snapshot},
};

/// Whether the deletion has to wait because namespaces are still enrolled.
pub(super) fn blocked(snapshot: &Snapshot) -> bool {
    !snapshot.enrolled.is_empty() && !snapshot.ring.allow_unenforced
}

/// The commit that lets the ring's rule leave the policies.
pub(super) fn remove(ledger: &Ledger) -> Action {
    Action::Commit(Change::Remove(ledger.rule.settings.clone()))
}

/// A ring that is deleted and has no ledger: either all is done, or the
/// ledger was lost and its rule is still in a policy. A rule leaves only when
/// a ledger says so, so then one is written that says nothing else.
pub(super) fn without_ledger(snapshot: &Snapshot) -> (Vec<Action>, Stage) {
    let mut carrying = snapshot.policies.iter().filter_map(|(name, found)| match found {
        PolicyFound::Ours { mark: Some(_), .. } => Some(name.clone()),
        _ => None,
    });
    let Some(policy) = carrying.next() else {
        let actions = if snapshot.ring.finalizer { vec![Action::RemoveFinalizer] } else { vec![] };
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
    (vec![Action::Commit(Change::Remove(settings))], Stage::Deleting)
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
        actions.push(Action::DeleteLedger);
    }
    (actions, Stage::Deleting)
}

/// Whether a policy still holds the rule, or Kyverno still answers with it.
/// A policy that is gone holds nothing; neither does a kind that is not
/// served, nor a gate that is open.
pub(super) fn rule_in_force(snapshot: &Snapshot, ledger: &Ledger) -> bool {
    snapshot.kyverno_served
        && ledger.rule.settings.policies().any(|policy| match snapshot.policies.get(policy) {
            Some(PolicyFound::Ours { mark: Some(_), .. }) => true,
            Some(PolicyFound::Ours { mark: None, .. }) => match snapshot.gate.get(policy) {
                Some(Answer::Answered { mark, .. }) => mark.is_some(),
                Some(Answer::Open) => false,
                Some(Answer::NotAsked | Answer::Mute(_) | Answer::Unreadable(_)) | None => true,
            },
            Some(PolicyFound::Foreign | PolicyFound::Absent { .. }) | None => false,
        })
}
