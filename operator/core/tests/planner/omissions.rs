//! What Kyverno leaves out is said, and nothing waits for it.

use std::time::Duration;

use proptest::prelude::*;
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    omissions::{Cause, Omission, Subject, TenantKind, Unseen},
    pass,
    policy_ref::Action,
    snapshot::{Answer, Revoked, Snapshot},
};

use crate::{
    cases::{rotate, settled},
    world::{ENFORCE, World},
};

fn missing() -> Omission {
    Omission::Missing { verifies: false, webhook: "validate.kyverno.svc-fail".into() }
}

fn unseen() -> Omission {
    let why = Unseen { why: "forbidden".into(), cause: Cause::Forbidden };
    Omission::Unseen { what: Subject::Settings, why }
}

fn filtered(namespaces: usize) -> Omission {
    let namespaces = (0..namespaces).map(|number| format!("shop-{number}")).collect();
    Omission::Filtered { filter: "[Pod,shop-*,*]".into(), namespaces }
}

/// What is said of a ring at rest with these omissions.
fn said(omissions: Vec<Omission>, change: impl FnOnce(&mut Snapshot)) -> [Condition; 2] {
    let mut snapshot = settled().snapshot().unwrap();
    snapshot.omissions = Some(omissions);
    change(&mut snapshot);
    let conditions = pass::report(&snapshot).conditions;
    [Kind::EnforcementComplete, Kind::Ready]
        .map(|kind| conditions.iter().find(|said| said.kind == kind).unwrap().clone())
}

fn answered_for(snapshot: &mut Snapshot, seconds: u64) {
    match &mut snapshot.policies.get_mut(&ENFORCE).unwrap().answer {
        Answer::Answered { held, .. } => *held = Duration::from_secs(seconds),
        other => panic!("{other:?}"),
    }
}

fn told_before(snapshot: &mut Snapshot, reason: Reason) {
    snapshot.reported.enforcement_complete = Some(Condition {
        kind: Kind::EnforcementComplete,
        status: Status::True,
        reason,
        message: String::new(),
    });
}

#[test]
fn what_is_certain_is_said_alone_and_ready_repeats_it() {
    let [complete, ready] = said(vec![filtered(7), missing(), unseen()], |_| {});
    assert_eq!((complete.status, complete.reason), (Status::False, Reason::PodsFiltered));
    assert!(complete.message.contains("shop-4 and 2 more"), "{complete:?}");
    assert!(complete.message.contains("validate.kyverno.svc-fail"), "{complete:?}");
    assert!(!complete.message.contains("ConfigMap kyverno/kyverno"), "{complete:?}");
    assert_eq!(ready, Condition { kind: Kind::Ready, ..complete });
}

#[test]
fn what_takes_nothing_from_the_check_is_named_and_changes_nothing() {
    let beside = || {
        let kind = TenantKind::NamespacedImageValidatingPolicy;
        let exception = "exception:shop-dev/e".to_owned();
        let policy = "policy:shop-dev/p".to_owned();
        vec![Omission::Adds { kind, policy }, Omission::ExceptsOthers { exception }]
    };
    let [quiet, ready] = said(Vec::new(), |_| {});
    let [complete, ready_beside] = said(beside(), |_| {});
    assert_eq!((complete.status, complete.reason), (Status::True, Reason::Complete));
    assert!(complete.message.starts_with(&quiet.message), "{complete:?}");
    for name in ["NamespacedImageValidatingPolicy shop-dev/p", "PolicyException shop-dev/e"] {
        assert!(complete.message.contains(name), "{complete:?}");
    }
    assert_eq!(ready_beside, ready);
    // Beside what weighs more nothing is said of them.
    for worse in [missing(), unseen()] {
        let [alone, _] = said(vec![worse.clone()], |_| {});
        let all = [vec![worse], beside()].concat();
        assert_eq!(said(all, |_| {})[0], alone);
    }
}

#[test]
fn what_others_wrote_is_bounded_and_in_one_line() {
    let changed = |number| Omission::Changed { policy: format!("policy:shop-dev/p{number}\n") };
    let [complete, _] = said((0..1000).map(changed).collect(), |_| {});
    assert!(complete.message.ends_with(" and 995 more"), "{complete:?}");
    assert!(!complete.message.contains('\n') && complete.message.len() < 1500, "{complete:?}");
    let who = (0..1000).map(|number| format!("user:u{number}")).collect();
    let [complete, _] = said(vec![Omission::Excluded { who }], |_| {});
    assert!(complete.message.contains("user:u4 and 995 more"), "{complete:?}");
}

#[test]
fn what_cannot_be_seen_leaves_a_ring_ready() {
    let [complete, ready] = said(vec![unseen()], |_| {});
    assert_eq!((complete.status, complete.reason), (Status::Unknown, Reason::NotSeen));
    assert_eq!((ready.status, ready.reason), (Status::True, Reason::Available));
    assert!(ready.message.contains(&complete.message), "{ready:?}");
    // The commonest mistake comes first.
    let [_, ready] = said(vec![unseen()], |snapshot| snapshot.enrolled.clear());
    assert!(ready.message.starts_with("no namespace is enrolled"), "{ready:?}");
}

