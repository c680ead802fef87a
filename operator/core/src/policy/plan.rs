//! From what was seen of a policy to what becomes of it.
//!
//! A revoked key leaves what stands there before anything else is tried:
//! `urgent-first`. After that a rule is rendered from its ring's ledger where
//! that can be relied on. Where it cannot, or is older than what the policy
//! holds, the rule stays as it stands, less the keys for which nobody answers:
//! `closed-not-open` and `known-keys-only`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    content::{Backend, Content, ContentRule, Source},
    expiry::{expired, next_expiry},
    kept::{enforceable, kept},
    known::Known,
    refusal::{REFUSED_FOR, hold_back},
    snapshot::{ObjectSeen, Origin, PolicySnapshot},
    urgent::without_revoked,
};
use crate::{fingerprint::Fingerprint, ledger::Exclusion};

/// What is to become of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a plan that is not executed changes nothing"]
pub struct PolicyPlan {
    /// The write, if there is one.
    pub step: Step,
    /// The rules that stay in force although no ledger calls for them.
    pub kept: Vec<Kept>,
    /// The rings whose refusal does not count any more: they want another rule
    /// by now, or it was so long ago that theirs is tried again.
    pub outdated_refusals: Vec<String>,
    /// The size of the policy if nothing is refused, see [`Backend::size`].
    pub bytes: Option<usize>,
    /// When to look again although nothing changes.
    pub requeue_after: Option<Duration>,
}

/// What to do with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its kind is not served, Kyverno is too old for it, the kind of the gate's questions
    /// is not served, or the watch is behind this process; each wakes the policy again.
    Wait,
    /// The ledgers and objects of these rings have to be read anew: their rules
    /// hold keys that no ledger and no status known so far accepts.
    ReadAnew(BTreeSet<String>),
    /// An object of its name is not ours.
    Conflict,
    /// Every rule that should be in it was refused.
    AllRefused,
    /// It holds what it should.
    UpToDate(Content),
    /// Create or replace it.
    Write(Write),
    /// No ring is left in it.
    Delete,
}

/// A write, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What the policy is to hold.
    pub content: Content,
    /// Whether somebody else had edited or deleted what this process wrote.
    pub drifted: bool,
    /// Exclusions that counted until now.
    pub expired: Vec<(Origin, Exclusion)>,
    /// If it does no more than take revoked keys out of what stands there: the
    /// rules that the policy is to hold.
    pub urgent_for: Option<BTreeMap<String, ContentRule>>,
}

impl Write {
    /// If it only takes revoked keys out: all that the policy is to hold. It may
    /// be taken where what stands there, less a key, is refused for the rest.
    #[must_use]
    pub fn beyond_urgent(&self, backend: &impl Backend) -> Option<Self> {
        let content = Content::of(backend, self.urgent_for.clone()?);
        Some(Self { content, urgent_for: None, ..self.clone() })
    }
}

/// A rule that stays in force although no ledger calls for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose rule it is.
    pub ring: String,
    /// Why it stays.
    pub why: KeptBecause,
    /// The keys in it for which nobody answers, where nobody can be asked: each
    /// by its fingerprint.
    pub unvouched: Vec<String>,
}

/// Why a rule stays in force although nobody answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeptBecause {
    /// The ring's object was taken away by force.
    RingGone,
    /// The ring's ledger says nothing, or less than the policy.
    LedgerUnknown,
}

impl KeptBecause {
    /// In a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingGone => "its SigningKeyRing is gone without having been torn down",
            Self::LedgerUnknown => "its ledger cannot be read or is older",
        }
    }
}

/// Plans one pass over a policy.
pub fn plan_policy(snapshot: &PolicySnapshot, backend: &impl Backend) -> PolicyPlan {
    let is_ahead = snapshot.written.as_ref().is_some_and(|written| written.is_ahead);
    let idle = |step| PolicyPlan {
        step,
        kept: Vec::new(),
        outdated_refusals: Vec::new(),
        bytes: None,
        requeue_after: None,
    };
    if !snapshot.served || is_ahead {
        return idle(Step::Wait);
    }
    if snapshot.found == ObjectSeen::Foreign {
        return idle(Step::Conflict);
    }
    let (rules, lost, doubtful) = rules(snapshot, backend);
    if !doubtful.is_empty() {
        return idle(Step::ReadAnew(doubtful));
    }
    if let Some(content) = without_revoked(snapshot, backend, &rules) {
        let drifted = snapshot.executed && is_drifted(snapshot);
        let expired = Vec::new();
        let urgent_for = Some(rules);
        return idle(Step::Write(Write { content, drifted, expired, urgent_for }));
    }
    let mut plan = PolicyPlan { kept: orphans(snapshot, lost), ..idle(Step::Delete) };
    if rules.is_empty() {
        return plan;
    }
    let mut content = Content::of(backend, rules);
    plan.bytes = Some(backend.size(&content));
    let held_back = hold_back(snapshot, backend, &mut content.rules, &mut plan.outdated_refusals);
    plan.requeue_after = if held_back { Some(REFUSED_FOR) } else { next_expiry(snapshot) };
    if content.rules.is_empty() {
        plan.step = Step::AllRefused;
        return plan;
    }
    if held_back {
        content = Content::of(backend, content.rules);
    }
    // What Kyverno loads now it could never be asked about, and what it was heard to
    // enforce stays. Somebody's edit is undone all the same, unless it may be an older CRD
    // that has dropped what it does not know, and what is not to count any more leaves.
    let is_undone = snapshot.executed && is_drifted(snapshot);
    let is_heard = snapshot.executed && snapshot.can_be_asked;
    plan.step = if holds(snapshot, &content) {
        Step::UpToDate(content)
    } else if !is_heard && !is_undone && !takes_out(snapshot, &content) {
        Step::Wait
    } else {
        Step::Write(Write {
            drifted: is_undone,
            expired: snapshot.ours().map(|found| expired(snapshot, found)).unwrap_or_default(),
            content,
            urgent_for: None,
        })
    };
    plan
}

