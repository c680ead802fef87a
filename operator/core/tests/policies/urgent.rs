//! A revoked key leaves what stands in a policy before anything else is tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::json;
use signingkeyring_core::{
    high_water::{self, HighWater},
    ledger::{Change, Exclusion, Ledger, RuleSettings},
    names,
    policy::{
        Metadata, Part, PolicyPlan, PolicySnapshot, Rendered, Step, Write,
        cluster_policy::{ClusterPolicy, read, rules_of},
        plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
    policy_ref::PolicyKind,
    snapshot::{Difference, Revoked},
};

use crate::{KIND, POLICY, composed, fingerprint, ledger, ledger_in, rendered, renderer, seen};

pub fn ring(table: Ledger, revoked: Vec<Revoked>) -> RingSeen {
    RingSeen {
        table: Some(Arc::new(table)),
        sound: true,
        was_removed: false,
        exists: true,
        revoked,
        remembered: HighWater::default(),
        reported: BTreeSet::new(),
        read_anew: false,
    }
}

pub fn snapshot(found: &Rendered, rings: Vec<(&str, RingSeen)>) -> PolicySnapshot {
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    PolicySnapshot {
        policy: POLICY,
        served: true,
        executed: true,
        can_be_asked: true,
        found: ObjectSeen::Ours(read(metadata, &found.spec, fingerprint)),
        written: None,
        rings: rings.into_iter().map(|(name, ring)| (name.to_owned(), ring)).collect(),
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: Timestamp::UNIX_EPOCH,
    }
}

pub fn revoked(versions: u32, which: u32) -> Ledger {
    let change = Change::Revoke { versions: [which].into(), promote: None, keep: 3 };
    Ledger::apply(Some(&ledger(versions)), &change, Timestamp::UNIX_EPOCH).unwrap()
}

pub fn policy() -> Rendered {
    let rules = ["pay", "shop"].map(|ring| (ring.to_owned(), KIND.ring_rule(ring, &ledger(3))));
    KIND.render(rules.into())
}

/// A list that is new since the policy was written, and large.
fn many() -> Vec<Exclusion> {
    let image = |n: u32| Exclusion { image: format!("quay.io/org/app-{n}:*"), expires: None };
    (0..300).map(image).collect()
}

pub fn write(plan: PolicyPlan) -> Write {
    match plan.step {
        Step::Write(write) => write,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revoked_key_leaves_the_policy_as_it_stands_first() {
    let found = policy();
    let lists = many();
    let kind = ClusterPolicy { excluded: &lists, ..KIND };
    let table = revoked(3, 2);
    let state = table.rule_state();
    let sound = ring(table, Vec::new());
    // One whose private keys are unfit, so that it takes in nothing.
    let stalled = RingSeen { sound: false, ..ring(ledger(3), vec![Revoked::Version(2)]) };
    for shop in [sound, stalled] {
        let knows = shop.sound;
        let rings = vec![("pay", ring(ledger(3), Vec::new())), ("shop", shop)];
        let urgent = write(plan_policy(&snapshot(&found, rings.clone()), &kind));
        assert!(urgent.urgent_for.is_some());
        let rule = |_: &_, ring: &str| rules_of(&found.spec, ring);
        let written = kind.compose(&urgent.content, rule).unwrap();
        assert_eq!(rules_of(&written.spec, "pay"), rules_of(&found.spec, "pay"));
        let shop = json!(rules_of(&written.spec, "shop")).to_string();
        assert!(!shop.contains("quay.io/org"), "nothing else has changed yet");
        let keys: Vec<bool> = (1..=3).map(|n| shop.contains(&format!("\\n{n}\\n"))).collect();
        assert_eq!(keys, [true, false, true]);
        assert!(Part::of(&written.spec).bytes < Part::of(&found.spec).bytes);
        if knows {
            assert_eq!(written.marks.0["shop"].state, state, "RevocationsApplied asks for it");
        }

        // The rest comes next, and then it rests.
        let rest = write(plan_policy(&snapshot(&written, rings.clone()), &kind));
        assert!(rest.urgent_for.is_none());
        let rule = |_: &_, ring: &str| rules_of(&written.spec, ring);
        let all = kind.compose(&rest.content, rule).unwrap();
        assert!(json!(rules_of(&all.spec, "shop")).to_string().contains("quay.io/org"));
        let after = plan_policy(&snapshot(&all, rings), &kind);
        assert!(matches!(after.step, Step::UpToDate(_)), "{after:?}");
    }
}

/// A ledger that was restored does not know yet what the object revokes.
#[test]
fn what_has_left_does_not_return_before_the_ledger_takes_it_in() {
    let narrow = Exclusion { image: "quay.io/org/*".into(), expires: None };
    let lists = [narrow];
    let kind = ClusterPolicy { excluded: &lists, ..KIND };
    let without = ledger(3).without(&[high_water::short("SHA256:2")].into());
    let found = KIND.render([("shop".to_owned(), KIND.ring_rule("shop", &without))].into());
    for (asked, returns) in [(vec![Revoked::Version(2)], false), (Vec::new(), true)] {
        let planned =
            write(plan_policy(&snapshot(&found, vec![("shop", ring(ledger(3), asked))]), &kind));
        let mut keys = planned.content.rules["shop"].rule.public_keys();
        assert_eq!(keys.any(|key| key.contains("\n2\n")), returns);
    }
}

/// In a policy of the other kind what stands around the rules is written once, by
/// whoever writes: no more than that comes along.
#[test]
fn a_revoked_key_leaves_the_other_kind_of_policy_first() {
    let of = POLICY.of_kind(PolicyKind::ImageValidatingPolicy);
    let lists = many();
    let kind = renderer(of, &lists);
    let three = ledger_in(of, 3);
    let found = rendered(of, &[("pay", &three), ("shop", &three)]);
    let table = Ledger::apply(
        Some(&three),
        &Change::Revoke { versions: [2].into(), promote: None, keep: 3 },
        Timestamp::UNIX_EPOCH,
    );
    let table = table.unwrap();
    // Another change of the ring, and one of the other ring, are on their way.
    let settings = RuleSettings { exclude: many(), ..ledger_in(of, 3).rule.settings };
    let changed = Ledger::apply(Some(&table), &Change::Rule(settings), Timestamp::UNIX_EPOCH);
    let rings = || {
        let pay = ring(ledger_in(of, 4), Vec::new());
        BTreeMap::from([
            ("pay".to_owned(), pay),
            ("shop".to_owned(), ring(changed.clone().unwrap(), Vec::new())),
        ])
    };
    let look = |found: &Rendered| crate::snapshot(of, ObjectSeen::Ours(seen(of, found)), rings());
    let urgent = write(plan_policy(&look(&found), &kind));
    assert!(urgent.urgent_for.is_some());
    let written = composed(&kind, &found, &urgent.content);
    let keys = |spec: &serde_json::Value, ring: &str| {
        let keys = of.kind().keys_of(spec, ring);
        (1..=4).map(|n| keys.iter().any(|k| k.contains(&format!("\n{n}\n")))).collect::<Vec<_>>()
    };
    assert_eq!(keys(&written.spec, "shop"), [true, false, true, false]);
    assert_eq!(keys(&written.spec, "pay"), [true, true, true, false]);
    let shop = &urgent.content.rules["shop"].rule;
    assert!(shop.mark.rule.is_empty(), "the rest of the ring's rule is not there");
    assert_eq!(shop.body(), seen(of, &found).rules["shop"].body());

    let rest = write(plan_policy(&look(&written), &kind));
    assert!(rest.urgent_for.is_none());
    let all = composed(&kind, &written, &rest.content);
    assert_eq!(keys(&all.spec, "pay"), [false, true, true, true]);
    assert!(matches!(plan_policy(&look(&all), &kind).step, Step::UpToDate(_)));
}

/// Whoever puts a revoked key back does not hide what else was edited.
#[test]
fn an_urgent_write_that_fails_tells_of_every_other_edit() {
    let mut found = policy();
    let rules = found.spec["rules"].as_array_mut().unwrap();
    rules[1]["verifyImages"][0]["skipImageReferences"] = json!(["*"]);
    let rings =
        vec![("pay", ring(ledger(3), Vec::new())), ("shop", ring(revoked(3, 2), Vec::new()))];
    let snapshot = snapshot(&found, rings);
    let urgent = write(plan_policy(&snapshot, &KIND));
    assert!(urgent.urgent_for.is_some());
    let expected = [("pay", Difference::Other), ("shop", Difference::Keys)];
    let expected = expected.map(|(ring, difference)| (ring.to_owned(), difference));
    assert_eq!(urgent.differences(&snapshot, &KIND), expected.into());
}

#[test]
fn an_urgent_write_takes_no_rule_out_that_lost_its_mark() {
    let mut found = policy();
    let marks = found.annotations.get_mut(names::ANNOTATION_MARKS).unwrap();
    *marks = marks.split(' ').filter(|mark| !mark.starts_with("pay=")).collect();
    let rings =
        vec![("pay", ring(ledger(3), Vec::new())), ("shop", ring(revoked(3, 2), Vec::new()))];
    let urgent = write(plan_policy(&snapshot(&found, rings), &KIND));
    assert!(urgent.urgent_for.is_some() && urgent.content.rules.contains_key("pay"));
}

/// The keys of the ledger's state are there, the rest of its rule is not: that
/// is no acknowledgement of the state.
#[test]
fn an_urgent_mark_says_whether_the_rest_is_there() {
    let found = policy();
    for (lists, whole) in [(Vec::new(), true), (many(), false)] {
        let kind = ClusterPolicy { excluded: &lists, ..KIND };
        let rings = vec![("shop", ring(revoked(3, 2), Vec::new()))];
        let urgent = write(plan_policy(&snapshot(&found, rings), &kind));
        let mark = &urgent.content.rules["shop"].rule.mark;
        assert_eq!(mark.state, revoked(3, 2).rule_state());
        assert_eq!(mark.rule.is_empty(), !whole);
    }
}

/// What stands there may be refused for the rest of it, and the rest be what is
/// to change: the revoked key then leaves with everything else.
#[test]
fn what_is_refused_alone_may_be_written_whole() {
    let many = many();
    let kind = ClusterPolicy { excluded: &many, ..KIND };
    let rings = vec![("shop", ring(revoked(3, 2), Vec::new()))];
    let urgent = write(plan_policy(&snapshot(&policy(), rings), &kind));
    let whole = urgent.beyond_urgent(&kind).unwrap();
    assert_ne!(whole.content.rules["shop"].rule.body(), urgent.content.rules["shop"].rule.body());
    assert_eq!(whole.content.rules["shop"].rule.mark, kind.ring_rule("shop", &revoked(3, 2)).mark);
    assert_eq!(whole.beyond_urgent(&kind), None, "tried once");
}

/// What another ring has on its way does not wait either.
#[test]
fn what_cannot_be_written_is_said_ring_by_ring() {
    let found = policy();
    let rings = vec![("pay", ring(ledger(3), Vec::new())), ("shop", ring(ledger(4), Vec::new()))];
    let snapshot = snapshot(&found, rings);
    let differences = |found: &Rendered| {
        let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
        let mut snapshot = snapshot.clone();
        snapshot.found = ObjectSeen::Ours(read(metadata, &found.spec, fingerprint));
        write(plan_policy(&snapshot, &KIND)).differences(&snapshot, &KIND)
    };
    let one = |ring: &str, difference| BTreeMap::from([(ring.to_owned(), difference)]);
    assert_eq!(differences(&found), one("shop", Difference::Keys));

    let mut edited = found.clone();
    edited.spec["failurePolicy"] = "Ignore".into();
    let all = [("pay", Difference::Other), ("shop", Difference::Other)];
    let all = all.map(|(ring, difference)| (ring.to_owned(), difference));
    assert_eq!(differences(&edited), all.into(), "what stands around the rules is anybody's");

    let mut skips = found;
    let rule = skips.spec["rules"].as_array_mut().unwrap().get_mut(1).unwrap();
    rule["verifyImages"][0]["skipImageReferences"] = json!(["*"]);
    let expected = [("pay", Difference::Other), ("shop", Difference::Keys)];
    let expected = expected.map(|(ring, difference)| (ring.to_owned(), difference));
    assert_eq!(differences(&skips), expected.into());
}
