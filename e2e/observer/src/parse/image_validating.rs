//! What stands of a ring in an ImageValidatingPolicy. Its maps are JSON, and are read
//! as that: what is done with them stands behind them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Rule, text, trimmed};

/// What comes before the excluded images.
const EXCLUDED: &str = "cel.bind(excluded, ";

/// What comes behind the names of the keys that each ring accepts.
const OF_RING: &str = "[?variables.ring].orValue([])";

/// What lets an image pass: a signature by one accepted key. Of a key whose twin, which
/// takes bundles alone, verifies as well, the bundle has to be a signature's.
const VERIFIED: &str = "images.containers.all(i, variables.accepted.exists(k, \
    verifyImageSignatures(i, [attestors[k]]) > 0 && \
    (!(verifyImageSignatures(i, [attestors[k + 'b']]) > 0) || \
    verifyAttestationSignatures(i, attestations.signature, [attestors[k]]) > 0)))";

/// How a question is told from a Pod.
const NO_QUESTION: &str = "!(request.resource.resource == 'configmaps') || ";

pub(super) fn part(policy: &Value, ring: &str) -> Option<Value> {
    let spec = &policy["spec"];
    let (is_selected, names) = (selects(spec, ring), accepted(spec, ring));
    if !is_selected && names.is_none() {
        return None;
    }
    let excluded = excluded(named(&spec["images"], "containers"), ring);
    let names = names.unwrap_or_default();
    let attestors: Vec<&Value> = names.iter().flat_map(|name| pair(spec, name)).collect();
    Some(json!([is_selected, names, attestors, excluded]))
}

pub(super) fn rule(policy: &Value, ring: &str) -> Option<Rule> {
    let spec = &policy["spec"];
    let (is_selected, names) = (selects(spec, ring), accepted(spec, ring));
    if !is_selected && names.is_none() {
        return None;
    }
    let names = names.unwrap_or_default();
    let attestors = names.iter().flat_map(|name| pair(spec, name));
    let keys = attestors.map(|attestor| trimmed(text(&attestor["cosign"]["key"]["data"])));
    let action = match text(&spec["validationActions"][0]) {
        "Deny" => "Enforce",
        other => other,
    };
    let is_whole = is_selected && !names.is_empty() && names.iter().all(|name| is_pair(spec, name));
    Some(Rule {
        keys: keys.collect(),
        is_whole: is_whole && verifies(spec, action == "Enforce"),
        action: action.to_owned(),
        skipped: excluded(named(&spec["images"], "containers"), ring),
    })
}

/// The name of the question that such a policy answers in its present state. Nothing
/// if it would not answer, or answer to more than that.
#[must_use]
pub fn question(policy: &Value) -> Option<String> {
    let spec = &policy["spec"];
    let asked = named(&spec["matchConditions"], "question").strip_prefix(NO_QUESTION)?;
    let asked = asked.strip_prefix("request.name == '")?.strip_suffix('\'')?;
    (spec["validations"][0]["message"] == asked).then(|| asked.to_owned())
}

/// Whether namespaces of a ring are selected.
pub(super) fn selects(spec: &Value, ring: &str) -> bool {
    let selector = &spec["matchConstraints"]["namespaceSelector"]["matchExpressions"];
    let values = selector[0]["values"].as_array().into_iter().flatten();
    let is_one = selector.as_array().is_some_and(|all| all.len() == 1);
    is_one && selector[0]["operator"] == "In" && values.into_iter().any(|value| value == ring)
}

/// The images that an expression excludes, for all rings and for this one.
pub(super) fn excluded(expression: &str, ring: &str) -> BTreeSet<String> {
    let map = expression.strip_prefix(EXCLUDED).and_then(leading);
    let map = map.map(|(map, _)| map).unwrap_or_default();
    let images = ["", ring].map(|of| map[of].as_array().cloned().unwrap_or_default());
    let images = images.iter().flatten().map(text);
    // What ends in a slash is all that is below.
    images
        .map(|image| if image.ends_with('/') { format!("{image}*") } else { image.to_owned() })
        .collect()
}

/// The expression of that name.
pub(super) fn named<'a>(list: &'a Value, name: &str) -> &'a str {
    let mut entries = list.as_array().into_iter().flatten();
    entries.find(|entry| entry["name"] == name).map_or("", |entry| text(&entry["expression"]))
}

/// The names of the keys that a ring accepts.
fn accepted(spec: &Value, ring: &str) -> Option<Vec<String>> {
    let (map, rest) = leading(named(&spec["variables"], "accepted"))?;
    let names = map[ring].as_array().filter(|_| rest == OF_RING)?;
    Some(names.iter().map(|name| text(name).to_owned()).collect())
}

/// What stands under a key's name and its twin's.
fn pair<'a>(spec: &'a Value, name: &str) -> Vec<&'a Value> {
    let attestors = spec["attestors"].as_array().into_iter().flatten();
    let twin = format!("{name}b");
    attestors.filter(|attestor| attestor["name"] == name || attestor["name"] == *twin).collect()
}

/// Whether that is one key, first as it is and then for bundles alone.
fn is_pair(spec: &Value, name: &str) -> bool {
    let [key, twin] = pair(spec, name)[..] else { return false };
    let offline = json!({"insecureIgnoreTlog": true, "insecureIgnoreSCT": true});
    let bundles = json!({"dev.cosignproject.cosign/signature": ""});
    key["name"] == name
        && key["cosign"]["key"] == twin["cosign"]["key"]
        && [key, twin].iter().all(|attestor| attestor["cosign"]["ctlog"] == offline)
        && key["cosign"]["annotations"].is_null()
        && twin["cosign"]["annotations"] == bundles
}

/// Whether what stands around the rings has every Pod of theirs verified.
fn verifies(spec: &Value, enforces: bool) -> bool {
    let configuration = json!({"mutateDigest": false, "verifyDigest": enforces, "required": true});
    let has = |list: &Value, wanted: &[&str]| {
        wanted.iter().all(|text| list.as_array().is_some_and(|list| list.contains(&json!(text))))
    };
    let pods = &spec["matchConstraints"]["resourceRules"][0];
    let conditions = spec["matchConditions"].as_array().map_or(&[][..], Vec::as_slice);
    let conditions: Vec<&str> =
        conditions.iter().map(|condition| text(&condition["expression"])).collect();
    let of_questions = |condition: &&str| condition.starts_with(NO_QUESTION);
    let mut validations = spec["validations"].as_array().into_iter().flatten();
    let images = named(&spec["images"], "containers");
    spec["validationActions"].as_array().is_some_and(|actions| actions.len() == 1)
        && spec["failurePolicy"] == if enforces { "Fail" } else { "Ignore" }
        && spec["validationConfigurations"] == configuration
        && has(&pods["operations"], &["CREATE", "UPDATE"])
        && has(&pods["resources"], &["pods", "pods/ephemeralcontainers"])
        && conditions.iter().filter(|condition| !of_questions(condition)).count() == 1
        && conditions.iter().any(|condition| condition.contains("request.operation == 'CREATE'"))
        && ["containers", "initContainers", "ephemeralContainers", "volumes"].iter().all(|list| {
            images.contains(&format!("object.spec.{list}"))
                || images.contains(&format!("object.spec.?{list}"))
        })
        && validations.any(|validation| validation["expression"] == VERIFIED)
}

/// The JSON that a text begins with, and what follows.
fn leading(text: &str) -> Option<(Value, &str)> {
    let mut json = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = json.next()?.ok()?;
    Some((value, text.get(json.byte_offset()..)?))
}
