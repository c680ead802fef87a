//! A rule moves from one policy to another.

use signingkeyring_core::{
    condition::Kind,
    pass,
    policy_ref::Action as RuleAction,
    snapshot::{PolicyFound, WriteFailure},
};

use crate::{
    cases::{current, settled},
    world::{AUDIT, ENFORCE, World},
};

#[test]
fn an_action_that_changes_moves_the_rule_before_it_leaves() {
    let mut world = settled();
    world.ring_mut().action = RuleAction::Audit;
    world.pass(1);
    world.sync_policies();
    assert_eq!(world.policies.len(), 2, "both hold the rule until the new one is acknowledged");
    world.pass(9);
    assert_eq!(world.policies.len(), 2);
    // Turned back while under way.
    world.ring_mut().action = RuleAction::Enforce;
    assert!(world.settle());
    assert_eq!(world.policies.keys().collect::<Vec<_>>(), [&ENFORCE]);
    world.ring_mut().action = RuleAction::Audit;
    assert!(world.settle());
    assert_eq!(world.policies.keys().collect::<Vec<_>>(), [&AUDIT]);
    assert_eq!(world.minted, 1);
}

#[test]
fn a_rule_that_cannot_leave_its_old_policy_holds_up_the_rotation_and_the_end() {
    let mut world = settled();
    world.ring_mut().action = RuleAction::Audit;
    world.pass(1);
    while world.ledger.as_ref().unwrap().rule.settings.leaving.is_some() {
        world.sync_policies();
        world.load();
        world.ask();
        world.pass(1);
        world.tick(1);
    }
    world.stuck = Some(ENFORCE);
    world.ring_mut().token = Some("b".into());
    assert!(!world.settle());
    assert_eq!(current(&world), 1, "the old rule does not accept version 2");
    let text = world.condition(Kind::Reconciling).unwrap().message;
    let expected = "its rule is being taken out of policy signing-enforce-0001, which could not be \
                    written: no room";
    assert!(text.contains(expected), "{text}");
    let mut deleted = world.clone();
    world.stuck = None;
    assert!(world.settle());
    assert_eq!(current(&world), 2);

    deleted.enrolled.clear();
    deleted.ring_mut().deleting = true;
    deleted.settle();
    assert!(deleted.ledger.is_some(), "without a ledger the rule would stay for ever");
    deleted.stuck = None;
    assert!(deleted.settle());
    assert!(deleted.ring.is_none() && deleted.policies.is_empty());
}

#[test]
fn a_version_is_acknowledged_anew_where_the_rule_moves_to() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    world.sync_policies();
    world.load();
    let acknowledged = |world: &World| {
        let ledger = world.ledger.as_ref().unwrap();
        ledger.pending().unwrap().acknowledged_at().is_some()
    };
    while !acknowledged(&world) {
        world.ask();
        world.pass(1);
        world.tick(1);
    }
    world.ring_mut().action = RuleAction::Audit;
    world.pass(1);
    assert!(!acknowledged(&world));
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

/// Of a rule that moves, the policy that it leaves still holds it.
#[test]
fn a_policy_that_cannot_be_created_is_no_gap_while_the_rule_moves_there() {
    let mut world = settled();
    world.ring_mut().action = RuleAction::Audit;
    world.pass(1);
    world.questions_missing = Some("it was deleted".into());
    let unaskable = world.condition(Kind::PolicyEnforced).unwrap();
    world.questions_missing = None;
    let mut snapshot = world.snapshot().unwrap();
    let failure = WriteFailure { refused: false, message: "no room".into() };
    snapshot.policies.get_mut(&AUDIT).unwrap().found =
        PolicyFound::Absent { failure: Some(failure) };
    let report = pass::report(&snapshot);
    let missing = report.conditions.into_iter().find(|c| c.kind == Kind::PolicyEnforced).unwrap();
    for said in [unaskable, missing] {
        let stays = "until then its rule stays in policy signing-enforce-0001";
        assert!(said.message.contains(stays), "{said:?}");
        assert!(!said.message.contains("OPEN"), "{said:?}");
        assert!(!said.message.contains("no rule"), "{said:?}");
    }
}
