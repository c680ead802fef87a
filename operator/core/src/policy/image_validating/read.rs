//! Reads back what an ImageValidatingPolicy holds. It is foreign data: whatever stands
//! there is read as far as it makes sense, and nothing is indexed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    data::{Data, KeyData, RingData},
    expressions,
};
use crate::{
    fingerprint::Fingerprint,
    high_water::HighWaters,
    images::Pattern,
    marks::{Marks, Short, short},
    names::{self, PROBE, RingName},
    policy::{
        digest::{Digest, Part},
        object::Metadata,
        snapshot::{KeySeen, PolicySeen, RulePart, RuleSeen},
    },
};

/// Where the values are that a policy selects.
const VALUES: &str = "/matchConstraints/namespaceSelector/matchExpressions/0/values";

/// Reads a policy. `fingerprint` gives that of a public key in PEM, if it is one.
#[must_use]
pub fn read(
    metadata: Metadata<'_>,
    spec: &Value,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> PolicySeen {
    let mut data = Data::read(spec);
    let (spec, skipped, frame) = (digest(spec, &data), globs(&data), seen_frame(spec, &data));
    let marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let mut high_waters: HighWaters = metadata.read(names::ANNOTATION_HIGH_WATER);
    let marks = marks.0.into_iter().filter(|(ring, _)| ring.parse::<RingName>().is_ok());
    let rules = marks.filter_map(|(ring, mark)| {
        let parts = vec![part(&ring, &data.rings.remove(&ring)?, fingerprint)];
        let high_water = high_waters.0.remove(&ring).unwrap_or_default();
        let credentials = data.credentials.clone();
        Some((ring, RuleSeen { mark, high_water, credentials, parts }))
    });
    let rules: BTreeMap<String, RuleSeen> = rules.collect();
    PolicySeen {
        rules,
        unmarked: data.rings.into_keys().collect(),
        spec,
        own_metadata: metadata.own(&[]),
        metadata: metadata.whole(),
        skipped,
        frame,
    }
}

/// A spec, part by part as the planner puts one together, if it is what this operator
/// writes from its data. One that is not is like no other.
pub(super) fn digest(spec: &Value, data: &Data) -> Digest {
    let Some(frame) = written_frame(spec, data) else { return Part::of(spec).digest };
    let parts = data.rings.iter().map(|(ring, data)| part(ring, data, |_| None).whole());
    Part::with(Part::of(&frame), parts).digest
}

/// What stands around all rings' rules, if the spec is that and its data and no more.
fn written_frame(spec: &Value, data: &Data) -> Option<Value> {
    let mut frame = spec.clone();
    fill(&mut frame, &Data { rings: BTreeMap::new(), ..data.clone() });
    let mut again = frame.clone();
    fill(&mut again, data);
    (again == *spec).then_some(frame)
}

/// Puts the data of rings into a spec, in the place of what stands there.
pub(super) fn fill(spec: &mut Value, data: &Data) {
    select(spec, data.rings.keys().map(String::as_str));
    data.put_credentials(spec);
    if let Some(place) = spec.get_mut("attestors") {
        *place = json!(data.attestors());
    }
    if let Some(place) = expression(spec, "variables", "accepted") {
        *place = json!(data.accepted());
    }
    if let Some(place) = expression(spec, "images", "containers")
        && let Some(rest) = place.as_str().and_then(Data::behind_excluded)
    {
        *place = json!(data.bind_rest(rest));
    }
}

/// Has a spec select these values, and that of the namespace where it is asked.
pub(super) fn select<'a>(spec: &mut Value, values: impl Iterator<Item = &'a str>) {
    if let Some(place) = spec.pointer_mut(VALUES) {
        *place = json!(values.chain([PROBE]).collect::<Vec<_>>());
    }
}

/// Has a spec accept a key whatever value a namespace has.
pub(super) fn accept(spec: &mut Value, key: &KeyData) {
    if let Some(place) = spec.get_mut("attestors") {
        *place = json!(key.attestors());
    }
    if let Some(place) = expression(spec, "variables", "accepted") {
        *place = json!(json!([key.name]).to_string());
    }
}

/// The expression of this name in a list of them.
fn expression<'a>(spec: &'a mut Value, list: &str, name: &str) -> Option<&'a mut Value> {
    let mut entries = spec.get_mut(list)?.as_array_mut()?.iter_mut();
    entries.find(|entry| entry.get("name") == Some(&json!(name)))?.get_mut("expression")
}

/// The values that a spec selects, but for that of the namespace where it is asked.
pub(super) fn values(spec: &Value) -> BTreeSet<String> {
    let values = spec.pointer(VALUES).and_then(Value::as_array).into_iter().flatten();
    let values = values.filter_map(Value::as_str).filter(|value| *value != PROBE);
    values.map(str::to_owned).collect()
}

