//! Whatever somebody makes of a policy, its pass does not panic, every ring with
//! a ledger gets the rule that its ledger calls for, and what is written rests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use signingkeyring_core::{
    high_water::{HighWater, short},
    ledger::Ledger,
    names,
    policy::{
        Content, PolicySnapshot, Source, Step, Write,
        cluster_policy::{Metadata, NOBODYS_KEY, Rendered, keys_of, read, rules_of},
        plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
    snapshot::Revoked,
};

use crate::{KIND, POLICY, fingerprint, ledger};

fn policy() -> Rendered {
    let rules = ["lost", "shop"].map(|ring| (ring.to_owned(), KIND.ring_rule(ring, &ledger(1))));
    KIND.render(rules.into())
}

/// A way of breaking a value: which place in it, counted through, and how.
#[derive(Clone, Debug)]
struct Edit {
    place: usize,
    how: u8,
}

/// The pointers to all places in a value.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), all);
            }
        }
        Value::Object(fields) => {
            for (name, item) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(item, &format!("{at}/{name}"), all);
            }
        }
        _ => {}
    }
}

fn break_value(value: &mut Value, edit: &Edit) {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let pointer = &all[edit.place % all.len()];
    let place = value.pointer_mut(pointer).unwrap();
    match edit.how {
        0 => *place = Value::Null,
        1 => *place = json!(7),
        2 => *place = json!("{{x}}"),
        3 => *place = json!({}),
        4 => *place = json!([]),
        5 => *place = json!("x".repeat(100_000)),
        6 => *place = json!([[place.clone(), place.clone()]]),
        7 => {
            let (above, name) = pointer.rsplit_once('/').unwrap_or_default();
            let name = name.replace("~1", "/").replace("~0", "~");
            match value.pointer_mut(above) {
                Some(Value::Object(fields)) => drop(fields.remove(&name)),
                Some(Value::Array(items)) => drop(items.pop()),
                _ => {}
            }
        }
        _ => {
            if let Value::Array(items) = place {
                items.extend(items.clone());
            }
        }
    }
}

/// What stands in an annotation.
fn text(written: &str) -> BoxedStrategy<Option<String>> {
    let written = written.to_owned();
    let raised = written.replace("=2.", "=99.");
    let lowered = written.replace("=2.", "=1.");
    prop_oneof![
        3 => Just(Some(written.clone())),
        2 => Just(Some(raised)),
        1 => Just(Some(lowered)),
        1 => Just(None),
        1 => any::<String>().prop_map(Some),
        1 => "[a-z.=:, ]{0,60}".prop_map(Some),
        1 => Just(Some(format!("{written} {}", "x=1.y ".repeat(20_000)))),
        2 => Just(Some(format!("{written} signing-gate=1.aa signing-gate.references=1.aa ../x=1.aa"))),
        1 => Just(Some(format!("{written} =1.a shop=18446744073709551616.a"))),
    ]
    .boxed()
}

fn snapshot(found: &Rendered, revoked: &[Revoked]) -> PolicySnapshot {
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let ring = |table: Option<Ledger>| RingSeen {
        sound: table.is_some(),
        table: table.map(Arc::new),
        was_removed: false,
        exists: true,
        revoked: revoked.to_vec(),
        remembered: HighWater::default(),
        reported: BTreeSet::new(),
        read_anew: true,
    };
    PolicySnapshot {
        policy: POLICY,
        served: true,
        can_be_asked: true,
        found: ObjectSeen::Ours(read(metadata, &found.spec, fingerprint)),
        written: None,
        rings: BTreeMap::from([
            ("shop".to_owned(), ring(Some(ledger(1)))),
            ("lost".to_owned(), ring(None)),
        ]),
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: Timestamp::UNIX_EPOCH,
    }
}

