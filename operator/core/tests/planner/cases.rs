//! The planner, case by case: what it does next and what it says.

use crate::world::{ENFORCE, Obstacle, SOAK, World, pipeline};
use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    ledger::{Change, Mint, State},
    plan::Action,
    snapshot::Revoked,
};

pub fn settled() -> World {
    let mut world = World::new();
    assert!(world.settle());
    world
}

pub fn actions(world: &World) -> Vec<Action> {
    world.plan().unwrap().actions
}

pub fn current(world: &World) -> u32 {
    world.ledger.as_ref().unwrap().current().unwrap().number
}

pub fn states(world: &World) -> Vec<(u32, State)> {
    world.ledger.as_ref().unwrap().versions.iter().map(|v| (v.number, v.state())).collect()
}

pub fn rotate(world: &mut World, token: &str) {
    world.ring_mut().token = Some(token.to_owned());
    assert!(world.settle());
}

/// As after a restore of its manifest and its ledger, or when somebody replaces it.
#[test]
fn a_ring_without_finalizer_and_mark_gets_both_by_one_write() {
    let mut world = settled();
    world.ring_mut().finalizer = false;
    assert_eq!(actions(&world), [Action::AddFinalizer(None)]);
    let mark = world.recorded.take();
    assert!(mark.is_some());
    assert_eq!(actions(&world), [Action::AddFinalizer(mark.clone())]);
    world.pass(1);
    assert_eq!((world.recorded.clone(), actions(&world)), (mark, Vec::new()));
}

#[test]
fn a_ring_is_born_in_this_order() {
    let mut world = World::new();
    assert_eq!(actions(&world), [Action::AddFinalizer(None)]);
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::New { version: 1, .. })]));
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::RecordHighWater(_)]));
    world.pass(1);
    assert_eq!(actions(&world), [], "there is no policy yet");
    world.sync_policies();
    assert_eq!(actions(&world), [], "Kyverno has not answered");
    world.load();
    world.ask();
    assert_eq!(actions(&world), [], "the soak has not passed");
    world.tick(SOAK as i64 - 1);
    world.ask();
    assert_eq!(actions(&world), [], "the soak has not passed");
    world.tick(1);
    world.ask();
    let add = [pipeline(1)].into();
    assert_eq!(actions(&world), [Action::Commit(Change::Acknowledge { version: 1, add })]);
    world.pass(1);
    assert!(matches!(
        &actions(&world)[..],
        [
            Action::WriteSecret { version: 1, .. },
            Action::Commit(Change::Activate { version: 1, .. })
        ]
    ));
    world.pass(2);
    assert_eq!(actions(&world), []);
    assert_eq!(current(&world), 1);
}

#[test]
fn the_fourth_rotation_retires_the_first_version() {
    use State::{Accepted, Current, Retired};
    let mut world = settled();
    for token in ["b", "c", "d"] {
        rotate(&mut world, token);
    }
    assert_eq!(states(&world), [(1, Retired), (2, Accepted), (3, Accepted), (4, Current)]);
    assert_eq!(world.minted, 4);
}

#[test]
fn tokens() {
    let mut world = World::new();
    world.ring_mut().token = Some("a".into());
    assert!(world.settle());
    assert_eq!(world.minted, 1, "the value at creation asks for nothing");
    rotate(&mut world, "b");
    rotate(&mut world, "a");
    assert_eq!(world.minted, 2, "a returning value asks for nothing");
    rotate(&mut world, "");
    assert_eq!(world.minted, 2, "an empty value asks for nothing");
    rotate(&mut world, &"x".repeat(254));
    assert_eq!(world.minted, 2, "an overlong value asks for nothing");
    rotate(&mut world, "c");
    assert_eq!(world.minted, 3);
    assert_eq!(world.report().unwrap().observed_rotation.as_deref(), Some("c"));
}

#[test]
fn what_is_asked_during_a_rotation_is_answered_by_one_more() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    world.ring_mut().token = Some("c".into());
    world.pass(9);
    world.ring_mut().token = Some("d".into());
    assert!(world.settle());
    assert_eq!(world.minted, 3);
    assert_eq!(world.report().unwrap().observed_rotation.as_deref(), Some("d"));
}

#[test]
fn the_schedule_is_due_at_a_point_of_the_rings_own() {
    let mut world = settled();
    let day = 86_400;
    world.ring_mut().every = Some(std::time::Duration::from_secs(100 * day));
    let due = world.report().unwrap().next_rotation.unwrap();
    let created = world.ledger.as_ref().unwrap().newest().unwrap().created_at;
    let after = due.duration_since(created).as_secs() / day as i64;
    assert!((90..=100).contains(&after), "due after {after} days");
    world.tick(due.duration_since(world.now).as_secs() - 1);
    assert_eq!(actions(&world), []);
    world.tick(1);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn a_gate_that_opens_starts_the_soak_again() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    world.pass(1);
    world.sync_policies();
    world.load();
    world.ask();
    world.tick(SOAK as i64 - 1);
    world.loaded.clear();
    world.ask();
    world.load();
    world.tick(2);
    world.ask();
    assert_eq!(actions(&world), [], "the soak began anew");
    world.tick(SOAK as i64);
    world.ask();
    assert_ne!(actions(&world), []);
}

