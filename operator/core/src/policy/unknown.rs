//! The policy for namespaces whose label names no ring: whom it covers, and
//! whether to write, delete or leave it.
//!
//! A value leaves it only once Kyverno answers with the rule of the ring that
//! has come, so that nobody is open in between. It holds no key, so nothing of
//! it has to be remembered: whatever stands there is rendered anew.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{content::Whole, digest::Digest, expiry::time_left, packing::LARGEST_POLICY};
use crate::{ledger::Exclusion, marks::Mark, policy_ref::PolicyRef};

/// What a pass over such a policy has observed.
#[derive(Clone, Debug)]
pub struct UnknownSnapshot {
    /// Which policy.
    pub policy: PolicyRef,
    /// The policy that is to hold what happens to pods of such namespaces; nothing
    /// if they are to be left alone.
    pub asked: Option<PolicyRef>,
    /// Whether the cluster's API serves its kind.
    pub served: bool,
    /// Whether its Kyverno is not too old for it.
    pub executed: bool,
    /// Whether it serves the kind by which Kyverno is asked about a policy.
    pub can_be_asked: bool,
    /// The object.
    pub found: CoverObject,
    /// What this process last wrote of it.
    pub written: Option<CoverWritten>,
    /// The values that labels of namespaces have, and whom each names. One that names a ring
    /// and is not covered changes nothing, and may be left out.
    pub values: Vec<(String, Naming)>,
    /// The values that the policies of this kind cover, or were written by this
    /// process to cover.
    pub covered: BTreeSet<String>,
    /// What the policy of the action that is asked covers, once Kyverno answers
    /// with it.
    pub replacement: Option<BTreeSet<String>>,
    /// What the cluster's exclusion lists exclude.
    pub excluded: Vec<Exclusion>,
    /// The time of this pass.
    pub now: Timestamp,
}

/// Whom the value of a label names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// Nobody: there is no ring of that name, no ledger of one and no rule.
    Nobody,
    /// A ring with whose rule Kyverno does not answer yet.
    Arriving,
    /// A ring with whose rule Kyverno answers.
    Ruled,
}

/// The object as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoverObject {
    /// It does not exist.
    Absent,
    /// Not ours; it is left alone.
    Foreign,
    /// Ours.
    Ours(CoverHeld),
}

/// What such a policy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverHeld {
    /// Its whole `spec`.
    pub spec: Digest,
    /// Those of its labels and annotations that this operator writes.
    pub own_metadata: Digest,
    /// All its labels and annotations.
    pub metadata: Digest,
    /// What it says of itself.
    pub mark: Option<Mark>,
    /// The values that its rule selects.
    pub values: BTreeSet<String>,
}

/// What this process last wrote of such a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverWritten {
    /// The `spec` that was sent.
    pub sent: Digest,
    /// What the API server made of it.
    pub stored: CoverHeld,
    /// Whether the watch has yet to bring it.
    pub is_ahead: bool,
}

/// What a kind of policy makes of the values that it is to cover.
pub trait Covering {
    /// What the policy says of itself.
    fn cover_mark(&self, values: &BTreeSet<String>, sequence: u64) -> Mark;

    /// The object.
    fn cover_whole(&self, values: &BTreeSet<String>, mark: &Mark) -> Whole;
}

/// What such a policy is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverContent {
    /// The values that its rules select.
    pub values: BTreeSet<String>,
    /// What it says of itself.
    pub mark: Mark,
    /// The object that this makes up.
    pub whole: Whole,
}

/// What is to become of such a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a plan that is not executed changes nothing"]
pub struct UnknownPlan {
    /// The write, if there is one.
    pub step: UnknownStep,
    /// How many values there is no room for.
    pub left_out: usize,
    /// When to look again although nothing changes.
    pub requeue_after: Option<Duration>,
}

/// What to do with such a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownStep {
    /// Its kind is not served, Kyverno is too old for it, the kind of the gate's questions
    /// is not served, or the watch is behind this process; each wakes the policy again.
    Wait,
    /// An object of its name is not ours.
    Conflict,
    /// It is not needed and not there.
    Rest,
    /// It holds what it should.
    UpToDate(CoverContent),
    /// Create or replace it.
    Write {
        /// What it is to hold.
        content: CoverContent,
        /// Whether somebody else had edited or deleted what this process wrote.
        drifted: bool,
    },
    /// Nothing is left for it to cover.
    Delete,
}

