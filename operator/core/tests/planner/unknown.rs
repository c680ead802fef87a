//! A ring that comes although its namespaces were covered as those of no ring.

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    ledger::Change,
    plan::Action,
    policy_ref::{Action as RuleAction, PolicyRef},
    snapshot::{CoverAnswer, CoverFound, CoverSeen},
};

use crate::{
    cases::{actions, current, rotate, settled},
    world::{SOAK, World, pipeline},
};

const COVER: PolicyRef = PolicyRef::unknown(RuleAction::Enforce);

/// What is on its way to `PolicyEnforced` and `Reconciling`.
fn waits(world: &World) -> String {
    world.condition(Kind::Reconciling).unwrap().message
}

fn cover(world: &mut World, found: CoverFound, answer: CoverAnswer) {
    world.covers.insert(COVER, CoverSeen { found, answer });
}

/// A ring whose first version Kyverno has accepted for the soak.
fn accepted() -> World {
    let mut world = World::new();
    for _ in 0..3 {
        world.pass(1);
    }
    world.sync_policies();
    world.load();
    world.ask();
    world.tick(SOAK as i64);
    world.ask();
    world
}

#[test]
fn no_key_signs_before_kyverno_answers_that_the_ring_is_not_covered() {
    let mut world = accepted();
    let unheard = [CoverAnswer::Unheard, CoverAnswer::AsFound, CoverAnswer::Other];
    let named = unheard.map(|answer| (CoverFound::Names, answer));
    let left = [CoverAnswer::Unheard, CoverAnswer::Open, CoverAnswer::Other];
    let left = left.map(|answer| (CoverFound::Others, answer));
    let gone = [CoverAnswer::Unheard, CoverAnswer::Other];
    let gone = gone.map(|answer| (CoverFound::Absent, answer));
    for (found, answer) in named.into_iter().chain(left).chain(gone) {
        cover(&mut world, found, answer);
        assert_eq!(actions(&world), [], "{found:?} {answer:?}");
        let text = waits(&world);
        assert!(
            text.contains("version 1 is pending") && text.contains(&COVER.to_string()),
            "{text}"
        );
        let enforced = world.condition(Kind::PolicyEnforced).unwrap();
        assert_eq!((enforced.status, enforced.reason), (Status::False, Reason::PolicyPending));
    }
    for (found, answer) in
        [(CoverFound::Others, CoverAnswer::AsFound), (CoverFound::Absent, CoverAnswer::Open)]
    {
        cover(&mut world, found, answer);
        let acknowledge =
            Action::Commit(Change::Acknowledge { version: 1, add: [pipeline(1)].into() });
        assert_eq!(actions(&world), [acknowledge], "{found:?} {answer:?}");
    }
}

#[test]
fn a_ring_that_signs_waits_only_if_it_is_named() {
    let mut world = settled();
    cover(&mut world, CoverFound::Others, CoverAnswer::Other);
    assert_eq!(world.condition(Kind::Ready).unwrap().status, Status::True);
    rotate(&mut world, "a");
    assert_eq!(current(&world), 2, "another label changed");
    cover(&mut world, CoverFound::Names, CoverAnswer::AsFound);
    assert_eq!(world.condition(Kind::PolicyEnforced).unwrap().status, Status::False);
    world.ring_mut().token = Some("b".to_owned());
    assert!(!world.settle());
    assert_eq!(current(&world), 2);
    cover(&mut world, CoverFound::Absent, CoverAnswer::Unheard);
    assert!(world.settle());
    assert_eq!(current(&world), 3);
}