/// What says something else in a moment need not be written before.
#[test]
fn a_soak_is_told_of_and_the_moments_between_two_steps_are_passing() {
    let mut world = settled();
    let is_passing = |world: &World| world.report().unwrap().is_passing;
    assert!(!is_passing(&world), "it rests");
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    world.pass(1);
    assert!(is_passing(&world), "the policy has yet to be written");
    world.sync_policies();
    assert!(is_passing(&world), "Kyverno has yet to load it");
    world.load();
    world.ask();
    assert!(!is_passing(&world), "it soaks");
    world.tick(SOAK as i64 - 1);
    world.ask();
    assert!(is_passing(&world), "it is about to switch");
    world.ring_mut().revoked = vec![Revoked::Version(1)];
    assert!(!is_passing(&world), "a revocation is told of at once");
}

#[test]
fn a_silent_kyverno_holds_up_the_switch_and_nothing_else() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.kyverno_up = false;
    for _ in 0..50 {
        world.sync_policies();
        world.ask();
        world.pass(9);
        world.tick(1);
    }
    assert_eq!(current(&world), 1);
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!((enforced.status, enforced.reason), (Status::False, Reason::GateMute));
    world.kyverno_up = true;
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn a_policy_that_cannot_be_written_is_not_kyvernos_fault() {
    let mut world = settled();
    world.stuck = Some(ENFORCE);
    world.ring_mut().token = Some("b".into());
    assert!(!world.settle());
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!(enforced.reason, Reason::PolicyBehind);
    assert!(enforced.message.contains("could not be written"), "{}", enforced.message);
    assert!(enforced.message.ends_with("no room"), "{}", enforced.message);
}

#[test]
fn a_pipeline_that_may_hold_an_older_key_holds_up_the_rotation() {
    let mut world = settled();
    world.forbidden.insert(pipeline(1));
    world.ring_mut().token = Some("b".into());
    assert!(!world.settle());
    assert_eq!(current(&world), 1);
    let text = world.condition(Kind::Reconciling).unwrap().message;
    assert!(text.contains("ci-1/image-signing hold an older key"), "{text}");
    world.ring_mut().pipelines.clear();
    assert!(world.settle());
    assert_eq!(current(&world), 2);
    let published = world.condition(Kind::PipelinesPublished).unwrap();
    assert_eq!(published.reason, Reason::SecretLeftBehind);
    world.forbidden.clear();
    assert!(world.settle());
    assert!(world.secrets.is_empty());
}

#[test]
fn a_pipeline_that_never_held_a_key_does_not() {
    let mut world = World::new();
    world.ring_mut().pipelines.insert(pipeline(2), signingkeyring_core::snapshot::Layout::Cosign);
    world.forbidden.insert(pipeline(2));
    assert!(world.settle());
    rotate(&mut world, "b");
    assert_eq!(current(&world), 2);
    let published = world.condition(Kind::PipelinesPublished).unwrap();
    assert_eq!(published.reason, Reason::AccessNotGranted);
    assert!(
        published
            .message
            .contains("kubectl create rolebinding signingkeyring-pipeline --namespace=ci-2")
    );
}

#[test]
fn nothing_is_minted_over_a_loss() {
    let mut world = settled();
    world.ledger = None;
    world.ring_mut().token = Some("b".into());
    assert_eq!(actions(&world), []);
    let stalled = world.condition(Kind::Stalled).unwrap();
    assert_eq!(stalled.reason, Reason::KeyMaterialLost);
    assert!(world.policies.contains_key(&ENFORCE));
    // It can still be deleted.
    world.enrolled.clear();
    world.ring_mut().deleting = true;
    world.secrets.clear();
    assert!(world.settle());
    assert!(world.ring.is_none() && world.ledger.is_none() && world.policies.is_empty());
}

#[test]
fn a_pipeline_secret_alone_is_evidence_of_a_loss() {
    let mut world = settled();
    world.ledger = None;
    world.policies.clear();
    world.recorded = None;
    world.status.clear();
    assert_eq!(actions(&world), []);
    let stalled = world.condition(Kind::Stalled).unwrap();
    assert_eq!(stalled.reason, Reason::KeyMaterialLost);
    assert!(stalled.message.contains("Secret ci-1/image-signing holds a key of it"));
}

#[test]
fn a_deletion_waits_for_enrolled_namespaces_and_then_leaves_nothing() {
    let mut world = settled();
    world.ring_mut().deleting = true;
    assert!(world.settle());
    assert_eq!(world.condition(Kind::Ready).unwrap().reason, Reason::DeletionBlocked);
    assert!(!world.policies.is_empty());
    world.ring_mut().allow_unenforced = true;
    assert!(world.settle());
    assert!(world.ring.is_none() && world.ledger.is_none());
    assert!(world.secrets.is_empty() && world.policies.is_empty());
}