/// Plans one pass over the policy.
pub fn plan_unknown(snapshot: &UnknownSnapshot, backend: &impl Covering) -> UnknownPlan {
    let idle = |step| UnknownPlan { step, left_out: 0, requeue_after: None };
    if !snapshot.served || snapshot.written.as_ref().is_some_and(|written| written.is_ahead) {
        return idle(UnknownStep::Wait);
    }
    let (values, left_out) = fitting(snapshot, backend);
    let found = match &snapshot.found {
        CoverObject::Foreign if is_asked(snapshot) && !values.is_empty() => {
            return idle(UnknownStep::Conflict);
        }
        CoverObject::Foreign => return idle(UnknownStep::Rest),
        CoverObject::Absent => None,
        CoverObject::Ours(held) => Some(held),
    };
    // One of an action that is not asked any more stays until the other is
    // there, and is not created.
    let stays = is_asked(snapshot) || found.is_some() && is_still_needed(snapshot, &values);
    if values.is_empty() || !stays {
        return idle(if found.is_some() { UnknownStep::Delete } else { UnknownStep::Rest });
    }
    let content = content(snapshot, backend, values);
    let written = snapshot.written.as_ref();
    let step = if found.is_some_and(|found| holds(found, written, &content)) {
        UnknownStep::UpToDate(content)
    } else {
        let is_as_written = |stored: &CoverHeld| {
            found.is_some_and(|f| f.spec == stored.spec && f.metadata == stored.metadata)
        };
        let drifted =
            snapshot.executed && written.is_some_and(|written| !is_as_written(&written.stored));
        let takes_out = found.is_some_and(|found| !found.values.is_subset(&content.values));
        let goes_in = snapshot.executed && snapshot.can_be_asked;
        if goes_in || drifted || !snapshot.executed && takes_out {
            UnknownStep::Write { content, drifted }
        } else {
            UnknownStep::Wait
        }
    };
    let expiries = snapshot.excluded.iter().filter(|exclusion| exclusion.counts(snapshot.now));
    let requeue_after = expiries.filter_map(|exclusion| time_left(exclusion, snapshot.now)).min();
    UnknownPlan { step, left_out, requeue_after }
}

fn is_asked(snapshot: &UnknownSnapshot) -> bool {
    snapshot.asked == Some(snapshot.policy)
}

fn is_still_needed(snapshot: &UnknownSnapshot, values: &BTreeSet<String>) -> bool {
    let replaced = snapshot.replacement.as_ref().is_some_and(|other| values.is_subset(other));
    snapshot.asked.is_some() && !replaced
}

/// The values that are to be covered and for which there is room, and how many
/// others there are. What is covered already comes first.
fn fitting(snapshot: &UnknownSnapshot, backend: &impl Covering) -> (BTreeSet<String>, usize) {
    let nothing = BTreeSet::new();
    let empty = backend.cover_whole(&nothing, &backend.cover_mark(&nothing, 0));
    let mut room = LARGEST_POLICY.saturating_sub(empty.spec.bytes);
    let wanted = snapshot.values.iter().filter(|(value, naming)| match naming {
        Naming::Nobody => true,
        Naming::Arriving => snapshot.covered.contains(value),
        Naming::Ruled => false,
    });
    let wanted = wanted.map(|(value, _)| value).filter(|value| is_label_value(value));
    let (covered, new): (BTreeSet<_>, BTreeSet<_>) =
        wanted.partition(|value| snapshot.covered.contains(*value));
    let (mut values, mut left_out) = (BTreeSet::new(), 0);
    for value in covered.into_iter().chain(new) {
        // Quotes and a comma, in six rules at most.
        let bytes = 6 * (value.len() + 3);
        if bytes <= room {
            room -= bytes;
            values.insert(value.clone());
        } else {
            left_out += 1;
        }
    }
    (values, left_out)
}

/// Whether the API server takes it in a selector.
fn is_label_value(value: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// The sequence moves when the values do: with their hash alone a set that came
/// back passed for answered on the strength of an old answer.
fn content(
    snapshot: &UnknownSnapshot,
    backend: &impl Covering,
    values: BTreeSet<String>,
) -> CoverContent {
    let stored = snapshot.written.iter().map(|written| &written.stored);
    let found = snapshot.ours().and_then(|found| found.mark.as_ref());
    let last = found.into_iter().chain(stored.filter_map(|stored| stored.mark.as_ref()));
    let last = last.map(|mark| mark.state.sequence).max().unwrap_or(0);
    let mark = backend.cover_mark(&values, last);
    let moved = found.is_none_or(|found| found.state != mark.state);
    let mark = if moved { backend.cover_mark(&values, last.saturating_add(1)) } else { mark };
    let whole = backend.cover_whole(&values, &mark);
    CoverContent { values, mark, whole }
}

/// Whether the policy holds what it is to hold, or what the API server made of
/// just that.
fn holds(found: &CoverHeld, written: Option<&CoverWritten>, content: &CoverContent) -> bool {
    let wanted = content.whole.spec.digest;
    let made_of_it = || written.is_some_and(|w| w.sent == wanted && w.stored.spec == found.spec);
    (found.spec == wanted || made_of_it()) && found.own_metadata == content.whole.own_metadata
}

impl UnknownSnapshot {
    /// The values that name nobody, so that what Kyverno is said to have noted in such
    /// namespaces of a policy that holds rings is forged.
    #[must_use]
    pub fn naming_nobody(&self) -> Vec<String> {
        let nobody = self.values.iter().filter(|(_, naming)| *naming == Naming::Nobody);
        let values = nobody.map(|(value, _)| value).filter(|value| is_label_value(value));
        let values: BTreeSet<&String> = values.collect();
        values.into_iter().cloned().collect()
    }

    /// The object, if it is ours.
    #[must_use]
    pub fn ours(&self) -> Option<&CoverHeld> {
        match &self.found {
            CoverObject::Ours(held) => Some(held),
            CoverObject::Absent | CoverObject::Foreign => None,
        }
    }
}
