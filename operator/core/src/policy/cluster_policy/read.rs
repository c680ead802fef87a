//! Reads back what a ClusterPolicy holds. It is foreign data: whatever stands
//! there is read as far as it makes sense, and nothing is indexed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{NOBODYS_KEY, OWN_ANNOTATIONS, OWN_LABELS, key_entry};
use crate::{
    fingerprint::Fingerprint,
    high_water::{HighWater, HighWaters},
    marks::{Mark, Marks, short},
    names,
    policy::{
        digest::{Digest, Part},
        snapshot::{KeySeen, PolicySeen, RuleSeen},
    },
};

/// Where a rule's key entries are.
const ENTRIES: &str = "/verifyImages/0/attestors/0/entries";

/// A policy's labels and annotations.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl Metadata<'_> {
    /// Those that this operator writes.
    pub(super) fn own(self) -> Digest {
        let annotations = OWN_ANNOTATIONS.map(|name| self.annotations.get(name));
        let labels = OWN_LABELS.map(|name| self.labels.get(name));
        Part::of(&json!([annotations, labels])).digest
    }

    pub(super) fn whole(self) -> Digest {
        Part::of(&json!([self.annotations, self.labels])).digest
    }

    pub(super) fn read<T: std::str::FromStr + Default>(self, annotation: &str) -> T {
        let text = self.annotations.get(annotation);
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

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
    let marks = marks.0.into_iter().filter(|(ring, _)| ring.parse::<names::RingName>().is_ok());
    let rules = marks.filter_map(|(ring, mark)| {
        let rule = rule_of(spec, &ring)?;
        let high_water = high_waters.0.remove(&ring).unwrap_or_default();
        Some((ring, rule_seen(rule, mark, high_water, fingerprint)))
    });
    let rules: BTreeMap<String, RuleSeen> = rules.collect();
    let named = spec.get("rules").and_then(Value::as_array).into_iter().flatten();
    let named = named.filter_map(|rule| rule.get("name")?.as_str());
    let unmarked =
        named.filter(|name| !rules.contains_key(*name) && name.parse::<names::RingName>().is_ok());
    PolicySeen {
        unmarked: unmarked.map(str::to_owned).collect(),
        rules,
        spec: spec_digest(spec),
        own_metadata: metadata.own(),
        metadata: metadata.whole(),
        skipped: skipped(spec),
    }
}

/// A ring's rule in a policy's spec.
#[must_use]
pub fn rule_of<'a>(spec: &'a Value, ring: &str) -> Option<&'a Value> {
    let mut rules = spec.get("rules")?.as_array()?.iter();
    rules.find(|rule| rule.get("name").and_then(Value::as_str) == Some(ring))
}

/// The public keys in a ring's rule as it stands in a policy's spec.
#[must_use]
pub fn keys_of(rule: &Value) -> BTreeSet<String> {
    let entries = rule.pointer(ENTRIES).and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(public_key).map(str::to_owned).collect()
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

/// A rule without its key entries, and the entries.
fn split_rule(rule: &Value) -> (Part, Vec<Value>) {
    let mut body = rule.clone();
    let entries = match body.pointer_mut(ENTRIES) {
        Some(place @ Value::Array(_)) => std::mem::replace(place, json!([])),
        _ => Value::Null,
    };
    let entries = match entries {
        Value::Array(entries) => entries,
        _ => Vec::new(),
    };
    (Part::of(&body), entries)
}

/// A short hash of a rule without its key entries, for its mark.
pub(super) fn body_hash(rule: &Value) -> String {
    short(&split_rule(rule).0.digest.0)
}

/// A rule as a whole.
pub(super) fn rule_part(rule: &Value) -> Part {
    let (body, entries) = split_rule(rule);
    Part::with(body, entries.iter().map(Part::of))
}

/// A rule as the planner sees it.
pub(super) fn rule_seen(
    rule: &Value,
    mark: Mark,
    high_water: HighWater,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> RuleSeen {
    let (body, entries) = split_rule(rule);
    let keys = entries.iter().map(|entry| key_seen(entry, fingerprint)).collect();
    RuleSeen { mark, high_water, body, keys }
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

/// The rule with as many of its key entries as were planned to stay.
pub(super) fn narrowed(rule: &Value, planned: &RuleSeen) -> Value {
    let mut rule = rule.clone();
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

/// The image globs that each ring's rule skips, of the rules that are as this
/// operator wrote them: one that somebody edited says nothing of the lists.
#[must_use]
pub fn skipped_by_rings(metadata: Metadata<'_>, spec: &Value) -> Vec<(String, BTreeSet<String>)> {
    let marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let written = marks.0.into_iter().filter_map(|(ring, mark)| {
        let rule = rule_of(spec, &ring).filter(|rule| body_hash(rule) == mark.rule)?;
        Some((ring, skipped(&json!({"rules": [rule]}))))
    });
    written.collect()
}
