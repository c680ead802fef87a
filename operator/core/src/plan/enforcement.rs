//! Whether Kyverno enforces what the ledger says: decided once, used by every
//! step and by the report.

use std::time::Duration;

use super::witness;
use crate::{
    ledger::Ledger,
    marks::Mark,
    policy_ref::PolicyRef,
    snapshot::{Answer, PolicyFound, Snapshot},
};

/// Whether Kyverno enforces the ring's present key set, in every policy that
/// holds its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It does, for this long.
    Acknowledged(Duration),
    /// It was not asked yet.
    NotAsked,
    /// It still answers with another key set.
    Behind {
        /// The policy.
        policy: PolicyRef,
        /// For how long, since that changed.
        held: Duration,
        /// Why the policy could not be written, if it could not.
        failure: Option<String>,
    },
    /// The cluster does not serve ClusterPolicy.
    KyvernoMissing,
    /// An object with the policy's name is not ours.
    Conflict(PolicyRef),
    /// Kyverno refused the policy, in these words.
    Rejected(PolicyRef, String),
    /// The policy does not exist, and this is why it could not be created.
    PolicyMissing(PolicyRef, Option<String>),
    /// No policy holds a rule of a ring whose ledger was lost.
    NoRule,
    /// Pods pass without having been verified.
    Open(PolicyRef),
    /// Kyverno does not answer: pods are refused.
    Mute(PolicyRef, String),
    /// Something else answered.
    Unreadable(PolicyRef, String),
}

/// What the policies and the gate say of this ledger: the worst of its policies.
#[must_use]
pub fn of(snapshot: &Snapshot, ledger: &Ledger) -> Enforcement {
    if !snapshot.kyverno_served {
        return Enforcement::KyvernoMissing;
    }
    let wanted = ledger.mark();
    ledger
        .rule
        .settings
        .policies()
        .map(|policy| of_policy(snapshot, &wanted, policy))
        .reduce(worse)
        .unwrap_or(Enforcement::NotAsked)
}

/// What the policies that hold a rule of the ring say, and the gate of each:
/// all that is known of a ring whose ledger was lost.
#[must_use]
pub fn of_what_is_left(snapshot: &Snapshot) -> Enforcement {
    if !snapshot.kyverno_served {
        return Enforcement::KyvernoMissing;
    }
    let rules = snapshot.policies.iter().filter_map(|(policy, found)| match found {
        PolicyFound::Ours { mark: Some(mark), .. } => Some(of_policy(snapshot, mark, *policy)),
        _ => None,
    });
    rules.reduce(worse).unwrap_or(Enforcement::NoRule)
}

/// Whether one policy is acknowledged with the ledger's present key set.
#[must_use]
pub fn acknowledged_by(snapshot: &Snapshot, ledger: &Ledger, policy: PolicyRef) -> bool {
    let enforcement = of_policy(snapshot, &ledger.mark(), policy);
    matches!(enforcement, Enforcement::Acknowledged(_))
}

/// A policy that the ring has left and that still holds its rule. That rule
/// knows no newer key, and would refuse what one signs.
#[must_use]
pub fn left_behind(snapshot: &Snapshot, ledger: &Ledger) -> Option<PolicyRef> {
    let named = |policy| ledger.rule.settings.policies().any(|named| named == policy);
    witness::carrying(snapshot).find(|policy| !named(*policy))
}

fn worse(a: Enforcement, b: Enforcement) -> Enforcement {
    use Enforcement::{Acknowledged, Behind, NotAsked};
    match (a, b) {
        (Acknowledged(a), Acknowledged(b)) => Acknowledged(a.min(b)),
        (Acknowledged(_), other) | (other, Acknowledged(_)) => other,
        (NotAsked | Behind { .. }, other) => other,
        (other, _) => other,
    }
}

/// What one policy and its gate say of a mark.
pub(super) fn of_policy(snapshot: &Snapshot, wanted: &Mark, policy: PolicyRef) -> Enforcement {
    let found = snapshot.policies.get(&policy);
    if found == Some(&PolicyFound::Foreign) {
        return Enforcement::Conflict(policy);
    }
    let answer = snapshot.gate.get(&policy).unwrap_or(&Answer::NotAsked);
    if let Answer::Mute(text) = answer {
        return Enforcement::Mute(policy, text.clone());
    }
    match found {
        None => return Enforcement::PolicyMissing(policy, None),
        Some(PolicyFound::Absent { failure }) => {
            let text = failure.as_ref().map(|f| f.message.clone());
            return Enforcement::PolicyMissing(policy, text);
        }
        Some(PolicyFound::Ours { failure: Some(failure), .. }) if failure.refused => {
            return Enforcement::Rejected(policy, failure.message.clone());
        }
        Some(_) => {}
    }
    match answer {
        Answer::NotAsked => Enforcement::NotAsked,
        Answer::Mute(text) => Enforcement::Mute(policy, text.clone()),
        Answer::Open => Enforcement::Open(policy),
        Answer::Unreadable(text) => Enforcement::Unreadable(policy, text.clone()),
        Answer::Answered { mark, held } => match mark {
            Some(mark) if mark == wanted => Enforcement::Acknowledged(*held),
            _ => Enforcement::Behind { policy, held: *held, failure: failed(found) },
        },
    }
}

fn failed(found: Option<&PolicyFound>) -> Option<String> {
    match found {
        Some(PolicyFound::Ours { failure: Some(failure), .. }) => Some(failure.message.clone()),
        _ => None,
    }
}
