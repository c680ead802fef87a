//! Whether Kyverno enforces what the ledger says.

use std::time::Duration;

use super::witness;
use crate::{
    ledger::Ledger,
    marks::RuleState,
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::{Answer, Covered, Difference, PolicyFound, Silence, Snapshot},
};

/// How long Kyverno may answer with an older key set, or not at all although
/// nothing says that it does not verify, before that is reported.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Whether Kyverno enforces the ring's present key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement<'a> {
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
        failure: Option<&'a str>,
    },
    /// The cluster does not serve this kind of policy, or has a Kyverno that is too old
    /// for it.
    KyvernoMissing(PolicyKind),
    /// An object with the policy's name is not ours.
    Conflict(PolicyRef),
    /// The policy does not hold what it should and cannot be written.
    Differs {
        /// The policy.
        policy: PolicyRef,
        /// How, for this ring.
        difference: Difference,
        /// Why it cannot be written.
        failure: &'a str,
    },
    /// Kyverno refused the policy, in these words.
    Rejected(PolicyRef, &'a str),
    /// The policy does not exist, and this is why it could not be created.
    PolicyMissing(PolicyRef, Option<&'a str>),
    /// No policy holds a rule of the ring.
    NoRule,
    /// Pods pass without having been verified.
    Open(PolicyRef),
    /// Kyverno cannot be asked, because the cluster does not serve the kind of
    /// the questions, for all that is known.
    Unaskable {
        /// The policy.
        policy: PolicyRef,
        /// Why that is not known.
        why: &'a str,
        /// Whether the policy exists.
        exists: bool,
    },
    /// The question passed without an answer, for this long.
    Silent(PolicyRef, &'a Silence, Duration),
    /// Kyverno did not answer in the time that its webhook has, for this long.
    Slow(PolicyRef, &'a str, Duration),
    /// Kyverno does not answer: pods are refused.
    Unreachable(PolicyRef, &'a str),
    /// Something else answered.
    Unreadable(PolicyRef, &'a str),
}

/// What is said of a ledger by the policy that it names, by the one that its
/// rule is moving away from, and the worse of the two.
pub(super) fn of<'a>(
    snapshot: &'a Snapshot,
    ledger: &Ledger,
) -> (Enforcement<'a>, Option<Enforcement<'a>>, Enforcement<'a>) {
    let wanted = ledger.rule_state();
    let settings = &ledger.rule.settings;
    let here = of_policy(snapshot, &wanted, settings.policy, true);
    let there = settings.leaving.map(|left| of_policy(snapshot, &wanted, left.policy, true));
    let both = match there {
        // What is not served holds up nobody who leaves it.
        Some(Enforcement::KyvernoMissing(_)) | None => here,
        Some(there) => worse(here, there),
    };
    (here, there, both)
}

/// What the policies that hold a rule of the ring say, and the gate of each:
/// all that is known of a ring whose ledger was lost.
pub(super) fn of_what_is_left(snapshot: &Snapshot) -> Enforcement<'_> {
    if snapshot.served.is_empty() {
        return Enforcement::KyvernoMissing(snapshot.ring.kind);
    }
    let rules = snapshot.policies.iter().filter_map(|(policy, seen)| match &seen.found {
        PolicyFound::Ours { mark: Some(mark), .. } => {
            Some(of_policy(snapshot, &mark.state, *policy, false))
        }
        _ => None,
    });
    let (missing, rules): (Vec<_>, Vec<_>) =
        rules.partition(|said| matches!(said, Enforcement::KyvernoMissing(_)));
    let rule = rules.into_iter().reduce(worse);
    rule.or_else(|| missing.into_iter().next()).unwrap_or(Enforcement::NoRule)
}

pub(super) fn left_behind(snapshot: &Snapshot, ledger: &Ledger) -> Option<PolicyRef> {
    let named = |policy| ledger.rule.settings.policies().any(|named| named == policy);
    witness::carrying(snapshot).find(|policy| !named(*policy))
}

/// Where the kind is not served, nothing covers anything, and where Kyverno is too old for
/// it, what names the ring. What is not certain
/// counts for a ring that has just come: one that signs was let go of before,
/// and is not to wait whenever another namespace's label changes.
pub(super) fn covered(
    snapshot: &Snapshot,
    ledger: Option<&Ledger>,
) -> Option<(PolicyRef, Covered)> {
    let signs = ledger.is_some_and(|ledger| ledger.current().is_some());
    let covers = snapshot.covers.iter().filter(|(policy, _)| snapshot.serves(**policy));
    let mut covers = covers.filter_map(|(policy, seen)| Some((*policy, seen.covers()?)));
    covers.find(|(_, covered)| !signs || *covered == Covered::Named)
}

fn worse<'a>(a: Enforcement<'a>, b: Enforcement<'a>) -> Enforcement<'a> {
    use Enforcement::{Acknowledged, Behind, NotAsked};
    match (a, b) {
        (Acknowledged(a), Acknowledged(b)) => Acknowledged(a.min(b)),
        (Acknowledged(_), other) | (other, Acknowledged(_)) => other,
        (NotAsked | Behind { .. }, other) => other,
        (other, _) => other,
    }
}

/// What one policy and its gate say of a state. Where a ledger calls for it, the
/// whole rule has to be there: without its hash a mark stands for the keys alone.
fn of_policy<'a>(
    snapshot: &'a Snapshot,
    wanted: &RuleState,
    policy: PolicyRef,
    whole: bool,
) -> Enforcement<'a> {
    if !snapshot.executes(policy.kind()) {
        return Enforcement::KyvernoMissing(policy.kind());
    }
    let Some(seen) = snapshot.policies.get(&policy) else {
        return Enforcement::PolicyMissing(policy, None);
    };
    let questions_missing =
        snapshot.questions_missing.as_deref().filter(|_| policy.kind().has_question_kind());
    if seen.found == PolicyFound::Foreign {
        return Enforcement::Conflict(policy);
    }
    if let Answer::Unreachable(text) = &seen.answer {
        return Enforcement::Unreachable(policy, text);
    }
    let is_open = seen.answer.is_open(policy.kind());
    let failure = match &seen.found {
        PolicyFound::Absent { failure } => {
            if let (None, Some(why)) = (failure, questions_missing) {
                return Enforcement::Unaskable { policy, why, exists: false };
            }
            let text = failure.as_ref().map(|failure| failure.message.as_str());
            return Enforcement::PolicyMissing(policy, text);
        }
        PolicyFound::Ours { failure: Some(failure), differs: None, .. }
            if failure.refused && !is_open =>
        {
            return Enforcement::Rejected(policy, &failure.message);
        }
        PolicyFound::Ours { failure: Some(failure), differs: Some(difference), .. } if !is_open => {
            let (difference, failure) = (*difference, failure.message.as_str());
            return Enforcement::Differs { policy, difference, failure };
        }
        PolicyFound::Ours { failure, .. } => failure.as_ref(),
        PolicyFound::Foreign => None,
    };
    if let Some(why) = questions_missing {
        return Enforcement::Unaskable { policy, why, exists: true };
    }
    match &seen.answer {
        _ if is_open => Enforcement::Open(policy),
        Answer::NotAsked => Enforcement::NotAsked,
        Answer::Silent(silence, held) => Enforcement::Silent(policy, silence, *held),
        Answer::Open(held) => Enforcement::Silent(policy, &Silence::NoWebhook, *held),
        Answer::Slow(text, held) => Enforcement::Slow(policy, text, *held),
        Answer::Unreachable(text) => Enforcement::Unreachable(policy, text),
        Answer::Unreadable(text) => Enforcement::Unreadable(policy, text),
        Answer::Answered { mark, held, .. } => match mark {
            Some(mark) if mark.state == *wanted && (!whole || !mark.rule.is_empty()) => {
                Enforcement::Acknowledged(*held)
            }
            _ => {
                let failure = failure.map(|failure| failure.message.as_str());
                Enforcement::Behind { policy, held: *held, failure }
            }
        },
    }
}
