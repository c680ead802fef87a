//! Reads back what a ClusterPolicy holds. It is foreign data: whatever stands
//! there is read as far as it makes sense, and nothing is indexed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{NOBODYS_KEY, OWN_ANNOTATIONS, keys::key_entry, naming};
use crate::{
    fingerprint::Fingerprint,
    high_water::{HighWater, HighWaters},
    marks::{Mark, Marks, Short, short},
    names::{self, RingName},
    policy::{
        digest::{Digest, Part},
        object::Metadata,
        snapshot::{KeySeen, PolicySeen, RulePart, RuleSeen},
    },
};

/// Where a rule's key entries are.
const ENTRIES: &str = "/verifyImages/0/attestors/0/entries";

/// Reads a policy. `fingerprint` gives that of a public key in PEM, if it is one.
#[must_use]
pub fn read(
    metadata: Metadata<'_>,
    spec: &Value,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> PolicySeen {
    let marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let mut high_waters: HighWaters = metadata.read(names::ANNOTATION_HIGH_WATER);
    // A mark of the policy's own rules' names would have these kept as a ring's,
    // and a policy with two rules of a name is refused.
    let marks = marks.0.into_iter().filter(|(ring, _)| ring.parse::<RingName>().is_ok());
    let rules = marks.filter_map(|(ring, mark)| {
        let rules = rules_of(spec, &ring);
        let high_water = high_waters.0.remove(&ring).unwrap_or_default();
        let seen = || rule_seen(&rules, mark, high_water, fingerprint);
        (!rules.is_empty()).then(seen).map(|seen| (ring, seen))
    });
    let rules: BTreeMap<String, RuleSeen> = rules.collect();
    PolicySeen {
        unmarked: unmarked(spec, &rules),
        rules,
        spec: spec_digest(spec),
        own_metadata: metadata.own(&OWN_ANNOTATIONS),
        metadata: metadata.whole(),
        skipped: skipped(spec),
        frame: None,
    }
}

/// The rules that no mark names, by what their names begin with.
fn unmarked(spec: &Value, marked: &BTreeMap<String, RuleSeen>) -> BTreeSet<String> {
    let parts = marked.values().flat_map(|rule| &rule.parts);
    let marked: BTreeSet<&str> = parts.map(|part| part.name.as_str()).collect();
    let names = named_rules(spec).map(|(name, _)| name).filter(|name| !marked.contains(name));
    names
        .map(RulePart::owner)
        .filter(|owner| *owner != names::GATE_RULE)
        .map(str::to_owned)
        .collect()
}

fn named_rules(spec: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let rules = spec.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.filter_map(|rule| Some((rule.get("name")?.as_str()?, rule)))
}

/// The rules that a policy's spec holds for a ring. Of two with a name, which
/// Kyverno never takes, the first.
#[must_use]
pub fn rules_of<'a>(spec: &'a Value, ring: &str) -> Vec<&'a Value> {
    let mut seen = BTreeSet::new();
    let of_ring = named_rules(spec).filter(|(name, _)| naming::is_of(name, ring));
    of_ring.filter(|(name, _)| seen.insert(*name)).map(|(_, rule)| rule).collect()
}

/// The names of the rules by which a policy's spec verifies for a ring: its own, and what
/// all of its rings stand by.
#[must_use]
pub fn rule_names(spec: &Value, ring: &str) -> Vec<String> {
    let rules = [ring, names::GATE_RULE].into_iter().flat_map(|owner| rules_of(spec, owner));
    rules.filter_map(|rule| Some(rule.get("name")?.as_str()?.to_owned())).collect()
}

/// The public keys in rules as they stand in a policy's spec.
#[must_use]
pub fn keys_of(rules: &[&Value]) -> BTreeSet<String> {
    let entries = rules.iter().filter_map(|rule| rule.pointer(ENTRIES)?.as_array()).flatten();
    entries.filter_map(public_key).map(str::to_owned).collect()
}

fn public_key(entry: &Value) -> Option<&str> {
    entry.pointer("/keys/publicKeys")?.as_str()
}

