//! A kept rule keeps the keys that the ring's ledger or status accepts, and who
//! takes one out has looked whether a newer replica knows it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use signingkeyring_core::{
    high_water::HighWater,
    ledger::Ledger,
    policy::{
        Backend, Kept, PolicyPlan, PolicySnapshot, Step, Write,
        cluster_policy::{Metadata, Rule, read},
        plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
};

use crate::{KIND, POLICY, fingerprint, ledger};

/// The key of a stranger: a version that no ledger of these tests has.
const STRANGER: u32 = 9;

/// A policy that somebody edited: the ring's rule accepts these versions, and
/// its mark is above that of every ledger.
fn edited(versions: &[u32]) -> ObjectSeen {
    let mut of_all = ledger(STRANGER);
    of_all = versions.iter().fold(of_all, |ledger, _| ledger);
    let change = signingkeyring_core::ledger::Change::Window { keep: 10 };
    let of_all = Ledger::apply(Some(&of_all), &change, Timestamp::UNIX_EPOCH).unwrap();
    let mut rule = KIND.ring_rule("shop", &of_all);
    rule.mark.state.sequence += 100;
    for rule in &mut rule.rules {
        let entries = rule.pointer_mut("/verifyImages/0/attestors/0/entries").unwrap();
        entries.as_array_mut().unwrap().retain(|entry| {
            let key = entry["keys"]["publicKeys"].as_str().unwrap();
            versions.iter().any(|version| key.lines().nth(1) == Some(&version.to_string()))
        });
    }
    let seen = |rule: &Rule| {
        let rendered = KIND.render(BTreeMap::from([("shop".to_owned(), rule.clone())]));
        let metadata = Metadata { annotations: &rendered.annotations, labels: &rendered.labels };
        read(metadata, &rendered.spec, fingerprint)
    };
    let mut named = seen(&rule).rules["shop"].clone();
    KIND.name("shop", &mut named);
    for (rule, part) in rule.rules.iter_mut().zip(&named.parts) {
        rule["name"] = part.name.as_str().into();
    }
    ObjectSeen::Ours(seen(&rule))
}

fn keys(versions: &[u32]) -> Vec<String> {
    let key = |version: &u32| ledger(*version).newest().unwrap().public_key.clone();
    versions.iter().map(key).collect()
}

struct Case<'a> {
    found: &'a [u32],
    table: Option<u32>,
    reported: &'a [u32],
    read_anew: bool,
}

fn plan(case: &Case<'_>) -> PolicyPlan {
    let ring = RingSeen {
        sound: case.table.is_some(),
        table: case.table.map(|versions| Arc::new(ledger(versions))),
        was_removed: false,
        exists: true,
        revoked: Vec::new(),
        remembered: HighWater::default(),
        reported: keys(case.reported).into_iter().collect(),
        read_anew: case.read_anew,
    };
    let snapshot = PolicySnapshot {
        policy: POLICY,
        served: true,
        can_be_asked: true,
        found: edited(case.found),
        written: None,
        rings: BTreeMap::from([("shop".to_owned(), ring)]),
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: Timestamp::UNIX_EPOCH,
    };
    plan_policy(&snapshot, &KIND)
}

/// The keys that the planned policy accepts of the ring, newest first.
fn accepted(plan: &PolicyPlan) -> Vec<String> {
    let (Step::UpToDate(content) | Step::Write(Write { content, .. })) = &plan.step else {
        panic!("{plan:?}")
    };
    content.rules["shop"].rule.public_keys().map(str::to_owned).collect()
}

#[test]
fn a_strangers_key_goes_whatever_the_mark_says() {
    let known =
        |table, reported| Case { found: &[STRANGER, 2, 1], table, reported, read_anew: true };
    for case in [known(Some(2), &[]), known(None, &[2, 1]), known(Some(1), &[2, 1])] {
        let plan = plan(&case);
        assert!(matches!(plan.step, Step::Write(_)), "{plan:?}");
        assert_eq!(accepted(&plan), keys(&[2, 1]));
    }
}

#[test]
fn no_key_goes_before_ledger_and_status_were_read_anew() {
    for (table, reported) in [(Some(2), &[][..]), (None, &[2, 1])] {
        let case = Case { found: &[STRANGER, 2, 1], table, reported, read_anew: false };
        let plan = plan(&case);
        let Step::ReadAnew(rings) = plan.step else { panic!("{plan:?}") };
        assert_eq!(rings.into_iter().collect::<Vec<_>>(), ["shop"]);
    }
    let case = Case { found: &[2, 1], table: Some(2), reported: &[], read_anew: false };
    assert!(matches!(plan(&case).step, Step::UpToDate(_)), "nothing is in doubt");
}

#[test]
fn a_rule_of_which_nobody_knows_anything_stays_and_its_keys_are_named() {
    let case = Case { found: &[STRANGER, 1], table: None, reported: &[], read_anew: false };
    let plan = plan(&case);
    assert!(matches!(plan.step, Step::UpToDate(_)), "{plan:?}");
    assert_eq!(accepted(&plan), keys(&[STRANGER, 1]));
    let [Kept { unvouched, .. }] = &plan.kept[..] else { panic!("{plan:?}") };
    assert_eq!(*unvouched, ["SHA256:9", "SHA256:1"]);
}

#[test]
fn a_rule_that_is_known_names_no_keys() {
    let case = Case { found: &[2, 1], table: Some(2), reported: &[], read_anew: false };
    assert_eq!(plan(&case).kept[0].unvouched, [""; 0]);
}
