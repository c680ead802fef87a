//! The state of a view without what differs from run to run (keys, times,
//! resourceVersions), so that two runs can be compared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    history::{Id, Kind},
    ledger::{Ledger, is_ledger},
    marks::Marks,
    parse,
};

/// What is there of a ring in a view, normalized.
#[must_use]
pub fn normalized(now: &BTreeMap<Id, Value>, view: &str, ring: &str) -> Value {
    let of = |kind: Kind| now.iter().filter(move |(id, _)| id.kind == kind);
    let is_its_ledger = |id: &Id| id.name.strip_prefix("ring-") == Some(ring);
    let ledger_secret = of(Kind::Secret).find(|(id, _)| is_its_ledger(id));
    let ledger_secret = ledger_secret.map(|(_, secret)| secret).filter(|s| is_ledger(s));
    let ledger = ledger_secret.and_then(|secret| Ledger::of_secret(secret).ok());
    let rows = ledger.as_ref().map_or(&[][..], |ledger| ledger.versions.as_slice());
    let number = |key: &str| -> Value {
        rows.iter()
            .find(|row| row.public_key == key)
            .map_or(json!("unknown"), |row| json!(row.number))
    };
    let local = |text: &str| text.replace(ring, "RING").replace(view, "VIEW");
    let mut policies = Map::new();
    for (id, policy) in now {
        let Some(rule) = parse::rule(id.kind, policy, ring) else { continue };
        let keys: Vec<Value> = rule.keys.iter().map(|key| number(key)).collect();
        let marks = Marks::of_policy(policy).unwrap_or_default();
        let said = marks.of(ring).map(|mark| mark.sequence);
        let sequence = ledger.as_ref().map(|ledger| ledger.rule.sequence);
        let pin = parse::pin_of(&id.name);
        let mut pins = of(Kind::MutatingPolicy).filter(|(id, _)| Some(&id.name) == pin.as_ref());
        let said = json!({
            "kind": format!("{:?}", id.kind),
            "accepted": sorted(keys),
            "action": rule.action,
            "skipped": rule.skipped,
            "pinned": pins.any(|(_, pin)| parse::pinned(pin, ring).is_some()),
            "ofThisLedger": said == sequence,
        });
        // As it is called in every view and kind: enforce-0001.
        let which = id.name.strip_prefix(view).and_then(|rest| rest.get(1..));
        policies.insert(which.unwrap_or(&id.name).to_owned(), said);
    }
    let mut secrets = Map::new();
    for (id, secret) in of(Kind::Secret).filter(|(_, secret)| !is_ledger(secret)) {
        if parse::owner(secret).is_some_and(|owner| owner != ring) {
            continue;
        }
        let holds = parse::published(secret, ring).map_or(json!("foreign"), |key| number(&key));
        secrets.insert(local(&format!("{}/{}", id.namespace, id.name)), holds);
    }
    json!({
        "ring": of(Kind::Ring).find(|(id, _)| id.name == ring).map(|(_, object)| reported(object, ring)),
        "ledger": ledger.as_ref().map(|ledger| json!({
            "versions": rows.iter().map(|row| json!([row.number, row.state])).collect::<Vec<_>>(),
            "tokens": ledger.tokens.len(),
            "publications": local(&ledger.publications.to_string()),
            "removed": ledger.removed,
            "entries": ledger_secret.and_then(|s| s["data"].as_object()).map(|data| data.keys().collect::<Vec<_>>()),
        })),
        "policies": policies,
        "secrets": secrets,
    })
}

fn reported(ring: &Value, name: &str) -> Value {
    let status = &ring["status"];
    let mut conditions = Map::new();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let said =
            format!("{} {}", parse::text(&condition["status"]), parse::text(&condition["reason"]));
        conditions.insert(parse::text(&condition["type"]).to_owned(), json!(said));
    }
    json!({
        "conditions": conditions,
        "current": status["currentVersion"],
        "accepted": status["acceptedVersions"],
        "observedRotation": status["observedRotation"],
        "enrolled": status["enrolledNamespaces"],
        "upToDate": status["observedGeneration"] == ring["metadata"]["generation"],
        "pipelines": status["pipelines"].to_string().replace(name, "RING"),
        "finalizers": ring["metadata"]["finalizers"],
        "deleting": parse::is_deleting(ring),
    })
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(ToString::to_string);
    values
}

/// The lines in which two normalized states differ.
#[must_use]
pub fn difference(wanted: &Value, found: &Value) -> String {
    let mut lines = Vec::new();
    compare("", wanted, found, &mut lines);
    lines.join("; ")
}

fn compare(path: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                compare(&path, &wanted[key.as_str()], &found[key.as_str()], lines);
            }
        }
        _ if wanted == found => {}
        _ => lines.push(format!("{path} is {found}, fault-free {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_its_place() {
        let wanted = json!({"ledger": {"removed": false}, "secrets": {"a": 1}});
        let found = json!({"ledger": {"removed": true}, "secrets": {"a": 1, "b": 2}});
        let text = difference(&wanted, &found);
        assert_eq!(
            text,
            ".ledger.removed is true, fault-free false; .secrets.b is 2, fault-free null"
        );
        assert_eq!(difference(&wanted, &wanted), "");
    }
}
