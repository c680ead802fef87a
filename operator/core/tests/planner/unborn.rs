//! A ring that cannot have its first version at once is enrolled and closed all
//! the same: its rule accepts nobody's key.

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    ledger::{Change, Ledger, Mint, State},
    pass,
    plan::Action,
    policy::NOBODYS_KEY,
    policy_ref::Action as RuleAction,
    snapshot::ImportFound,
};

use crate::{
    cases::{actions, current, states},
    world::{AUDIT, ENFORCE, World},
};

fn suspended() -> World {
    let mut world = World::new();
    world.ring_mut().suspend = true;
    world
}

fn importing() -> World {
    let mut world = World::new();
    world.import = Some(ImportFound::Absent);
    world
}

/// The keys that the ring's rule accepts, as Kyverno has loaded it.
fn enforced(world: &World) -> Vec<&str> {
    world.loaded[&ENFORCE].rule().unwrap().public_keys().collect()
}

#[test]
fn a_ring_that_waits_for_its_first_version_has_a_rule_of_nobodys_key() {
    for mut world in [suspended(), importing()] {
        assert!(world.settle());
        assert!(world.ledger.as_ref().unwrap().is_unborn());
        assert_eq!(enforced(&world), [NOBODYS_KEY]);
        assert_eq!(world.minted, 0);
        let said = world.condition(Kind::PolicyEnforced).unwrap();
        assert_eq!((said.status, said.reason), (Status::True, Reason::Enforced));
        assert!(said.message.contains("because there is none yet"), "{}", said.message);
        let keys = world.condition(Kind::KeysAvailable).unwrap();
        assert_eq!(keys.status, Status::False);
        let writes = world.writes;
        assert!(world.settle());
        assert_eq!(world.writes, writes, "it rests");
    }
}

#[test]
fn what_was_asked_of_it_meanwhile_belongs_to_its_first_version() {
    let mut world = suspended();
    world.ring_mut().token = Some("a".into());
    assert!(world.settle());
    world.ring_mut().token = Some("b".into());
    assert!(world.settle());
    world.ring_mut().suspend = false;
    assert!(world.settle());
    assert_eq!((world.minted, states(&world)), (1, vec![(1, State::Current)]));
    assert_eq!(world.ledger.as_ref().unwrap().handled("b"), Some(1));
}

#[test]
fn an_import_that_comes_is_taken_over() {
    let mut world = importing();
    assert!(world.settle());
    world.import = Some(ImportFound::Present);
    assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::Import { version: 1, .. })]));
    world.import = Some(ImportFound::Failed("no".into()));
    assert_eq!(actions(&world), [], "none is minted in its place");
    world.import = None;
    assert!(world.settle());
    assert_eq!(current(&world), 1);
}

#[test]
fn while_others_are_sealed_it_begins_without_a_version() {
    let mut world = World::new();
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::Mint(_)]));
    world.can_seal = false;
    assert!(matches!(&actions(&world)[..], [Action::Commit(Change::Begin { .. })]));
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::New { version: 1, .. })]));
}

/// Nothing is lost with a ledger that has no version.
#[test]
fn an_unborn_ring_that_lost_its_ledger_begins_again() {
    let mut world = suspended();
    assert!(world.settle());
    let before = world.ledger.take().unwrap();
    let [Action::Commit(Change::Begin { above, .. })] = &actions(&world)[..] else {
        panic!("{:?}", actions(&world))
    };
    assert_eq!(*above, before.rule.sequence);
    world.ring_mut().suspend = false;
    assert!(world.settle());
    assert_eq!(current(&world), 1);

    // One that has had a version is lost, whatever somebody makes of marks.
    world.ledger = None;
    world.recorded = None;
    world.status.clear();
    assert_eq!(actions(&world), []);
    assert_eq!(world.condition(Kind::Stalled).unwrap().reason, Reason::KeyMaterialLost);
}

/// The rule stands where it stands until Kyverno has it elsewhere, whatever is asked of
/// the ring by then.
#[test]
fn an_unborn_ring_that_begins_again_begins_where_its_rule_stands() {
    let mut world = suspended();
    assert!(world.settle());
    world.ledger = None;
    world.ring_mut().action = RuleAction::Audit;
    assert!(world.settle());
    let settings = &world.ledger.as_ref().unwrap().rule.settings;
    assert_eq!((settings.policy, settings.leaving), (AUDIT, None));
}

/// What somebody raises while a ring is taken down does not hold that up.
#[test]
fn a_mark_that_is_raised_during_a_deletion_is_outdone() {
    let mut world = World::new();
    assert!(world.settle());
    world.ring_mut().deleting = true;
    world.enrolled.clear();
    world.pass(1);
    let ledger = world.ledger.clone().unwrap();
    assert!(ledger.removed);
    let mut snapshot = world.snapshot().unwrap();
    for witness in &mut snapshot.witnesses {
        witness.sequence = witness.sequence.map(|_| ledger.rule.sequence + 7);
    }
    let actions = pass::plan(&snapshot).actions;
    let [Action::Commit(change @ Change::Remove { .. })] = &actions[..] else {
        panic!("{actions:?}")
    };
    let again = Ledger::apply(Some(&ledger), change, snapshot.now).unwrap();
    assert!(again.rule.sequence > ledger.rule.sequence + 7);
}

#[test]
fn an_unborn_ring_can_be_deleted() {
    let mut world = suspended();
    assert!(world.settle());
    world.ring_mut().deleting = true;
    assert!(world.settle());
    assert_eq!(world.condition(Kind::Ready).unwrap().reason, Reason::DeletionBlocked);
    world.enrolled.clear();
    assert!(world.settle());
    assert!(world.ring.is_none() && world.policies.is_empty() && world.ledger.is_none());
}