fn content(step: Step) -> Content {
    match step {
        Step::UpToDate(content) | Step::Write(Write { content, .. }) => content,
        other => unreachable!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_policy_is_hostile_enough(
        edits in proptest::collection::vec(
            (any::<usize>(), 0..9u8).prop_map(|(place, how)| Edit { place, how }),
            0..6,
        ),
        marks in text(&policy().annotations[names::ANNOTATION_MARKS]),
        high_waters in text(&policy().annotations[names::ANNOTATION_HIGH_WATER]),
        revokes in proptest::option::of(prop_oneof![
            Just(Revoked::Version(1)),
            Just(Revoked::Fingerprint("SHA256:1".parse().unwrap())),
        ]),
    ) {
        let mut found = policy();
        for edit in &edits {
            break_value(&mut found.spec, edit);
        }
        for (name, text) in
            [(names::ANNOTATION_MARKS, marks), (names::ANNOTATION_HIGH_WATER, high_waters)]
        {
            match text {
                Some(text) => found.annotations.insert(name.to_owned(), text),
                None => found.annotations.remove(name),
            };
        }
        let revoked: Vec<Revoked> = revokes.into_iter().collect();
        let before = snapshot(&found, &revoked);
        let mut written = found.clone();
        // What is revoked leaves first, the rest comes next.
        for _ in 0..2 {
            let planned = content(plan_policy(&snapshot(&written, &revoked), &KIND).step);
            let rule = |source: &Source, ring: &str| {
                if *source == Source::Found { rules_of(&written.spec, ring) } else { Vec::new() }
            };
            written = KIND.compose(&planned, rule).unwrap();
        }

        // What its object revokes, its ledger takes in before the policies do.
        let table = ledger(1);
        let wanted = KIND.ring_rule("shop", &table);
        let rules = rules_of(&written.spec, "shop");
        let body = |rule: &Value| {
            let mut rule = rule.clone();
            rule["name"] = Value::Null;
            rule["verifyImages"][0]["attestors"][0]["entries"] = Value::Null;
            rule
        };
        let bodies: Vec<Value> = rules.iter().map(|rule| body(rule)).collect();
        prop_assert_eq!(bodies, wanted.rules.iter().map(body).collect::<Vec<_>>());
        // A mark above the ledger's is taken for a newer replica's.
        let ObjectSeen::Ours(seen) = &before.found else { unreachable!() };
        let sequence = ledger(1).rule.sequence;
        if seen.rules.get("shop").is_none_or(|rule| rule.mark.state.sequence <= sequence) {
            // What was out of the rule already does not return if it is to be revoked.
            let less = table.without(&[short("SHA256:1")].into());
            let less = KIND.ring_rule("shop", &less);
            let is_wanted = rules.iter().copied().eq(&wanted.rules);
            let wanted = if revoked.is_empty() || is_wanted { wanted } else { less };
            prop_assert!(rules.iter().copied().eq(&wanted.rules), "{rules:?} {:?}", wanted.rules);
            prop_assert_eq!(&written.marks.0["shop"], &wanted.mark);
        } else {
            let keys = [table.newest().unwrap().public_key.as_str(), NOBODYS_KEY];
            let is_known = |key: &String| keys.contains(&key.as_str());
            prop_assert!(keys_of(&rules).iter().all(is_known), "{:?}", keys_of(&rules));
        }
        let rules = written.spec["rules"].as_array().unwrap();
        let distinct: BTreeSet<_> = rules.iter().map(|rule| rule["name"].to_string()).collect();
        prop_assert_eq!(distinct.len(), rules.len(), "Kyverno refuses two rules of a name");
        let own = rules.iter().rev().take(2);
        let own: Vec<_> = own.map(|rule| rule["name"].as_str().unwrap()).collect();
        prop_assert_eq!(own, ["signing-gate", "signing-gate.references"]);
        let after = plan_policy(&snapshot(&written, &revoked), &KIND);
        prop_assert!(matches!(after.step, Step::UpToDate(_)), "{:?}", after.step);
    }
}