/// A spec, part by part as the planner puts one together.
pub(super) fn spec_digest(spec: &Value) -> Digest {
    let mut frame = spec.clone();
    let Some(Value::Array(rules)) = frame.get_mut("rules").map(Value::take) else {
        return Part::of(spec).digest;
    };
    if let Some(place) = frame.get_mut("rules") {
        *place = json!([]);
    }
    Part::with(Part::of(&frame), rules.iter().map(rule_part)).digest
}

/// A rule without its name and its key entries, the name, and the entries.
fn split_rule(rule: &Value) -> (Part, String, Vec<Value>) {
    let mut body = rule.clone();
    let entries = match body.pointer_mut(ENTRIES) {
        Some(place @ Value::Array(_)) => std::mem::replace(place, json!([])),
        _ => Value::Null,
    };
    let name = match body.get_mut("name") {
        Some(place @ Value::String(_)) => std::mem::replace(place, json!("")),
        _ => Value::Null,
    };
    let entries = match entries {
        Value::Array(entries) => entries,
        _ => Vec::new(),
    };
    (Part::of(&body), name.as_str().unwrap_or_default().to_owned(), entries)
}

/// A rule as a whole.
pub(super) fn rule_part(rule: &Value) -> Part {
    part_seen(rule, |_| None).whole()
}

/// What a policy holds for a ring, as the planner sees it.
pub(super) fn rule_seen(
    rules: &[&Value],
    mark: Mark,
    high_water: HighWater,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> RuleSeen {
    let parts = rules.iter().map(|rule| part_seen(rule, fingerprint)).collect();
    RuleSeen { mark, high_water, credentials: BTreeSet::new(), parts }
}

/// A short hash of rules without their names and key entries, for their mark.
pub(super) fn body_hash(rules: &[&Value]) -> Short {
    short(&Part::list(rules.iter().map(|rule| split_rule(rule).0)).digest.0)
}

/// One rule of a ring's, as the planner sees it.
pub(super) fn part_seen(
    rule: &Value,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> RulePart {
    let (body, name, entries) = split_rule(rule);
    let keys = entries.iter().map(|entry| key_seen(entry, fingerprint)).collect();
    RulePart { name, body, keys }
}

/// A key entry as the planner sees it.
pub(super) fn key_seen(
    entry: &Value,
    fingerprint: impl Fn(&str) -> Option<Fingerprint>,
) -> KeySeen {
    let public_key = public_key(entry);
    KeySeen {
        public_key: public_key.map(str::to_owned),
        fingerprint: public_key.and_then(fingerprint),
        entry: Part::of(entry),
    }
}

/// A rule with as many of its key entries as were planned to stay, under the name
/// that was planned.
pub(super) fn narrowed(rule: &Value, planned: &RulePart) -> Value {
    let mut rule = rule.clone();
    if let Some(name @ Value::String(_)) = rule.get_mut("name") {
        *name = json!(planned.name);
    }
    let Some(Value::Array(entries)) = rule.pointer_mut(ENTRIES) else { return rule };
    let stays = |entry: &Value| planned.keys.iter().any(|key| key.entry == Part::of(entry));
    if !entries.iter().all(stays) {
        entries.retain(stays);
        if entries.is_empty() {
            entries.push(key_entry(NOBODYS_KEY));
        }
    }
    rule
}

/// The image globs that a policy's rules skip.
#[must_use]
pub fn skipped(spec: &Value) -> BTreeSet<String> {
    let rules = spec.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules
        .filter_map(|rule| rule.pointer("/verifyImages/0/skipImageReferences")?.as_array())
        .flatten()
        .filter_map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

/// The image globs that a ring's rules skip.
#[must_use]
pub fn skipped_by(spec: &Value, ring: &str) -> BTreeSet<String> {
    skipped(&json!({"rules": rules_of(spec, ring)}))
}

/// The image globs that each ring's rule skips, of the rules that are as this
/// operator wrote them: one that somebody edited says nothing of the lists.
#[must_use]
pub fn skipped_by_rings(metadata: Metadata<'_>, spec: &Value) -> Vec<(String, BTreeSet<String>)> {
    let marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let written = marks.0.into_iter().filter_map(|(ring, mark)| {
        let rules = rules_of(spec, &ring);
        let as_written = body_hash(&rules) == mark.rule;
        as_written.then(|| (ring, skipped(&json!({"rules": rules}))))
    });
    written.collect()
}
