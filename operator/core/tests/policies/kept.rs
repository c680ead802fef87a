//! What the plan of a policy makes of rules for which no ledger speaks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use signingkeyring_core::{
    ledger::Exclusion,
    policy::{
        Backend, Metadata, PolicyPlan, PolicySnapshot, Source, Step, Write, plan_policy,
        snapshot::{ObjectSeen, PolicySeen, Refused, WrittenSeen},
    },
    policy_ref::{PolicyKind, PolicyRef},
};

use crate::{POLICIES, composed, content, ledger, ledger_in, rendered, renderer, ring, seen};

/// A policy that holds these rings' rules.
fn policy(policy: PolicyRef, rings: &[(&str, u32)]) -> PolicySeen {
    let ledgers: Vec<_> = rings.iter().map(|(ring, versions)| (*ring, ledger(*versions))).collect();
    let ledgers: Vec<_> = ledgers.iter().map(|(ring, ledger)| (*ring, ledger)).collect();
    seen(policy, &rendered(policy, &ledgers))
}

/// The ring `shop` is served; of `lost` there is no ledger.
fn snapshot(policy: PolicyRef, found: ObjectSeen, written: PolicySeen) -> PolicySnapshot {
    let rings = BTreeMap::from([
        ("shop".to_owned(), ring(Some(ledger_in(policy, 1)))),
        ("lost".to_owned(), ring(None)),
    ]);
    let written = WrittenSeen { sent: written.spec, stored: written, is_ahead: false };
    PolicySnapshot { written: Some(written), ..crate::snapshot(policy, found, rings) }
}

fn plan(snapshot: &PolicySnapshot) -> PolicyPlan {
    plan_policy(snapshot, &renderer(snapshot.policy, &[]))
}

/// Where the plan takes the rule of `lost` from, with how many keys.
fn kept(plan: &PolicyPlan) -> Option<(Source, usize)> {
    let (Step::UpToDate(content) | Step::Write(Write { content, .. })) = &plan.step else {
        panic!("{plan:?}")
    };
    let rule = content.rules.get("lost")?;
    Some((rule.source.clone(), rule.rule.public_keys().count()))
}

#[test]
fn what_this_process_wrote_stands_in_for_a_rule_that_somebody_took_out() {
    for of in POLICIES {
        let both = policy(of, &[("shop", 1), ("lost", 2)]);
        for found in [ObjectSeen::Ours(policy(of, &[("shop", 1)])), ObjectSeen::Absent] {
            let plan = plan(&snapshot(of, found, both.clone()));
            assert_eq!(kept(&plan), Some((Source::Written, 2)));
            assert!(matches!(plan.step, Step::Write(_)));
        }
    }
}

/// A mark is raised as easily as a key is put in.
#[test]
fn an_edit_that_raises_the_mark_is_undone_by_what_this_process_wrote() {
    for of in POLICIES {
        let edited = policy(of, &[("shop", 1), ("lost", 3)]);
        let written = policy(of, &[("shop", 1), ("lost", 2)]);
        let plan = plan(&snapshot(of, ObjectSeen::Ours(edited), written));
        assert_eq!(kept(&plan), Some((Source::Written, 2)));
        assert!(matches!(plan.step, Step::Write(_)));
    }
}

/// Where Kyverno refuses the rule that a ring wants, its last one stays, and not
/// what somebody makes of that meanwhile.
#[test]
fn an_edit_of_a_rule_whose_successor_is_refused_is_undone() {
    for of in POLICIES {
        let last = policy(of, &[("shop", 1), ("lost", 1)]);
        let mut edited = last.clone();
        edited.rules.get_mut("shop").unwrap().parts[0].body.digest.0[0] ^= 1;
        edited.spec.0[0] ^= 1;
        let mut snapshot = snapshot(of, ObjectSeen::Ours(edited), last);
        snapshot.rings.get_mut("shop").unwrap().table = Some(Arc::new(ledger_in(of, 2)));
        let wanted = renderer(of, &[]).rule("shop", &ledger_in(of, 2)).whole().digest;
        let refused = Refused { rule: wanted, age: Duration::from_secs(1) };
        snapshot.refused.insert("shop".to_owned(), refused);
        let planned = plan(&snapshot);
        let Step::Write(Write { content, .. }) = &planned.step else { panic!("{planned:?}") };
        assert_eq!(content.rules["shop"].source, Source::Written);
    }
}

/// Another replica has taken the ring down, its ledger included.
#[test]
fn what_this_process_wrote_brings_no_removed_rings_rule_back() {
    for of in POLICIES {
        let written = policy(of, &[("shop", 1), ("lost", 2)]);
        let found = ObjectSeen::Ours(policy(of, &[("shop", 1)]));
        let mut snapshot = snapshot(of, found, written.clone());
        snapshot.rings.get_mut("lost").unwrap().was_removed = true;
        let planned = plan(&snapshot);
        assert_eq!(kept(&planned), None);
        assert!(matches!(planned.step, Step::UpToDate(_)));

        // What stands in the policy leaves it only by a ledger.
        snapshot.found = ObjectSeen::Ours(written);
        assert_eq!(kept(&plan(&snapshot)), Some((Source::Found, 2)));
    }
}

/// By the marks Kyverno is asked whether it has loaded what stands there, and where the
/// lists are gone with their kind, they are read from rules that are what their marks tell.
#[test]
fn a_lost_rings_mark_tells_what_stands_around_its_rule() {
    let lists = [Exclusion { image: "quay.io/jetstack/*".to_owned(), expires: None }];
    for of in POLICIES {
        let kind = renderer(of, &lists);
        let planned = |found| {
            let rings = BTreeMap::from([("lost".to_owned(), ring(None))]);
            plan_policy(&crate::snapshot(of, ObjectSeen::Ours(found), rings), &kind).step
        };
        let before = rendered(of, &[("lost", &ledger(2))]);
        let after = composed(&kind, &before, &content(planned(seen(of, &before))));
        let counts = of.kind().skipped(&after.spec).contains("quay.io/jetstack/*");
        // A rule in a ClusterPolicy has the lists in it, and stays word for word.
        assert_eq!(counts, of.kind() == PolicyKind::ImageValidatingPolicy);
        assert_eq!(before.marks != after.marks, counts, "{}", after.marks);
        let metadata = Metadata { annotations: &after.annotations, labels: &after.labels };
        let told = of.kind().skipped_by_rings(metadata, &after.spec);
        assert_eq!(told.len(), 1, "{of}");
        assert!(matches!(planned(seen(of, &after)), Step::UpToDate(_)), "{of}");
    }
}
