//! From what was seen of a policy to what becomes of it.
//!
//! A rule is rendered from its ring's ledger where that can be relied on. Where
//! it cannot, or is older than what the policy holds, the rule stays as it
//! stands, less the keys that the ring's object revokes: `closed-not-open` and
//! `revoked-stays-revoked`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    content::{Backend, Content, ContentRule, Source},
    expiry::{expired, next_expiry},
    refusal::{REFUSED_FOR, hold_back},
    snapshot::{KeySeen, ObjectSeen, Origin, PolicySnapshot, RingSeen},
};
use crate::{
    high_water,
    ledger::{Exclusion, Ledger},
    snapshot::Revoked,
};

/// What is to become of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a plan that is not executed changes nothing"]
pub struct PolicyPlan {
    /// The write, if there is one.
    pub step: Step,
    /// The rules that stay in force although nobody answers for them, and why.
    pub kept: Vec<(String, KeptBecause)>,
    /// The rings whose refusal does not count any more: they want another rule
    /// by now, or it was so long ago that theirs is tried again.
    pub outdated_refusals: Vec<String>,
    /// The bytes of the policy if nothing is refused.
    pub bytes: Option<usize>,
    /// When to look again although nothing changes.
    pub requeue_after: Option<Duration>,
}

/// What to do with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its kind is not served, or the watch is behind this process; either
    /// wakes the policy again.
    Wait,
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
    let (rules, lost) = rules(snapshot, backend);
    let mut plan = PolicyPlan { kept: orphans(snapshot, lost), ..idle(Step::Delete) };
    if rules.is_empty() {
        return plan;
    }
    let mut content = Content::of(backend, rules);
    plan.bytes = Some(content.whole.spec.bytes);
    let held_back = hold_back(snapshot, backend, &mut content.rules, &mut plan.outdated_refusals);
    plan.requeue_after = if held_back { Some(REFUSED_FOR) } else { next_expiry(snapshot) };
    if content.rules.is_empty() {
        plan.step = Step::AllRefused;
        return plan;
    }
    if held_back {
        content = Content::of(backend, content.rules);
    }
    plan.step = if holds(snapshot, &content) {
        Step::UpToDate(content)
    } else {
        Step::Write(Write {
            drifted: is_drifted(snapshot),
            expired: snapshot.ours().map(|found| expired(snapshot, found)).unwrap_or_default(),
            content,
        })
    };
    plan
}

/// What a policy is to hold if each rule is what its ledger calls for, and the
/// rings whose rules stay for want of one.
fn rules(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
) -> (BTreeMap<String, ContentRule>, Vec<String>) {
    let mut rules = kept(snapshot, &backend.nobody());
    let lost = rules.keys().cloned().collect();
    for (name, ring, table) in snapshot.placed() {
        if table.removed || rules.contains_key(name) {
            continue;
        }
        let ledger = enforceable(ring, table);
        let rule = backend.rule(name, &ledger);
        rules.insert(name.to_owned(), ContentRule { source: Source::Ledger(ledger), rule });
    }
    (rules, lost)
}

/// The rules that are not rendered, because their ring's ledger is gone, cannot
/// be read, or is older than the one that wrote them. They stay word for word,
/// less the keys that the ring's object revokes. If somebody edited or deleted
/// the policy, what this process last wrote counts, whatever mark stands there
/// now, but for rings that another replica has taken down since.
fn kept(snapshot: &PolicySnapshot, nobody: &KeySeen) -> BTreeMap<String, ContentRule> {
    let mut kept = BTreeMap::new();
    let found = snapshot.ours().map(|found| (Source::Found, found));
    let written = snapshot.written.as_ref().map(|written| (Source::Written, &written.stored));
    for (source, policy) in found.into_iter().chain(written) {
        for (name, rule) in &policy.rules {
            let ring = snapshot.rings.get(name);
            let table = ring.and_then(|ring| ring.table.as_deref());
            if table.is_some_and(|table| table.rule.sequence >= rule.mark.sequence) {
                continue;
            }
            if source == Source::Written && ring.is_some_and(|ring| ring.was_removed) {
                continue;
            }
            let revoked = ring.map_or(&[][..], |ring| &ring.revoked);
            let accepts = |key: &KeySeen| {
                key.public_key.is_some() && !revoked.iter().any(|r| names_key(r, key, table))
            };
            let rule = rule.clone().narrowed(nobody, accepts);
            kept.insert(name.clone(), ContentRule { source: source.clone(), rule });
        }
    }
    kept
}

/// Whether a revocation names a public key. One by number does if the table says
/// which key that number has.
fn names_key(revoked: &Revoked, key: &KeySeen, table: Option<&Ledger>) -> bool {
    let mut rows = table.into_iter().flat_map(|table| &table.versions);
    match revoked {
        Revoked::Fingerprint(named) => key.fingerprint.as_ref() == Some(named),
        Revoked::Unreadable(_) => false,
        Revoked::Version(_) => {
            rows.any(|row| key.public_key.as_ref() == Some(&row.public_key) && revoked.names(row))
        }
    }
}

/// The ledger without versions that its ring's object calls revoked. An older
/// ledger may not know of a revocation that the object remembers, and that of a
/// stalled ring is not changed when the object's spec revokes a version.
fn enforceable(ring: &RingSeen, table: &Arc<Ledger>) -> Arc<Ledger> {
    if ring.sound && table.knows(&ring.remembered) {
        return Arc::clone(table);
    }
    let named = table.versions.iter().filter(|v| ring.revoked.iter().any(|r| r.names(v)));
    let mut revoked = ring.remembered.revoked.clone();
    revoked.extend(named.map(|v| high_water::short(v.fingerprint.as_str())));
    Arc::new(table.without(&revoked))
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

/// Whether somebody else edited or deleted what this process wrote.
fn is_drifted(snapshot: &PolicySnapshot) -> bool {
    let Some(written) = &snapshot.written else { return false };
    snapshot.ours().is_none_or(|found| {
        found.spec != written.stored.spec || found.metadata != written.stored.metadata
    })
}

fn orphans(snapshot: &PolicySnapshot, lost: Vec<String>) -> Vec<(String, KeptBecause)> {
    let gone = snapshot
        .placed()
        .filter(|(_, ring, table)| !(ring.exists || ring.sound && table.removed))
        .map(|(name, ..)| (name.to_owned(), KeptBecause::RingGone));
    gone.chain(lost.into_iter().map(|name| (name, KeptBecause::LedgerUnknown))).collect()
}
