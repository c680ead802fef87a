//! From what was seen of a policy to what becomes of it.
//!
//! A rule is rendered from its ring's ledger where that can be relied on. Where
//! it cannot, or is older than what the policy holds, the rule stays as it
//! stands, less the keys that the ring's object revokes: `closed-not-open` and
//! `revoked-stays-revoked`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::{
    content::{Backend, Content, ContentRule, Source},
    snapshot::{KeySeen, ObjectSeen, Origin, PolicySeen, PolicySnapshot, RingSeen, RuleSeen},
};
use crate::{
    high_water,
    images::Pattern,
    ledger::{Exclusion, Ledger},
    snapshot::Revoked,
};

/// How long a refused rule is left alone before it is tried again as it is:
/// what refused it may have changed.
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(60);

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
    LeaveAlone,
    /// Every rule that should be in it was refused.
    HoldBack,
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
        return idle(Step::LeaveAlone);
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
        plan.step = Step::HoldBack;
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
/// the policy, what this process last wrote counts, unless another replica has
/// written the rule anew since, or let it go.
fn kept(snapshot: &PolicySnapshot, nobody: &KeySeen) -> BTreeMap<String, ContentRule> {
    let mut kept: BTreeMap<String, ContentRule> = BTreeMap::new();
    let found = snapshot.ours().map(|found| (Source::Found, found));
    let written = snapshot.written.as_ref().map(|written| (Source::Written, &written.stored));
    for (source, policy) in found.into_iter().chain(written) {
        for (name, rule) in &policy.rules {
            let ring = snapshot.rings.get(name);
            let table = ring.and_then(|ring| ring.table.as_deref());
            if table.is_some_and(|table| table.rule.sequence >= rule.mark.sequence) {
                continue;
            }
            let found = kept.get(name).map(|found| found.rule.mark.sequence);
            if source == Source::Written
                && (ring.is_some_and(|ring| ring.was_removed)
                    || found.is_some_and(|sequence| sequence > rule.mark.sequence))
            {
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

/// Puts what the policy holds in the place of rules that were refused a short
/// while ago, without the keys that are not accepted any more. A ring of which
/// it holds nothing is left out. Returns whether there was such a rule.
fn hold_back(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    rules: &mut BTreeMap<String, ContentRule>,
    outdated_refusals: &mut Vec<String>,
) -> bool {
    let mut held_back = false;
    for (name, refused) in &snapshot.refused {
        let Some(ContentRule { source: Source::Ledger(ledger), rule }) = rules.get(name) else {
            continue;
        };
        if rule.whole().digest != refused.rule || refused.age >= REFUSED_FOR {
            outdated_refusals.push(name.clone());
            continue;
        }
        held_back = true;
        let accepts = |key: &KeySeen| {
            let mut accepted = ledger.accepted().map(|v| v.public_key.as_str());
            key.public_key.as_deref().is_some_and(|key| accepted.any(|a| a == key))
        };
        let found = snapshot.ours().and_then(|found| found.rules.get(name));
        match found.map(|rule| rule.clone().narrowed(&backend.nobody(), accepts)) {
            Some(rule) => {
                rules.insert(name.clone(), ContentRule { source: Source::Found, rule });
            }
            None => {
                rules.remove(name);
            }
        }
    }
    held_back
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

/// A changed rule among the others as they stand, to be tried by a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whose rule it is.
    pub ring: String,
    /// What the policy would hold.
    pub content: Content,
}

/// Which rules may be why a write was refused: those that it changes. Kyverno
/// refusing one ring's rule must not hold up the other rings of its policy.
#[must_use]
pub fn suspects(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    refused: &Content,
) -> Vec<Trial> {
    let found = snapshot.ours().map(|found| found.rules.clone()).unwrap_or_default();
    let is_changed = |(ring, new): &(&String, &ContentRule)| {
        let before = found.get(*ring).map(RuleSeen::whole);
        matches!(new.source, Source::Ledger(_)) && before != Some(new.rule.whole())
    };
    refused
        .rules
        .iter()
        .filter(is_changed)
        .map(|(ring, new)| {
            let others = found.iter().filter(|(other, _)| *other != ring).map(|(other, rule)| {
                let rule = ContentRule { source: Source::Found, rule: rule.clone() };
                (other.clone(), rule)
            });
            let rules = others.chain([(ring.clone(), new.clone())]).collect();
            Trial { ring: ring.clone(), content: Content::of(backend, rules) }
        })
        .collect()
}

/// The exclusions of the rings placed here.
fn own_exclusions(snapshot: &PolicySnapshot) -> impl Iterator<Item = (Origin, &Exclusion)> {
    snapshot.placed().filter(|(_, ring, _)| ring.sound).flat_map(|(name, _, table)| {
        let own = table.rule.settings.exclude.iter();
        own.map(move |exclusion| (Origin::Ring(name.to_owned()), exclusion))
    })
}

/// How long until the next of the policy's exclusions expires.
fn next_expiry(snapshot: &PolicySnapshot) -> Option<Duration> {
    let own = own_exclusions(snapshot).map(|(_, exclusion)| exclusion);
    let next = snapshot
        .listed
        .iter()
        .map(|(_, exclusion)| exclusion)
        .chain(own)
        .filter(|exclusion| exclusion.counts(snapshot.now))
        .filter_map(|exclusion| end_of(exclusion.expires?))
        .min()?;
    Duration::try_from(next.duration_since(snapshot.now)).ok()
}

/// The moment after a day's last, in UTC.
fn end_of(day: Date) -> Option<Timestamp> {
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The exclusions that the policy skipped until now and that have expired.
fn expired(snapshot: &PolicySnapshot, found: &PolicySeen) -> Vec<(Origin, Exclusion)> {
    let listed = snapshot.listed.iter().map(|(list, e)| (Origin::List(list.clone()), e));
    let is_skipped = |exclusion: &Exclusion| {
        Pattern::parse(&exclusion.image).is_ok_and(|pattern| {
            pattern.spellings().iter().any(|glob| found.skipped.contains(glob))
        })
    };
    listed
        .chain(own_exclusions(snapshot))
        .filter(|(_, e)| !e.counts(snapshot.now) && is_skipped(e))
        .map(|(origin, exclusion)| (origin, exclusion.clone()))
        .collect()
}