#[test]
fn kyverno_has_its_time_to_write_its_webhooks_for_a_new_ring() {
    for (seconds, before, status) in [
        (0, None, Status::Unknown),
        (9, None, Status::Unknown),
        (9, Some(Reason::PolicyPending), Status::Unknown),
        (10, None, Status::False),
        (10, Some(Reason::PolicyPending), Status::False),
        // What was there is gone.
        (0, Some(Reason::Complete), Status::False),
        (0, Some(Reason::NotSeen), Status::False),
    ] {
        let [complete, ready] = said(vec![missing()], |snapshot| {
            answered_for(snapshot, seconds);
            if let Some(reason) = before {
                told_before(snapshot, reason);
            }
        });
        assert_eq!(complete.status, status, "{seconds} {before:?}");
        let is_ready = if status == Status::False { Status::False } else { Status::True };
        assert_eq!(ready.status, is_ready, "{seconds} {before:?}");
    }
    // It is looked again then, but not for ever where no Kyverno answers.
    let again = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = settled().snapshot().unwrap();
        snapshot.omissions = Some(vec![missing()]);
        answered_for(&mut snapshot, 0);
        change(&mut snapshot);
        pass::report(&snapshot).look_again
    };
    assert_eq!(again(&|_| {}), Some(Duration::from_secs(10)));
    assert_eq!(again(&|snapshot| snapshot.omissions = Some(Vec::new())), None);
    assert_eq!(again(&|snapshot| snapshot.served.clear()), None);
    // Of other things nothing is held back.
    let [complete, _] = said(vec![missing(), filtered(1)], |snapshot| answered_for(snapshot, 0));
    assert_eq!((complete.status, complete.reason), (Status::False, Reason::PodsFiltered));
}

#[test]
fn until_all_is_looked_at_what_was_said_stands() {
    let nothing_yet = |snapshot: &mut Snapshot| snapshot.omissions = None;
    let [complete, ready] = said(Vec::new(), nothing_yet);
    assert_eq!((complete.status, complete.reason), (Status::Unknown, Reason::PolicyPending));
    assert_eq!(ready.status, Status::True);
    // A new ring has its time afterwards all the same.
    let [complete, _] = said(vec![missing()], |snapshot| {
        answered_for(snapshot, 0);
        told_before(snapshot, complete.reason);
    });
    assert_eq!(complete.reason, Reason::PolicyPending);
    for reason in [Reason::Complete, Reason::PodsFiltered] {
        let [complete, _] = said(Vec::new(), |snapshot| {
            nothing_yet(snapshot);
            told_before(snapshot, reason);
        });
        assert_eq!(complete.reason, reason);
    }
}

#[test]
fn a_rule_that_moves_to_another_action_has_that_time_again() {
    let mut world = settled();
    world.ring_mut().action = Action::Audit;
    world.pass(9);
    let mut snapshot = world.snapshot().unwrap();
    snapshot.omissions = Some(vec![missing()]);
    told_before(&mut snapshot, Reason::Complete);
    let report = pass::report(&snapshot);
    let said = report.conditions.iter().find(|said| said.kind == Kind::EnforcementComplete);
    assert_eq!(said.unwrap().reason, Reason::PolicyPending);
}

#[test]
fn a_ring_that_is_gone_from_the_policies_needs_no_webhook() {
    let mut world = settled();
    world.enrolled.clear();
    world.ring_mut().deleting = true;
    world.pass(1);
    let mut snapshot = world.snapshot().unwrap();
    assert!(snapshot.ledger.table().unwrap().removed);
    snapshot.omissions = Some(vec![missing()]);
    told_before(&mut snapshot, Reason::Complete);
    let report = pass::report(&snapshot);
    let said = report.conditions.iter().find(|said| said.kind == Kind::EnforcementComplete);
    assert_eq!(said.unwrap().status, Status::True);
}

fn any_world() -> impl Strategy<Value = World> {
    (0..6usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(passes, revokes, deletes, kyverno)| {
            let mut world = settled();
            rotate(&mut world, "b");
            world.ring_mut().token = Some("c".into());
            (0..passes).for_each(|_| {
                world.pass(1);
                world.sync_policies();
            });
            if revokes {
                world.ring_mut().revoked = vec![Revoked::Version(1)];
            }
            if deletes {
                world.ring_mut().deleting = true;
            }
            world.kyverno_up = kyverno;
            world.ask();
            world
        },
    )
}

fn omission() -> impl Strategy<Value = Omission> {
    prop_oneof![Just(missing()), Just(unseen()), (1..9usize).prop_map(filtered)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// It is a report: what is done is the same.
    #[test]
    fn nothing_waits_for_it(
        world in any_world(),
        omissions in proptest::collection::vec(omission(), 1..4),
    ) {
        let mut snapshot = world.snapshot().unwrap();
        let before = pass::plan(&snapshot);
        let others = |snapshot: &Snapshot| {
            let conditions = pass::report(snapshot).conditions.into_iter();
            let about = [Kind::EnforcementComplete, Kind::Ready];
            conditions.filter(|said| !about.contains(&said.kind)).collect::<Vec<_>>()
        };
        let said_before = others(&snapshot);
        snapshot.omissions = Some(omissions);
        prop_assert_eq!(format!("{:?}", pass::plan(&snapshot)), format!("{before:?}"));
        prop_assert_eq!(others(&snapshot), said_before);
    }
}