/// What a policy holds for a ring, as the planner sees it.
pub(super) fn part(
    ring: &str,
    data: &RingData,
    fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
) -> RulePart {
    RulePart {
        name: ring.to_owned(),
        body: Part::of(&json!(data.exclude)),
        keys: data.keys.iter().map(|data| key(data, fingerprint)).collect(),
    }
}

/// A key as the planner sees it.
pub(super) fn key(data: &KeyData, fingerprint: impl Fn(&str) -> Option<Fingerprint>) -> KeySeen {
    let public_key = data.public_key();
    KeySeen {
        public_key: public_key.map(str::to_owned),
        fingerprint: public_key.and_then(fingerprint),
        entry: Part::of(&data.entry()),
    }
}

/// A short hash of a ring's rule without its keys, and of what stands around all
/// rings' rules, for its mark. The credentials, which stand there too, are the ring's.
pub(super) fn body_hash(frame: Part, part: &RulePart, credentials: &BTreeSet<String>) -> Short {
    let credentials = (!credentials.is_empty()).then(|| Part::of(&json!(credentials)));
    short(&Part::list([frame, part.body].into_iter().chain(credentials)).digest.0)
}

/// A rule with the mark that it has in another frame than the one that its mark tells of.
/// One that tells of neither, because somebody edited the rule, stays: it is no word on
/// what stands there.
pub(super) fn moved(mut rule: RuleSeen, from: Part, to: Part) -> RuleSeen {
    let hash = |frame, part| body_hash(frame, part, &rule.credentials);
    let told = rule.parts.first().filter(|part| hash(from, part) == rule.mark.rule);
    if let Some(told) = told.map(|part| hash(to, part)) {
        rule.mark.rule = told;
    }
    rule
}

/// The public keys that a policy's spec holds for a ring.
#[must_use]
pub fn keys_of(spec: &Value, ring: &str) -> BTreeSet<String> {
    let data = Data::read(spec).rings.remove(ring).unwrap_or_default();
    data.keys.iter().filter_map(|key| key.public_key().map(str::to_owned)).collect()
}

/// Whether two specs hold the same for a ring. Of what this operator does not write it
/// is not known whose it is.
#[must_use]
pub fn same_rule(old: &Value, new: &Value, ring: &str) -> bool {
    let split = |spec: &Value| {
        let mut data = Data::read(spec);
        let mut frame = written_frame(spec, &data)?;
        ask_for(&mut frame, "");
        Some((data.rings.remove(ring), frame))
    };
    old == new || split(old).is_some_and(|old| split(new).is_some_and(|new| old == new))
}

/// What stands around all rings' rules, but for what changes with any of them.
pub(super) fn frame(spec: &Value) -> Part {
    let mut frame = spec.clone();
    fill(&mut frame, &Data { lists: Data::read(spec).lists, ..Data::default() });
    ask_for(&mut frame, "");
    Part::of(&frame)
}

/// The same of what this operator writes.
fn seen_frame(spec: &Value, data: &Data) -> Option<Part> {
    written_frame(spec, data).map(|written| frame(&written))
}

/// Has a spec answer a question of this name.
pub(super) fn ask_for(spec: &mut Value, question: &str) {
    if let Some(place) = expression(spec, "matchConditions", names::CONDITIONS[0]) {
        *place = json!(expressions::is_question(question));
    }
    if let Some(place) = spec.pointer_mut("/validations/0/message") {
        *place = json!(question);
    }
}

/// The globs of what a policy's spec excludes.
#[must_use]
pub fn skipped(spec: &Value) -> BTreeSet<String> {
    globs(&Data::read(spec))
}

/// The globs of what a ring's rule excludes.
#[must_use]
pub fn skipped_by(spec: &Value, ring: &str) -> BTreeSet<String> {
    let data = Data::read(spec);
    let own = data.rings.get(ring).into_iter().flat_map(|ring| &ring.exclude);
    spellings(data.lists.iter().chain(own))
}

fn globs(data: &Data) -> BTreeSet<String> {
    let own = data.rings.values().flat_map(|ring| &ring.exclude);
    spellings(data.lists.iter().chain(own))
}

fn spellings<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    texts.filter_map(|text| Pattern::of_resolved(text)).flat_map(|p| p.spellings()).collect()
}

/// The globs of what each ring's rule excludes, of the rules that are as this operator
/// wrote them: one that somebody edited says nothing of the lists.
#[must_use]
pub fn skipped_by_rings(metadata: Metadata<'_>, spec: &Value) -> Vec<(String, BTreeSet<String>)> {
    let data = Data::read(spec);
    let marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let frame = frame(spec);
    let written = marks.0.into_iter().filter_map(|(ring, mark)| {
        let own = data.rings.get(&ring)?;
        let as_written =
            body_hash(frame, &part(&ring, own, |_| None), &data.credentials) == mark.rule;
        as_written.then(|| (ring, spellings(data.lists.iter().chain(&own.exclude))))
    });
    written.collect()
}
