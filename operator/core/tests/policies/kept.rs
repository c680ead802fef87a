//! What the plan of a policy makes of rules for which no ledger speaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use signingkeyring_core::{
    high_water::HighWater,
    ledger::Ledger,
    policy::{
        Backend, PolicyPlan, PolicySnapshot, Source, Step, Write,
        cluster_policy::{Metadata, read},
        plan_policy,
        snapshot::{ObjectSeen, PolicySeen, Refused, RingSeen, WrittenSeen},
    },
};

use crate::{KIND, POLICY, fingerprint, ledger};

/// A policy that holds these rings' rules.
fn policy(rings: &[(&str, u32)]) -> PolicySeen {
    let rules = rings
        .iter()
        .map(|(ring, versions)| ((*ring).to_owned(), KIND.ring_rule(ring, &ledger(*versions))));
    let rendered = KIND.render(rules.collect());
    let metadata = Metadata { annotations: &rendered.annotations, labels: &rendered.labels };
    read(metadata, &rendered.spec, fingerprint)
}

fn ring(table: Option<Ledger>) -> RingSeen {
    RingSeen {
        sound: table.is_some(),
        table: table.map(Arc::new),
        was_removed: false,
        exists: true,
        revoked: Vec::new(),
        remembered: HighWater::default(),
        reported: BTreeSet::new(),
        read_anew: true,
    }
}

/// The ring `shop` is served; of `lost` there is no ledger.
fn snapshot(found: ObjectSeen, written: PolicySeen) -> PolicySnapshot {
    PolicySnapshot {
        policy: POLICY,
        served: true,
        can_be_asked: true,
        found,
        written: Some(WrittenSeen { sent: written.spec, stored: written, is_ahead: false }),
        rings: BTreeMap::from([
            ("shop".to_owned(), ring(Some(ledger(1)))),
            ("lost".to_owned(), ring(None)),
        ]),
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: Timestamp::UNIX_EPOCH,
    }
}

fn plan(found: ObjectSeen, written: PolicySeen) -> PolicyPlan {
    plan_policy(&snapshot(found, written), &KIND)
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
    let both = policy(&[("shop", 1), ("lost", 2)]);
    for found in [ObjectSeen::Ours(policy(&[("shop", 1)])), ObjectSeen::Absent] {
        let plan = plan(found, both.clone());
        assert_eq!(kept(&plan), Some((Source::Written, 2)));
        assert!(matches!(plan.step, Step::Write(_)));
    }
}

/// A mark is raised as easily as a key is put in.
#[test]
fn an_edit_that_raises_the_mark_is_undone_by_what_this_process_wrote() {
    let edited = policy(&[("shop", 1), ("lost", 3)]);
    let plan = plan(ObjectSeen::Ours(edited), policy(&[("shop", 1), ("lost", 2)]));
    assert_eq!(kept(&plan), Some((Source::Written, 2)));
    assert!(matches!(plan.step, Step::Write(_)));
}

/// Where Kyverno refuses the rule that a ring wants, its last one stays, and not
/// what somebody makes of that meanwhile.
#[test]
fn an_edit_of_a_rule_whose_successor_is_refused_is_undone() {
    let last = policy(&[("shop", 1), ("lost", 1)]);
    let mut edited = last.clone();
    edited.rules.get_mut("shop").unwrap().parts[0].body.digest.0[0] ^= 1;
    edited.spec.0[0] ^= 1;
    let mut snapshot = snapshot(ObjectSeen::Ours(edited), last);
    snapshot.rings.get_mut("shop").unwrap().table = Some(Arc::new(ledger(2)));
    let wanted = KIND.rule("shop", &ledger(2)).whole().digest;
    let refused = Refused { rule: wanted, age: Duration::from_secs(1) };
    snapshot.refused.insert("shop".to_owned(), refused);
    let planned = plan_policy(&snapshot, &KIND);
    let Step::Write(Write { content, .. }) = &planned.step else { panic!("{planned:?}") };
    assert_eq!(content.rules["shop"].source, Source::Written);
}

/// Another replica has taken the ring down, its ledger included.
#[test]
fn what_this_process_wrote_brings_no_removed_rings_rule_back() {
    let written = policy(&[("shop", 1), ("lost", 2)]);
    let mut snapshot = snapshot(ObjectSeen::Ours(policy(&[("shop", 1)])), written.clone());
    snapshot.rings.get_mut("lost").unwrap().was_removed = true;
    let plan = plan_policy(&snapshot, &KIND);
    assert_eq!(kept(&plan), None);
    assert!(matches!(plan.step, Step::UpToDate(_)));

    // What stands in the policy leaves it only by a ledger.
    snapshot.found = ObjectSeen::Ours(written);
    assert_eq!(kept(&plan_policy(&snapshot, &KIND)), Some((Source::Found, 2)));
}
