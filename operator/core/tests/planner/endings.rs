//! Pipelines whose namespace is being deleted: nothing waits for them, nothing is
//! created there, and nothing is said of a Secret that nobody has seen.

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    ledger::PipelineRef,
    plan::Action,
};

use crate::{
    cases::{actions, current, settled},
    world::{World, pipeline},
};

fn rotates(world: &mut World, token: &str) -> bool {
    world.ring_mut().token = Some(token.to_owned());
    world.settle() && world.report().unwrap().observed_rotation.as_deref() == Some(token)
}

/// What is said of the pipelines.
fn said(world: &World) -> (Status, Reason, String) {
    let told = world.condition(Kind::PipelinesPublished).unwrap();
    (told.status, told.reason, told.message)
}

fn is_listed(world: &World, pipeline: &PipelineRef) -> bool {
    world.ledger.as_ref().unwrap().publications.contains(pipeline)
}

#[test]
fn a_namespace_that_is_being_deleted_holds_no_rotation_back() {
    let mut world = settled();
    world.end_namespace(&pipeline(1));
    assert!(rotates(&mut world, "b"), "{:?}", world.condition(Kind::Reconciling));
    assert_eq!(current(&world), 2);
    let (status, reason, message) = said(&world);
    assert_eq!((status, reason), (Status::False, Reason::NamespaceTerminating));
    assert!(message.contains("ci-1 is being deleted"), "{message}");
    assert!(!message.contains("rolebinding"), "nothing can be created there: {message}");
    assert!(is_listed(&world, &pipeline(1)), "nobody has seen it gone");

    world.namespaces_are_created_anew();
    assert!(world.settle());
    assert_eq!(said(&world).1, Reason::Published);
}

/// Where the operator may still write, it does: what runs there signs on.
#[test]
fn what_can_be_written_there_is_written() {
    let mut world = settled();
    world.terminating.insert(pipeline(1).namespace);
    assert!(rotates(&mut world, "b"));
    let held = world.secrets.get(&pipeline(1)).unwrap();
    assert_eq!(*held, world.ledger.as_ref().unwrap().current().unwrap().fingerprint);
    assert_eq!(said(&world).1, Reason::NamespaceTerminating);

    // What is gone is not created anew.
    world.secrets.clear();
    assert_eq!(actions(&world), []);
    assert!(rotates(&mut world, "c"));
    assert!(world.secrets.is_empty());
}

#[test]
fn of_a_secret_that_nobody_may_look_for_nothing_is_said() {
    let mut world = settled();
    world.end_namespace(&pipeline(1));
    world.secrets.clear();
    world.ring_mut().pipelines.clear();
    assert!(world.settle());
    let (status, reason, message) = said(&world);
    assert_eq!((status, reason), (Status::True, Reason::NamespaceTerminating));
    for claim in ["left behind", "private key", "rolebinding"] {
        assert!(!message.contains(claim), "{claim}: {message}");
    }
    // It is looked for as soon as that is possible.
    world.forbidden.clear();
    assert!(world.settle());
    assert_eq!(said(&world).1, Reason::NoPipelines);
    assert!(!is_listed(&world, &pipeline(1)));
}

#[test]
fn one_that_is_there_is_deleted() {
    let mut world = settled();
    world.terminating.insert(pipeline(1).namespace);
    world.ring_mut().pipelines.clear();
    world.pass(9);
    assert_eq!(actions(&world), [Action::DeleteSecret(pipeline(1))]);
    assert!(world.settle());
    assert_eq!(said(&world).1, Reason::NoPipelines);
}

/// No key of a removed ring is accepted anywhere.
#[test]
fn a_ring_goes_although_the_namespace_of_a_pipeline_hangs() {
    let mut world = settled();
    world.end_namespace(&pipeline(1));
    world.enrolled.clear();
    world.ring_mut().deleting = true;
    assert!(world.settle());
    assert!(world.ring.is_none(), "{:?}", world.condition(Kind::Ready));
}

/// An owner's consent that was withdrawn is another matter.
#[test]
fn a_namespace_that_stays_still_holds_a_rotation_back() {
    let mut world = settled();
    world.forbidden.insert(pipeline(1));
    assert!(!rotates(&mut world, "b"));
    assert_eq!(said(&world).1, Reason::AccessNotGranted);
}
