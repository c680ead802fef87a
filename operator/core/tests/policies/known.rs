//! A kept rule keeps the keys that the ring's ledger or status accepts, and who
//! takes one out has looked whether a newer replica knows it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use signingkeyring_core::{
    high_water::{HighWater, short},
    ledger::{Change, Exclusion, Ledger, RuleSettings},
    policy::{
        Kept, PolicyPlan, Step, Write, plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
    policy_ref::PolicyRef,
};

use crate::{POLICIES, ledger, ledger_in, rendered, renderer, seen, snapshot};

/// The key of a stranger: a version that no ledger of these tests has.
const STRANGER: u32 = 9;

/// A policy that somebody edited: the ring's rule accepts these versions, and
/// its mark is above that of every ledger.
fn edited(policy: PolicyRef, versions: &[u32]) -> ObjectSeen {
    let apply = |ledger: &Ledger, change| {
        Ledger::apply(Some(ledger), &change, Timestamp::UNIX_EPOCH).unwrap()
    };
    let mut of_all = ledger_in(policy, STRANGER);
    for round in 0..40 {
        let pattern = Exclusion { image: "quay.io/org/*".into(), expires: None };
        let exclude = if round % 2 == 0 { vec![pattern] } else { Vec::new() };
        let settings = RuleSettings { exclude, ..of_all.rule.settings.clone() };
        of_all = apply(&of_all, Change::Rule(settings));
    }
    of_all = apply(&of_all, Change::Window { keep: 10 });
    let others = (1..STRANGER).filter(|version| !versions.contains(version));
    let less = of_all.without(&others.map(|version| short(&format!("SHA256:{version}"))).collect());
    let stranger = [short(&format!("SHA256:{STRANGER}"))].into();
    let less = if versions.contains(&STRANGER) { less } else { less.without(&stranger) };
    ObjectSeen::Ours(seen(policy, &rendered(policy, &[("shop", &less)])))
}

fn keys(versions: &[u32]) -> Vec<String> {
    let key = |version: &u32| ledger(*version).newest().unwrap().public_key.to_string();
    versions.iter().map(key).collect()
}

struct Case<'a> {
    found: &'a [u32],
    table: Option<u32>,
    reported: &'a [u32],
    read_anew: bool,
}

fn plan(policy: PolicyRef, case: &Case<'_>) -> PolicyPlan {
    let ring = RingSeen {
        sound: case.table.is_some(),
        table: case.table.map(|versions| Arc::new(ledger_in(policy, versions))),
        was_removed: false,
        exists: true,
        revoked: Vec::new(),
        remembered: HighWater::default(),
        reported: keys(case.reported).into_iter().collect(),
        read_anew: case.read_anew,
    };
    let rings = BTreeMap::from([("shop".to_owned(), ring)]);
    let snapshot = snapshot(policy, edited(policy, case.found), rings);
    plan_policy(&snapshot, &renderer(policy, &[]))
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
    for policy in POLICIES {
        for case in [known(Some(2), &[]), known(None, &[2, 1]), known(Some(1), &[2, 1])] {
            let plan = plan(policy, &case);
            assert!(matches!(plan.step, Step::Write(_)), "{plan:?}");
            assert_eq!(accepted(&plan), keys(&[2, 1]));
        }
    }
}

#[test]
fn no_key_goes_before_ledger_and_status_were_read_anew() {
    for policy in POLICIES {
        for (table, reported) in [(Some(2), &[][..]), (None, &[2, 1])] {
            let case = Case { found: &[STRANGER, 2, 1], table, reported, read_anew: false };
            let plan = plan(policy, &case);
            let Step::ReadAnew(rings) = plan.step else { panic!("{plan:?}") };
            assert_eq!(rings.into_iter().collect::<Vec<_>>(), ["shop"]);
        }
        let case = Case { found: &[2, 1], table: Some(2), reported: &[], read_anew: false };
        assert!(matches!(plan(policy, &case).step, Step::UpToDate(_)), "nothing is in doubt");
    }
}

#[test]
fn a_rule_of_which_nobody_knows_anything_stays_and_its_keys_are_named() {
    for policy in POLICIES {
        let case = Case { found: &[STRANGER, 1], table: None, reported: &[], read_anew: false };
        let plan = plan(policy, &case);
        assert!(matches!(plan.step, Step::UpToDate(_)), "{plan:?}");
        assert_eq!(accepted(&plan), keys(&[STRANGER, 1]));
        let [Kept { unvouched, .. }] = &plan.kept[..] else { panic!("{plan:?}") };
        assert_eq!(*unvouched, ["SHA256:9", "SHA256:1"]);
    }
}

#[test]
fn a_rule_that_is_known_names_no_keys() {
    for policy in POLICIES {
        let case = Case { found: &[2, 1], table: Some(2), reported: &[], read_anew: false };
        assert_eq!(plan(policy, &case).kept[0].unvouched, [""; 0]);
    }
}
