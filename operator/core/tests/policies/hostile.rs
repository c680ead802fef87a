//! Whatever somebody makes of a policy, its pass does not panic, every ring with
//! a ledger gets the rule that its ledger calls for, and what is written rests.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use signingkeyring_core::{
    high_water::short,
    names,
    policy::{
        Backend, NOBODYS_KEY, PolicySnapshot, Rendered, Step,
        cluster_policy::rules_of,
        plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::Revoked,
};

use crate::{KIND, POLICIES, composed, content, ledger, ledger_in, rendered, renderer, ring, seen};

fn policy(policy: PolicyRef) -> Rendered {
    rendered(policy, &[("lost", &ledger(1)), ("shop", &ledger(1))])
}

/// A way of breaking a value: which place in it, counted through, and how.
#[derive(Clone, Debug)]
struct Edit {
    place: usize,
    how: u8,
    /// Another place, in the value or in a text.
    other: usize,
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
    let other = value.pointer(&all[edit.other % all.len()]).cloned();
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
        8 => {
            if let Value::Array(items) = place {
                items.extend(items.clone());
            }
        }
        // What stands in another place, such as another ring's key.
        9 => *place = other.unwrap_or_default(),
        10 => {
            if let (Value::Array(items), Some(other)) = (place, other) {
                items.insert(0, other);
            }
        }
        11 => {
            if let Value::String(text) = place {
                *text = text.replace("lost", "shop");
            }
        }
        _ => {
            if let Value::String(text) = place {
                let mut letters: Vec<char> = text.chars().collect();
                let at = edit.other % (letters.len() + 1);
                let broken = ['"', '{', ']', '\\', ',', '\'', 'k', '0'];
                letters.splice(at..at, [broken[edit.other / 7 % broken.len()]]);
                letters.truncate(if edit.how == 12 { letters.len() } else { at + 1 });
                *text = letters.into_iter().collect();
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

fn snapshot(policy: PolicyRef, found: &Rendered, revoked: &[Revoked]) -> PolicySnapshot {
    let with = |ring: RingSeen| RingSeen { revoked: revoked.to_vec(), ..ring };
    let rings = BTreeMap::from([
        ("shop".to_owned(), with(ring(Some(ledger_in(policy, 1))))),
        ("lost".to_owned(), with(ring(None))),
    ]);
    crate::snapshot(policy, ObjectSeen::Ours(seen(policy, found)), rings)
}

/// What Kyverno refuses, and what would let one rule stand for another.
fn is_well_formed(policy: PolicyRef, spec: &Value) -> Result<(), TestCaseError> {
    let names = |list: &str| -> Vec<String> {
        let items = spec[list].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = match policy.kind() {
        PolicyKind::ClusterPolicy => "rules",
        PolicyKind::ImageValidatingPolicy => "attestors",
    };
    let named = names(list);
    let distinct: BTreeSet<_> = named.iter().collect();
    prop_assert_eq!(distinct.len(), named.len(), "two of a name");
    if policy.kind() == PolicyKind::ClusterPolicy {
        let own: Vec<_> = named.iter().rev().take(2).collect();
        prop_assert_eq!(own, ["signing-gate", "signing-gate.references"]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn no_policy_is_hostile_enough(
        (policy, marks, high_waters) in proptest::sample::select(&POLICIES[..]).prop_flat_map(|of| {
            let annotations = policy(of).annotations;
            let marks = text(&annotations[names::ANNOTATION_MARKS]);
            (Just(of), marks, text(&annotations[names::ANNOTATION_HIGH_WATER]))
        }),
        edits in proptest::collection::vec(
            (any::<usize>(), 0..14u8, any::<usize>())
                .prop_map(|(place, how, other)| Edit { place, how, other }),
            0..6,
        ),
        revokes in proptest::option::of(prop_oneof![
            Just(Revoked::Version(1)),
            Just(Revoked::Fingerprint("SHA256:1".parse().unwrap())),
        ]),
    ) {
        let kind = renderer(policy, &[]);
        let mut found = self::policy(policy);
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
        let before = snapshot(policy, &found, &revoked);
        let mut written = found.clone();
        // What is revoked leaves first, the rest comes next.
        for _ in 0..2 {
            let planned = plan_policy(&snapshot(policy, &written, &revoked), &kind);
            let planned = content(planned.step);
            written = composed(&kind, &written, &planned);
            prop_assert_eq!(seen(policy, &written).spec, planned.whole.spec.digest);
        }

        // What its object revokes, its ledger takes in before the policies do.
        let table = ledger_in(policy, 1);
        let wanted = kind.rule("shop", &table);
        let stands = seen(policy, &written).rules["shop"].clone();
        prop_assert_eq!(stands.body(), wanted.body());
        // A mark above the ledger's is taken for a newer replica's.
        let ObjectSeen::Ours(before) = &before.found else { unreachable!() };
        let sequence = table.rule.sequence;
        if before.rules.get("shop").is_none_or(|rule| rule.mark.state.sequence <= sequence) {
            // What was out of the rule already does not return if it is to be revoked.
            let less = kind.rule("shop", &table.without(&[short("SHA256:1")].into()));
            let is_wanted = stands.whole() == wanted.whole();
            let rule = if revoked.is_empty() || is_wanted { &wanted } else { &less };
            prop_assert_eq!(stands.whole(), rule.whole());
            prop_assert_eq!(&written.marks.0["shop"], &rule.mark);
        }
        let newest = table.newest().unwrap().public_key.to_string();
        let keys = [newest.as_str(), NOBODYS_KEY];
        let held = policy.kind().keys_of(&written.spec, "shop");
        prop_assert!(held.iter().all(|key| keys.contains(&key.as_str())), "{held:?}");
        prop_assert!(!held.is_empty(), "without a key nothing is verified");
        if policy.kind() == PolicyKind::ClusterPolicy && stands.whole() == wanted.whole() {
            let rules = rules_of(&written.spec, "shop");
            prop_assert!(rules.iter().copied().eq(&KIND.ring_rule("shop", &table).rules));
        }
        is_well_formed(policy, &written.spec)?;
        let after = plan_policy(&snapshot(policy, &written, &revoked), &kind);
        prop_assert!(matches!(after.step, Step::UpToDate(_)), "{:?}", after.step);
    }
}