#[test]
fn a_pipeline_that_comes_back_while_it_is_struck_out_is_not_forgotten() {
    let mut world = settled();
    let layout = world.ring_mut().pipelines.remove(&pipeline(1)).unwrap();
    let strikes = |actions: &[Action]| matches!(actions, [Action::Commit(Change::Publications { strike, .. })] if !strike.is_empty());
    while !strikes(&actions(&world)) {
        assert_ne!(actions(&world), []);
        world.pass(1);
    }
    let seen = world.ledger.as_ref().map(|ledger| ledger.sequence);
    let late = actions(&world);
    // Another replica sees the pipeline in the spec again.
    world.ring_mut().pipelines.insert(pipeline(1), layout);
    for _ in 0..3 {
        world.pass(9);
    }
    assert!(world.secrets.contains_key(&pipeline(1)));
    world.execute_from(seen, &late[0]);
    assert!(world.ledger.as_ref().unwrap().publications.contains(&pipeline(1)));
}

#[test]
fn a_replica_that_has_heard_less_cannot_put_the_older_key_back() {
    let mut world = settled();
    world.ring_mut().keep = 1;
    assert!(world.settle());
    world.ring_mut().token = Some("b".into());
    let activates =
        |actions: &[Action]| matches!(actions, [Action::Commit(Change::Activate { .. })]);
    while !activates(&actions(&world)) {
        world.sync_policies();
        world.load();
        world.ask();
        world.pass(1);
        world.tick(1);
    }
    let seen = world.ledger.as_ref().map(|ledger| ledger.sequence);
    let late = actions(&world);
    // The Secret is deleted, and a replica that just started looks at it.
    world.secrets.clear();
    world.restart();
    world.pass(9);
    world.execute_from(seen, &late[0]);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn conditions_follow_kstatus() {
    let mut world = World::new();
    for _ in 0..40 {
        let Some(report) = world.report() else { break };
        let find = |kind| report.conditions.iter().find(|c| c.kind == kind);
        let ready = find(Kind::Ready).unwrap();
        if find(Kind::Stalled).is_some() {
            assert_eq!(ready.status, Status::False);
        }
        for kind in [Kind::KeysAvailable, Kind::PolicyEnforced, Kind::PipelinesPublished] {
            let part = find(kind).unwrap();
            assert!(ready.status != Status::True || part.status == Status::True, "{part:?}");
        }
        world.sync_policies();
        world.load();
        world.ask();
        world.pass(9);
        world.tick(1);
    }
    assert_eq!(world.condition(Kind::Ready).unwrap().status, Status::True);
    assert_eq!(world.condition(Kind::Reconciling), None);
}

#[test]
fn a_rotation_waits_for_others_and_says_so_and_a_revocation_does_not() {
    let waits = |world: &World| {
        let said = world.condition(Kind::Reconciling);
        said.is_some_and(|said| said.reason == Reason::RotationQueued)
    };
    let mut world = settled();
    world.meets(Obstacle::OthersRotate);
    assert!(!waits(&world), "nothing is due");
    world.ring_mut().token = Some("b".into());
    assert!(waits(&world) && actions(&world).is_empty());
    assert!(world.settle());
    assert_eq!(world.condition(Kind::Ready).unwrap().status, Status::True);
    // One that replaces a revoked key.
    let mut revoked = world.clone();
    revoked.ring_mut().revoked.push(Revoked::Version(1));
    assert!(!waits(&revoked));
    assert!(revoked.settle());
    assert_eq!((current(&revoked), waits(&revoked)), (2, false));
    // And one that has begun.
    world.rid_of(|obstacle| *obstacle == Obstacle::OthersRotate);
    world.pass(1);
    world.meets(Obstacle::OthersRotate);
    assert!(!waits(&world));
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn a_first_version_and_one_to_stand_by_wait_for_nobody() {
    let mut world = World::new();
    world.meets(Obstacle::OthersRotate);
    assert!(world.settle());
    world.ring_mut().standby = true;
    assert!(world.settle());
    assert!(world.ledger.as_ref().unwrap().standby().is_some());
    // To switch to it is a rotation.
    world.ring_mut().token = Some("b".into());
    assert!(world.settle());
    assert_eq!(current(&world), 1);
    world.rid_of(|obstacle| *obstacle == Obstacle::OthersRotate);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn what_is_asked_and_has_to_wait_is_not_answered_by_one_that_stands_by() {
    let mut world = World::new();
    assert!(world.settle());
    world.meets(Obstacle::OthersRotate);
    let ring = world.ring_mut();
    (ring.standby, ring.token) = (true, Some("b".into()));
    assert!(world.settle());
    assert!(world.ledger.as_ref().unwrap().standby().is_some());
    assert_eq!(current(&world), 1);
    assert!(world.plan().unwrap().waits_for_others);
    world.rid_of(|obstacle| *obstacle == Obstacle::OthersRotate);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}
