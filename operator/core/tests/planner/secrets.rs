//! What pipeline Secrets hold counts, not what their annotations say.

use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    ledger::{Change, PipelineRef},
    pass,
    plan::Action,
    snapshot::{Layout, PipelineFound, Snapshot},
};

use crate::{
    cases::{rotate, settled},
    world::{World, pipeline},
};

fn with(world: &World, pipeline: PipelineRef, found: PipelineFound) -> Snapshot {
    let mut snapshot = world.snapshot().unwrap();
    snapshot.pipelines.insert(pipeline, found);
    snapshot
}

fn ours(holds: Option<u32>, intact: bool, leaving: bool) -> PipelineFound {
    PipelineFound::Ours { holds, layout: Some(Layout::Cosign), intact, fixed: false, leaving }
}

fn published(snapshot: &Snapshot) -> Condition {
    let conditions = pass::report(snapshot).conditions;
    conditions.into_iter().find(|c| c.kind == Kind::PipelinesPublished).unwrap()
}

/// A ring of two versions whose pipeline was taken out of the spec and is
/// leaving the ledger.
fn taken_out() -> World {
    let mut world = settled();
    rotate(&mut world, "b");
    world.ring_mut().pipelines.clear();
    world.pass(9);
    assert!(world.secrets.contains_key(&pipeline(1)));
    world
}

#[test]
fn an_old_pair_and_a_wrong_password_are_written_over() {
    let mut world = settled();
    rotate(&mut world, "b");
    for (holds, intact) in [(Some(1), true), (None, false), (Some(2), false)] {
        let snapshot = with(&world, pipeline(1), ours(holds, intact, false));
        let actions = pass::plan(&snapshot).actions;
        let [Action::WriteSecret { version: 2, drifted, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(*drifted, !intact);
        let told = published(&snapshot);
        if holds != Some(2) {
            assert_eq!((told.status, told.reason), (Status::False, Reason::PublicationPending));
        }
    }
    let right = with(&world, pipeline(1), ours(Some(2), true, false));
    assert_eq!(pass::plan(&right).actions, []);
}

#[test]
fn a_secret_that_somebody_holds_up_is_deleted_once_and_struck_out_when_it_is_gone() {
    let world = taken_out();
    let there = with(&world, pipeline(1), ours(Some(2), true, false));
    assert_eq!(pass::plan(&there).actions, [Action::DeleteSecret(pipeline(1))]);
    let leaving = with(&world, pipeline(1), ours(Some(2), true, true));
    assert_eq!(pass::plan(&leaving).actions, []);
    let told = published(&leaving);
    assert_eq!(told.reason, Reason::SecretLeftBehind);
    assert!(told.message.contains("finalizers"), "{}", told.message);
    let gone = with(&world, pipeline(1), PipelineFound::Absent);
    let strike = [pipeline(1)].into();
    let struck = Change::Publications { add: Default::default(), strike };
    assert_eq!(pass::plan(&gone).actions, [Action::Commit(struck)]);
}

#[test]
fn a_live_key_is_not_forgotten_because_its_secret_does_not_name_the_ring() {
    let world = taken_out();
    for found in [
        PipelineFound::Foreign { ring: None, holds: Some(2) },
        PipelineFound::OursUnknownKey { holds: Some(1) },
    ] {
        let snapshot = with(&world, pipeline(1), found);
        assert_eq!(pass::plan(&snapshot).actions, [], "it is not touched, and not forgotten");
        let told = published(&snapshot);
        assert_eq!(told.reason, Reason::SecretLeftBehind);
        assert!(told.message.contains("kubectl delete secret"), "{}", told.message);
    }
    for found in [
        PipelineFound::Foreign { ring: None, holds: None },
        PipelineFound::OursUnknownKey { holds: None },
    ] {
        let snapshot = with(&world, pipeline(1), found);
        let actions = pass::plan(&snapshot).actions;
        assert!(matches!(&actions[..], [Action::Commit(Change::Publications { .. })]));
    }
}

/// It may be the last copy of the key that signs.
#[test]
fn while_a_ledger_is_lost_nobody_is_told_to_delete_a_secret() {
    let mut world = settled();
    world.ledger = None;
    let told = published(&world.snapshot().unwrap());
    assert_eq!(told.reason, Reason::SecretConflict);
    assert!(!told.message.contains("delete"), "{}", told.message);
}

/// Following the advice is not to take another ring's Secret away.
#[test]
fn a_conflict_names_the_owner_and_no_deletion_of_what_is_a_rings() {
    let world = settled();
    let foreign = |ring: Option<&str>| {
        let ring = ring.map(|ring| ring.parse().unwrap());
        published(&with(&world, pipeline(1), PipelineFound::Foreign { ring, holds: None }))
    };
    let told = foreign(Some("billing"));
    assert_eq!(told.reason, Reason::SecretConflict);
    assert!(told.message.contains("ring billing") && told.message.contains("secretName"));
    assert!(!told.message.contains("delete"), "{}", told.message);
    let told = foreign(None).message;
    let (name, delete) = (told.find("secretName").unwrap(), told.find("kubectl delete").unwrap());
    assert!(name < delete, "another name comes first: {told}");
}

#[test]
fn a_secret_that_nobody_can_change_is_not_written_in_vain_and_its_deletion_helps() {
    let mut world = settled();
    world.fixed.insert(pipeline(1));
    assert_eq!(published(&world.snapshot().unwrap()).reason, Reason::Published);
    world.ring_mut().token = Some("b".into());
    assert!(!world.settle(), "it holds an older key");
    let command = "kubectl delete secret image-signing --namespace=ci-1";
    for (kind, reason) in [
        (Kind::PipelinesPublished, Reason::SecretImmutable),
        (Kind::Stalled, Reason::SecretImmutable),
        (Kind::Reconciling, Reason::Rotating),
    ] {
        let told = world.condition(kind).unwrap();
        assert_eq!(told.reason, reason, "{told:?}");
        assert!(told.message.contains(command), "{told:?}");
    }
    world.secrets.remove(&pipeline(1));
    world.fixed.clear();
    assert!(world.settle());
    assert_eq!(world.condition(Kind::Ready).unwrap().status, Status::True);
}
