//! A rule moves from one policy to another.

use std::collections::BTreeSet;

use signingkeyring_core::{
    condition::{Kind, Status},
    ledger::{Change, Leaving, Ledger, Mint, Phase, RuleSettings},
    pass,
    plan::Action,
    policy_ref::{Action as RuleAction, PolicyKind, PolicyRef},
    snapshot::{
        Answer, AskedPolicy, LedgerFound, Place, PolicyFound, Revoked, Snapshot, WriteFailure,
    },
};

use crate::{
    cases::{current, settled},
    world::{AUDIT, ENFORCE, Obstacle, POLICIES, SOAK, World, pipeline},
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
fn a_kind_that_changes_moves_the_rule_before_it_leaves() {
    let [cluster, _, validating, audits] = POLICIES;
    let kinds = PolicyKind::ALL;
    let mut world = settled();
    let policies = |world: &World| world.policies.keys().copied().collect::<Vec<_>>();
    world.ring_mut().kind = kinds[1];
    world.pass(9);
    world.sync_policies();
    assert_eq!(policies(&world), [cluster, validating]);
    world.pass(9);
    assert_eq!(policies(&world), [cluster, validating], "it was not acknowledged");
    // A rotation that is asked for meanwhile waits for both.
    world.ring_mut().token = Some("b".into());
    assert!(world.settle());
    assert_eq!(policies(&world), [validating]);
    assert_eq!(current(&world), 2);
    world.ring_mut().action = RuleAction::Audit;
    assert!(world.settle());
    assert_eq!(policies(&world), [audits]);
    (world.ring_mut().kind, world.ring_mut().action) = (kinds[0], RuleAction::Enforce);
    assert!(world.settle());
    assert_eq!(policies(&world), [cluster]);
    assert_eq!(world.minted, 2);
}

/// A rule arrives, asks, has the old one look away, and leaves it, each when Kyverno has
/// answered with the step before; what asks from the beginning has one step less.
#[test]
fn each_phase_of_a_move_is_acknowledged_before_the_next_begins() {
    let phases = |world: &mut World, kind| {
        world.ring_mut().kind = kind;
        let mut seen = Vec::new();
        for _ in 0..60 {
            world.pass(1);
            let phase = world.ledger.as_ref().unwrap().rule.settings.leaving.map(|l| l.phase);
            if seen.last() != Some(&phase) {
                seen.push(phase);
                // Kyverno has not heard of it: nothing goes on.
                world.ask();
                world.pass(1);
                let now = world.ledger.as_ref().unwrap().rule.settings.leaving.map(|l| l.phase);
                assert_eq!(now, phase);
            }
            world.sync_policies();
            world.load();
            world.ask();
            world.tick(1);
        }
        seen
    };
    let [cluster, validating] = PolicyKind::ALL;
    let mut world = settled();
    let [arriving, arrived, released] =
        [Phase::Arriving, Phase::Arrived, Phase::Released].map(Some);
    assert_eq!(phases(&mut world, validating), [arriving, released, None]);
    assert_eq!(phases(&mut world, cluster), [arriving, arrived, released, None]);
}

/// How far the rule's move has come.
fn phase(world: &World) -> Option<Phase> {
    world.ledger.as_ref().unwrap().rule.settings.leaving.map(|leaving| leaving.phase)
}

/// A second in which everybody does their part.
fn second(world: &mut World) {
    world.sync_policies();
    world.load();
    world.ask();
    world.pass(usize::MAX);
    world.tick(1);
}

/// What is on its way to be admitted has met the new rule when that goes on, whatever the
/// rule moves for.
#[test]
fn a_rule_soaks_where_it_arrives_whatever_it_moves_for() {
    for (first, then) in [(ENFORCE, AUDIT), (AUDIT, ENFORCE)] {
        for kind in PolicyKind::ALL {
            let mut world = settled();
            (world.ring_mut().kind, world.ring_mut().action) = (kind, first.action());
            assert!(world.settle());
            world.ring_mut().action = then.action();
            world.pass(1);
            let begun = world.now;
            while phase(&world) == Some(Phase::Arriving) {
                second(&mut world);
            }
            let took = world.now.duration_since(begun).as_secs();
            assert!(took >= SOAK as i64, "{kind:?} to {then}: after {took} s");
            assert!(world.settle());
            assert_eq!(phase(&world), None);
        }
    }
}

/// Where the policy that a rule was going to is broken for good, it comes back and goes
/// from there where it is asked to be by now.
#[test]
fn a_rule_that_is_asked_elsewhere_turns_around_before_what_is_broken() {
    let [enforce, audit, validating, audits] = POLICIES;
    let mut world = settled();
    world.ring_mut().kind = validating.kind();
    while phase(&world) != Some(Phase::Released) {
        second(&mut world);
    }
    // What it says of the phase cannot be written there.
    world.stuck = Some(validating);
    world.ring_mut().kind = enforce.kind();
    world.ring_mut().action = audit.action();
    world.sync_policies();
    world.load();
    world.ask();
    let broken = world.clone();
    for _ in 0..120 {
        second(&mut world);
    }
    let settings = &world.ledger.as_ref().unwrap().rule.settings;
    assert_eq!((settings.policy, settings.leaving), (audit, None));
    // Where it came from is gone: it has nowhere to turn.
    let mut snapshot = broken.snapshot().unwrap();
    snapshot.served.remove(&enforce.kind());
    (snapshot.ring.kind, snapshot.place.free) = (validating.kind(), audits);
    let gone = pass::plan(&snapshot).actions.into_iter().any(|action| {
        matches!(action, Action::Commit(Change::Rule(rule))
            if rule.policy == audits && rule.leaving == Some(Leaving::beginning(validating)))
    });
    assert!(gone);
}

/// A version that Kyverno accepts is not held up by the phases of a move, and one that was
/// acknowledged signs before a move begins.
#[test]
fn a_rotation_that_kyverno_accepts_goes_before_a_move() {
    let limit = SOAK as i64 + 5;
    // In the middle of a move.
    let mut world = settled();
    world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
    world.pass(1);
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    let minted = world.now;
    while current(&world) == 1 {
        second(&mut world);
    }
    let took = world.now.duration_since(minted).as_secs();
    assert!(took <= limit, "it signs after {took} s");
    assert!(phase(&world).is_some(), "the move has yet to end");
    assert!(world.settle());
    assert_eq!(phase(&world), None);
    // While it soaks, and once it is acknowledged.
    for waits in [1, SOAK - 1, SOAK] {
        let mut world = settled();
        world.ring_mut().token = Some("b".into());
        world.pass(1);
        let minted = world.now;
        for _ in 0..waits {
            world.sync_policies();
            world.load();
            world.ask();
            world.pass(1);
            world.tick(1);
        }
        world.ring_mut().action = RuleAction::Audit;
        while current(&world) == 1 {
            assert_eq!(phase(&world), None);
            second(&mut world);
        }
        let took = world.now.duration_since(minted).as_secs();
        assert!(took <= limit, "after {waits} s it signs after {took} s");
        assert!(world.settle());
        assert_eq!(world.policies.keys().collect::<Vec<_>>(), [&AUDIT]);
    }
}

/// What cannot reach a pipeline holds up no move.
#[test]
fn a_rotation_that_cannot_go_on_lets_the_rule_move() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.forbidden.insert(pipeline(1));
    world.settle();
    assert_eq!(current(&world), 1);
    world.ring_mut().action = RuleAction::Audit;
    for _ in 0..60 {
        second(&mut world);
    }
    assert_eq!(world.policies.keys().collect::<Vec<_>>(), [&AUDIT]);
    world.forbidden.clear();
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

/// What cannot be written can be made to look away no more than it can be left: the rule
/// goes on without it, and a rotation waits until it is out.
#[test]
fn a_policy_that_cannot_be_written_is_left_as_it_stands() {
    let [cluster, _, validating, _] = POLICIES;
    let mut world = settled();
    world.stuck = Some(cluster);
    world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
    for _ in 0..60 {
        world.pass(1);
        world.sync_policies();
        world.load();
        world.ask();
        world.tick(1);
    }
    let settings = &world.ledger.as_ref().unwrap().rule.settings;
    assert_eq!((settings.policy, settings.leaving), (validating, None));
    world.ring_mut().token = Some("b".into());
    world.settle();
    assert_eq!(current(&world), 1);
    world.stuck = None;
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

fn secrets(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The rule that is planned where this is the place for the ring.
fn planned(world: &World, free: PolicyRef) -> Option<RuleSettings> {
    let mut snapshot = world.snapshot().unwrap();
    snapshot.place.free = free;
    pass::plan(&snapshot).actions.into_iter().find_map(|action| match action {
        Action::Commit(Change::Rule(rule)) => Some(rule),
        _ => None,
    })
}

fn commit(world: &mut World, rule: RuleSettings) {
    let change = Change::Rule(rule);
    let next = Ledger::apply(world.ledger.as_ref(), &change, world.now).unwrap();
    world.ledger = Some(next);
}

/// Each ring's rule says its own in a ClusterPolicy, and so does a policy of one ring.
#[test]
fn credentials_change_in_place_where_no_other_ring_has_them() {
    for kind in PolicyKind::ALL {
        let mut world = settled();
        world.ring_mut().kind = kind;
        assert!(world.settle());
        let place = world.ledger.as_ref().unwrap().rule.settings.policy;
        world.ring_mut().credentials = secrets(&["a"]);
        assert!(world.settle());
        let settings = &world.ledger.as_ref().unwrap().rule.settings;
        assert_eq!(
            settings,
            &RuleSettings { credentials: secrets(&["a"]), ..RuleSettings::of(place) }
        );
        let said = world.condition(Kind::PolicyEnforced).unwrap();
        assert_eq!(said.status, Status::True);
        // Where tags are looked up without them, that is said.
        let tags = said.message.contains("with the Secrets a of Kyverno's namespace");
        let flag = said.message.contains("--imagePullSecrets");
        assert_eq!((tags, flag), (kind != PolicyKind::ClusterPolicy, tags), "{said:?}");
        world.ring_mut().credentials.clear();
        assert!(world.settle());
        assert_eq!(world.ledger.as_ref().unwrap().rule.settings, RuleSettings::of(place));
    }
}

#[test]
fn credentials_that_others_share_are_left_by_a_move() {
    let [_, _, first, _] = POLICIES;
    let second = PolicyRef::new(RuleAction::Enforce, 2).of_kind(first.kind());
    let mut world = settled();
    world.ring_mut().kind = first.kind();
    world.ring_mut().credentials = secrets(&["a"]);
    assert!(world.settle());
    assert_eq!(planned(&world, first), None);
    world.ring_mut().credentials = secrets(&["b"]);
    let moving = RuleSettings {
        credentials: secrets(&["b"]),
        leaving: Some(Leaving::beginning(first)),
        left_credentials: secrets(&["a"]),
        ..RuleSettings::of(second)
    };
    assert_eq!(planned(&world, second), Some(moving.clone()));
    assert_eq!(moving.credentials_in(first), &secrets(&["a"]));
    assert_eq!(moving.credentials_in(second), &secrets(&["b"]));
    commit(&mut world, moving);
    assert_eq!(planned(&world, second), None, "it is not acknowledged");
    // Asked back while under way, it turns around.
    world.ring_mut().credentials = secrets(&["a"]);
    let back = RuleSettings {
        credentials: secrets(&["a"]),
        leaving: Some(Leaving { policy: second, phase: Phase::Arrived }),
        left_credentials: secrets(&["b"]),
        ..RuleSettings::of(first)
    };
    assert_eq!(planned(&world, second), Some(back.clone()));
    assert_eq!(planned(&world, first), Some(back));
    // Asked for others meanwhile, and nobody else is in the policy that it leaves.
    world.ring_mut().credentials = secrets(&["c"]);
    let around = planned(&world, first).unwrap();
    assert_eq!((around.policy, around.leaving.map(|l| l.policy)), (first, Some(second)));
    assert_eq!(around.credentials, secrets(&["c"]));
    // To the other kind: what it leaves stays as it is for the others there.
    world.ring_mut().credentials = secrets(&["b"]);
    commit(&mut world, RuleSettings { credentials: secrets(&["b"]), ..RuleSettings::of(second) });
    world.ring_mut().kind = PolicyKind::ClusterPolicy;
    world.ring_mut().credentials = secrets(&["c"]);
    let other = planned(&world, ENFORCE).unwrap();
    assert_eq!((other.policy, other.leaving.map(|l| l.policy)), (ENFORCE, Some(second)));
    assert_eq!(other.credentials_in(second), &secrets(&["b"]));
    assert_eq!(other.credentials_in(ENFORCE), &secrets(&["c"]));
}

/// What others may have, too, does not change because a ring comes back that was lost.
#[test]
fn a_ring_that_recovers_has_the_credentials_of_its_policy_until_it_moves() {
    let [_, _, place, _] = POLICIES;
    let mut world = settled();
    world.ring_mut().kind = place.kind();
    world.ring_mut().credentials = secrets(&["a"]);
    assert!(world.settle());
    world.ledger = None;
    world.ring_mut().credentials = secrets(&["b"]);
    world.ring_mut().recover_after = Some(1);
    let mut actions = world.plan().unwrap().actions.into_iter();
    let rule = actions.find_map(|action| match action {
        Action::Mint(Mint::Recover(recovery)) => Some(recovery.rule),
        _ => None,
    });
    let rule = rule.unwrap();
    assert_eq!((rule.policy, rule.credentials), (place, secrets(&["a"])));
    assert!(world.settle());
    let settings = &world.ledger.as_ref().unwrap().rule.settings;
    assert_eq!((settings.leaving, &settings.credentials), (None, &secrets(&["b"])));
}

/// Two rings of different credentials in one policy: one of them is to leave.
#[test]
fn a_ring_among_others_with_other_credentials_leaves() {
    let [_, _, first, _] = POLICIES;
    let second = PolicyRef::new(RuleAction::Enforce, 2).of_kind(first.kind());
    let mut world = settled();
    world.ring_mut().kind = first.kind();
    assert!(world.settle());
    let mut snapshot = world.snapshot().unwrap();
    snapshot.place = Place { free: second, crowded: true };
    let left = pass::plan(&snapshot).actions.into_iter().any(|action| {
        matches!(action, Action::Commit(Change::Rule(rule))
            if rule.policy == second && rule.leaving == Some(Leaving::beginning(first)))
    });
    assert!(left);
}

/// What Kyverno does not serve any more holds nobody back who leaves it.
#[test]
fn a_kind_that_is_not_served_any_more_is_left_all_the_same() {
    let [cluster, _, validating, _] = POLICIES;
    let mut world = settled();
    world.ring_mut().kind = PolicyKind::ImageValidatingPolicy;
    world.pass(9);
    world.sync_policies();
    world.load();
    world.ask();
    let mut snapshot = world.snapshot().unwrap();
    snapshot.policies.insert(
        cluster,
        AskedPolicy { found: PolicyFound::Absent { failure: None }, answer: Answer::NotAsked },
    );
    snapshot.served.remove(&PolicyKind::ClusterPolicy);
    let left = pass::plan(&snapshot).actions.into_iter().any(|action| {
        matches!(action, Action::Commit(Change::Rule(rule))
            if rule.policy == validating && rule.leaving.is_none())
    });
    assert!(left, "{:?}", pass::plan(&snapshot).actions);
}

/// Kyverno was taken back to one that executes the newer kind in another way, or nobody
/// serves it any more.
#[test]
fn a_rule_leaves_a_kind_that_nobody_executes_any_more() {
    let [cluster, _, validating, _] = POLICIES;
    let mut world = settled();
    world.ring_mut().kind = validating.kind();
    assert!(world.settle());
    world.meets(Obstacle::OlderKyverno(validating.kind()));
    world.ring_mut().token = Some("b".into());
    world.settle();
    assert_eq!(current(&world), 1, "nobody accepts a new one");
    let said = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!(said.status, Status::False);
    assert!(said.message.contains(r#"{"kind":"ClusterPolicy"}"#), "{said:?}");
    // A revoked key leaves it all the same.
    world.ring_mut().revoked.push(Revoked::Version(1));
    world.settle();
    let keys = |world: &World| {
        let rule = world.policies[&validating].rule().unwrap();
        rule.public_keys().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = |key: &String| key.contains("\n1\n");
    assert!(!keys(&world).iter().any(first), "{:?}", keys(&world));

    let mut deleted = world.clone();
    world.ring_mut().kind = cluster.kind();
    assert!(world.settle());
    assert_eq!(world.policies.keys().collect::<Vec<_>>(), [&cluster]);
    assert_eq!(current(&world), 2);

    deleted.enrolled.clear();
    deleted.ring_mut().deleting = true;
    assert!(deleted.settle());
    assert!(deleted.ring.is_none() && deleted.policies.is_empty());
}

/// What stands there is not what is not known to stand anywhere.
#[test]
fn a_lost_ring_whose_kind_nobody_executes_has_a_rule() {
    let [_, _, validating, _] = POLICIES;
    let mut world = settled();
    world.ring_mut().kind = validating.kind();
    assert!(world.settle());
    world.ledger = None;
    world.meets(Obstacle::OlderKyverno(validating.kind()));
    let said = world.condition(Kind::PolicyEnforced).unwrap().message;
    assert!(said.contains("it is not known whether images are verified"), "{said}");
    assert!(!said.contains("no policy holds a rule"), "{said}");
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
    // It would go first, but does not get to the pipeline.
    world.forbidden.insert(pipeline(1));
    world.ring_mut().action = RuleAction::Audit;
    world.pass(1);
    assert!(!acknowledged(&world));
    world.forbidden.clear();
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
    snapshot.ring.kind = PolicyKind::ImageValidatingPolicy;
    let ledger = world.ledger.as_mut().unwrap();
    ledger.rule.settings.policy = AUDIT.of_kind(PolicyKind::ImageValidatingPolicy);
    snapshot.ledger = LedgerFound::Present(ledger.clone());
    snapshot.served.remove(&PolicyKind::ImageValidatingPolicy);
    let report = pass::report(&snapshot);
    let unserved = report.conditions.into_iter().find(|c| c.kind == Kind::PolicyEnforced).unwrap();
    for said in [unaskable, missing, unserved] {
        let stays = "until then its rule stays in policy signing-enforce-0001";
        assert!(said.message.contains(stays), "{said:?}");
        assert!(!said.message.contains("OPEN"), "{said:?}");
        assert!(!said.message.contains("no rule"), "{said:?}");
    }
}

/// A Kyverno of before serves the kind and executes it in another way.
#[test]
fn what_stands_of_a_kind_that_is_not_served_is_not_called_open() {
    let mut snapshot = settled().snapshot().unwrap();
    snapshot.served.clear();
    let said = |snapshot: &Snapshot| {
        let report = pass::report(snapshot);
        report.conditions.into_iter().find(|c| c.kind == Kind::PolicyEnforced).unwrap().message
    };
    let stands = said(&snapshot);
    assert!(stands.contains("it is not known whether images are verified"), "{stands}");
    assert!(!stands.contains("OPEN"), "{stands}");
    for seen in snapshot.policies.values_mut() {
        seen.found = PolicyFound::Absent { failure: None };
    }
    let gone = said(&snapshot);
    assert!(gone.starts_with("OPEN: the cluster does not serve"), "{gone}");
}
