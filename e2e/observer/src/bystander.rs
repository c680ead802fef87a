//! A ring to which nothing happens while something happens to another one of
//! its policy: what stands there of it, and what it holds, stays as it is.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    history::{Event, Id, Kind},
    invariant::Invariant,
    ledger::is_ledger,
    marks::{Mark, Marks},
    parse,
};

/// Checks what became of a ring since nothing more was done to it.
#[must_use]
pub fn check(history: &[Event], ring: &str, since: Instant) -> Vec<String> {
    let mut before: BTreeMap<&Id, &Event> = BTreeMap::new();
    let mut violations = Vec::new();
    for event in history {
        if event.at <= since {
            before.insert(&event.id, event);
            continue;
        }
        let known = before.get(&event.id).and_then(|before| before.object.as_ref());
        let mut violated = |invariant: Invariant, what: &str| {
            let (name, version) = (&event.id.name, event.version);
            let text = format!(
                "{invariant}: bystander {ring}: {name} {what} (at resourceVersion {version})"
            );
            violations.push(text);
        };
        match (event.id.kind, event.object.as_ref()) {
            (kind, now) if part_of(kind, known, ring) != part_of(kind, now, ring) => {
                violated(Invariant::Silence, "says something else of it");
            }
            (Kind::Secret, now) => {
                let is_its = [known, now].into_iter().flatten().any(|secret| holds(secret, ring));
                if is_its && contents(known) != contents(now) {
                    violated(Invariant::Silence, "was written");
                }
            }
            (Kind::Ring, now) if event.id.name == ring && !now.is_some_and(parse::is_ready) => {
                violated(Invariant::TrueWords, "is not Ready any more");
            }
            _ => {}
        }
    }
    violations
}

/// What a policy says of a ring: its rule, and its mark.
fn part_of(kind: Kind, policy: Option<&Value>, ring: &str) -> Option<(Value, Option<Mark>)> {
    let policy = policy?;
    let marks = Marks::of_policy(policy).unwrap_or_default();
    Some((parse::part(kind, policy, ring)?, marks.of(ring).cloned()))
}

/// Whether a Secret is a ring's ledger, or a pipeline's with its key.
fn holds(secret: &Value, ring: &str) -> bool {
    let is_its_ledger =
        is_ledger(secret) && secret["metadata"]["name"] == format!("ring-{ring}").as_str();
    is_its_ledger || parse::published(secret, ring).is_some()
}

fn contents(secret: Option<&Value>) -> Option<[&Value; 2]> {
    secret.map(|secret| [&secret["metadata"]["annotations"], &secret["data"]])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64ct::{Base64, Encoding};
    use serde_json::json;

    use super::*;
    use crate::fixtures::{KINDS, pin, policy};

    fn secret(key: &str) -> Value {
        json!({
            "metadata": {"name": "s", "annotations": {"signing.odj.cloud/ring": "b"}},
            "data": {"cosign.pub": Base64::encode_string(key.as_bytes())},
        })
    }

    fn ledger(text: &str) -> Value {
        json!({
            "type": "signing.odj.cloud/key-ring",
            "metadata": {"name": "ring-b", "annotations": {"signing.odj.cloud/ledger": text}},
        })
    }

    fn ring(status: &str) -> Value {
        let ready = json!({"type": "Ready", "status": status});
        json!({"metadata": {"name": "b"}, "status": {"conditions": [ready]}})
    }

    /// What is objected to when an object becomes another one.
    fn violations(kind: Kind, name: &str, from: Value, to: Option<Value>) -> Vec<String> {
        let id = Id { kind, namespace: String::new(), name: name.to_owned() };
        let start = Instant::now();
        let event = |version, at, object| Event { version, at, id: id.clone(), object };
        let later = start + Duration::from_secs(1);
        check(&[event(1, start, Some(from)), event(2, later, to)], "b", start)
    }

    #[track_caller]
    fn violated(invariant: &str, kind: Kind, name: &str, from: Value, to: Option<Value>) {
        let found = violations(kind, name, from, to);
        assert!(found.len() == 1 && found[0].starts_with(invariant), "{found:?}");
    }

    #[test]
    fn what_stays_is_not_objected_to() {
        for kind in KINDS {
            let other = policy(kind, "b", &["K"], "a=9.ff b=1.aa");
            let before = policy(kind, "b", &["K"], "a=1.cc b=1.aa");
            assert_eq!(violations(kind, "p", before, Some(other)), [] as [&str; 0]);
            let nothing = json!({"spec": {"rules": []}});
            assert_eq!(violations(kind, "q", nothing, None), [] as [&str; 0]);
        }
        for (kind, name, from, to) in [
            (Kind::MutatingPolicy, "p", pin("a"), None),
            (Kind::Secret, "s", secret("K"), Some(secret("K"))),
            (Kind::Secret, "ring-b", ledger("x"), Some(ledger("x"))),
            (Kind::Secret, "other", json!({"data": {}}), None),
            (Kind::Ring, "b", ring("True"), Some(ring("True"))),
            (Kind::Ring, "a", ring("True"), Some(ring("False"))),
        ] {
            assert_eq!(violations(kind, name, from, to), [] as [&str; 0], "{name}");
        }
    }

    #[test]
    fn silence_its_rule_its_mark_its_ledger_or_its_secret_changes() {
        for kind in KINDS {
            let of = |keys: &[&str], mark: &str| policy(kind, "b", keys, mark);
            let held = || of(&["K"], "b=1.aa");
            violated("silence", kind, "p", held(), Some(of(&["K", "L"], "b=1.aa")));
            violated("silence", kind, "p", held(), Some(of(&["K"], "b=2.aa")));
            violated("silence", kind, "p", held(), Some(json!({"spec": {"rules": []}})));
            violated("silence", kind, "p", held(), None);
        }
        violated("silence", Kind::MutatingPolicy, "p", pin("b"), Some(pin("a")));
        violated("silence", Kind::Secret, "ring-b", ledger("x"), Some(ledger("y")));
        violated("silence", Kind::Secret, "ring-b", ledger("x"), None);
        violated("silence", Kind::Secret, "s", secret("K"), Some(secret("L")));
        violated("silence", Kind::Secret, "s", secret("K"), None);
    }

    #[test]
    fn true_words_it_is_not_ready_any_more() {
        violated("true-words", Kind::Ring, "b", ring("True"), Some(ring("False")));
        violated("true-words", Kind::Ring, "b", ring("True"), None);
    }
}
