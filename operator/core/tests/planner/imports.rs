//! Key pairs that are taken over, and that another ring has first.

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    ledger::{Cause, Change, Hold, Ledger, Mint, State},
    plan::Action,
    snapshot::{Finding, ImportFound, Revoked},
};

use crate::{
    cases::{actions, current, states},
    world::World,
};

const DISCARD: Action = Action::Commit(Change::Discard { version: 1 });

/// A ring that has just taken a key pair over, as another one has.
fn sharing() -> World {
    let mut world = World::new();
    world.import = Some(ImportFound::Present);
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::Commit(Change::Begin { .. })]));
    world.pass(1);
    assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::Import { version: 1, .. })]));
    world.pass(1);
    world.shares_key_with = Some("older".parse().unwrap());
    world
}

/// The same, after the planner gave it up and the import was refused.
fn given_up() -> World {
    let mut world = sharing();
    world.pass(1);
    world.import = Some(ImportFound::Failed("ring older knows this key".to_owned()));
    assert!(world.settle());
    world
}

fn is_stalled(world: &World) -> bool {
    let keys = world.condition(Kind::KeysAvailable).unwrap();
    let stalled = world.condition(Kind::Stalled);
    assert_eq!(keys.status, Status::False);
    assert!(world.condition(Kind::Reconciling).is_none());
    stalled.is_some_and(|stalled| {
        stalled.reason == Reason::ImportFailed
            && keys.reason == Reason::ImportFailed
            && stalled.message.contains("ring older knows this key")
    })
}

#[test]
fn a_key_pair_is_taken_over() {
    let mut world = World::new();
    world.import = Some(ImportFound::Present);
    assert!(world.settle());
    assert_eq!((current(&world), world.minted), (1, 1));
    world.ring_mut().token = Some("b".to_owned());
    assert!(world.settle());
    assert_eq!((current(&world), world.minted), (2, 2), "the next one is generated");
}

#[test]
fn the_younger_of_two_rings_gives_the_key_up_once_and_stalls() {
    let mut world = sharing();
    assert_eq!(actions(&world), [DISCARD]);
    assert!(is_stalled(&world));
    // Not even what Kyverno has accepted for long is acknowledged.
    world.sync_policies();
    world.load();
    world.ask();
    world.tick(100);
    world.ask();
    assert_eq!(actions(&world), [DISCARD]);
    world.pass(1);
    assert_eq!(states(&world), [(1, State::Retired)]);
    let ledger = world.ledger.clone().unwrap();
    assert_eq!(ledger.hold(&ledger.versions[0].fingerprint), Hold::GivenUp);
    assert!(ledger.versions[0].private_key().is_none());
    assert!(ledger.accepted().next().is_none());

    // It is tried again, and who executes that finds the key refused.
    let mut tried = world.snapshot().unwrap();
    let plan = signingkeyring_core::pass::plan(&tried);
    assert!(matches!(&plan.actions[..], [Action::Mint(Mint::Import { version: 2, .. })]));
    tried.learn(Finding::ImportFailed("ring older knows this key".to_owned()));
    assert_eq!(
        signingkeyring_core::pass::plan(&tried).actions.iter().find(|a| a.is_commit()),
        None
    );

    let mut world = given_up();
    assert!(is_stalled(&world));
    assert_eq!((world.minted, states(&world)), (1, vec![(1, State::Retired)]));
    let writes = world.writes;
    world.ring_mut().token = Some("b".to_owned());
    world.ring_mut().standby = true;
    world.tick(100_000);
    assert!(world.settle());
    assert_eq!((world.writes, world.minted), (writes, 1), "a token asks for nothing else");
}

#[test]
fn a_ring_that_gave_a_key_up_goes_on_with_another() {
    let mut taken_out = given_up();
    taken_out.import = None;
    assert!(matches!(
        &actions(&taken_out)[..],
        [Action::Mint(Mint::New { version: 2, cause: Cause::First, .. })]
    ));
    let mut changed = given_up();
    changed.import = Some(ImportFound::Present);
    changed.shares_key_with = None;
    for mut world in [taken_out, changed] {
        assert!(world.settle());
        assert_eq!(states(&world), [(1, State::Retired), (2, State::Current)]);
        assert_eq!(world.minted, 2);
        assert_eq!(world.condition(Kind::Ready).unwrap().status, Status::True);
    }
}

#[test]
fn what_is_in_use_or_frozen_is_not_given_up() {
    let mut suspended = sharing();
    suspended.ring_mut().suspend = true;
    suspended.sync_policies();
    suspended.load();
    suspended.ask();
    suspended.tick(100);
    suspended.ask();
    let commits = actions(&suspended).into_iter().filter(Action::is_commit).count();
    assert_eq!(commits, 0, "and it is not acknowledged");

    let mut world = World::new();
    world.import = Some(ImportFound::Present);
    let waits = |ledger: &Ledger| ledger.is_unborn() || ledger.tentative().is_some();
    while world.ledger.as_ref().is_none_or(waits) {
        world.sync_policies();
        world.load();
        world.ask();
        world.pass(1);
        world.tick(1);
    }
    let ledger = world.ledger.as_ref().unwrap();
    assert_eq!(ledger.hold(&ledger.versions[0].fingerprint), Hold::Firm);
    world.shares_key_with = Some("older".parse().unwrap());
    assert!(world.settle());
    assert_eq!(current(&world), 1);
}

#[test]
fn a_revocation_still_comes_first_and_a_revoked_key_is_held_for_ever() {
    let mut world = sharing();
    world.ring_mut().revoked.push(Revoked::Version(1));
    assert!(matches!(&actions(&world)[..], [Action::Commit(Change::Revoke { .. })]));
    world.pass(1);
    let ledger = world.ledger.as_ref().unwrap();
    assert_eq!(ledger.hold(&ledger.versions[0].fingerprint), Hold::Firm);
    assert_eq!(ledger.hold(&"SHA256:other".parse().unwrap()), Hold::Unknown);
    let mut forgotten = ledger.clone();
    let fingerprint = forgotten.versions.remove(0).fingerprint;
    assert_eq!(forgotten.hold(&fingerprint), Hold::Firm);
}