/// What a policy is to hold if each rule is what its ledger calls for; the rules
/// that stay for want of one, with the keys for which nobody answers; and the
/// rings that have to be read anew before any of this is done.
type Rules = (BTreeMap<String, ContentRule>, Vec<(String, Vec<String>)>, BTreeSet<String>);

/// What is said of a key entry that is none.
const NO_KEY: &str = "an entry that is no P-256 key";

fn rules(snapshot: &PolicySnapshot, backend: &impl Backend) -> Rules {
    let nobody = backend.nobody();
    let mut doubtful = BTreeSet::new();
    let mut rules = kept(snapshot, backend, &mut doubtful);
    let lost = rules.iter().map(|(name, kept)| {
        let ring = snapshot.rings.get(name);
        let vouched = ring.is_some_and(|ring| !Known::of(ring, &kept.rule).is_nothing());
        let keys = kept.rule.keys().filter(|key| key.public_key != nobody.public_key);
        let mut seen = BTreeSet::new();
        let keys = keys.filter(|key| seen.insert(key.entry.digest));
        let keys = keys.map(|key| key.fingerprint.as_ref().map_or(NO_KEY, Fingerprint::as_str));
        let keys = keys.map(str::to_owned).collect();
        (name.clone(), if vouched { Vec::new() } else { keys })
    });
    let lost = lost.collect();
    for (name, ring, table) in snapshot.placed() {
        if table.removed || rules.contains_key(name) {
            continue;
        }
        let ledger = enforceable(snapshot, name, ring, table);
        let rule = backend.rule(name, &ledger);
        rules.insert(name.to_owned(), ContentRule { source: Source::Ledger(ledger), rule });
    }
    (rules, lost, doubtful)
}

/// Whether the policy holds what it is to hold. Where the API server makes
/// something else of it (a later Kyverno's defaults), what it made of our last
/// write counts, so that the two do not write against each other for ever.
fn holds(snapshot: &PolicySnapshot, content: &Content) -> bool {
    let Some(found) = snapshot.ours() else { return false };
    let wanted = content.whole.spec.digest;
    let made_of_it = || {
        let written = snapshot.written.as_ref();
        written.is_some_and(|w| w.sent == wanted && w.stored.spec == found.spec)
    };
    (found.spec == wanted || made_of_it()) && found.own_metadata == content.whole.own_metadata
}

/// Whether a ring's rules leave, or an exclusion that has expired.
fn takes_out(snapshot: &PolicySnapshot, content: &Content) -> bool {
    snapshot.ours().is_some_and(|found| {
        let leaves = |ring: &String| !content.rules.contains_key(ring);
        found.rules.keys().any(leaves) || !expired(snapshot, found).is_empty()
    })
}

/// Whether somebody else edited or deleted what this process wrote.
fn is_drifted(snapshot: &PolicySnapshot) -> bool {
    let Some(written) = &snapshot.written else { return false };
    snapshot.ours().is_none_or(|found| {
        found.spec != written.stored.spec || found.metadata != written.stored.metadata
    })
}

fn orphans(snapshot: &PolicySnapshot, lost: Vec<(String, Vec<String>)>) -> Vec<Kept> {
    let gone = snapshot.placed().filter(|(_, ring, table)| {
        let ended = ring.exists || ring.sound && table.removed;
        !ended
    });
    let gone = gone.map(|(name, ..)| Kept {
        ring: name.to_owned(),
        why: KeptBecause::RingGone,
        unvouched: Vec::new(),
    });
    let lost = lost.into_iter().map(|(ring, unvouched)| Kept {
        ring,
        why: KeptBecause::LedgerUnknown,
        unvouched,
    });
    gone.chain(lost).collect()
}
