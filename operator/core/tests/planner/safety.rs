//! The planner when something went wrong: leaked keys, lost and old ledgers,
//! a ring that is frozen.

use std::collections::BTreeSet;

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    high_water::HighWater,
    ledger::{Change, Exclusion, Mint, State},
    pass,
    plan::Action,
    policy_ref::Action as RuleAction,
    snapshot::{Answer, AskedPolicy, Revoked},
};

use crate::{
    cases::{actions, rotate, settled, states},
    world::{AUDIT, World, pipeline},
};

fn revoke(world: &mut World, versions: &[u32]) {
    world.ring_mut().revoked = versions.iter().copied().map(Revoked::Version).collect();
}

fn accepted(world: &World) -> Vec<u32> {
    world.ledger.as_ref().unwrap().accepted().map(|v| v.number).collect()
}

fn reason(world: &World, kind: Kind) -> Reason {
    world.condition(kind).unwrap().reason
}

/// A settled ring with a version that stands by.
fn standing_by() -> World {
    let mut world = settled();
    world.ring_mut().standby = true;
    assert!(world.settle());
    assert_eq!(states(&world), [(1, State::Current), (2, State::Standby)]);
    world
}

#[test]
fn revoking_the_current_version_replaces_it_without_the_soak() {
    let mut world = settled();
    rotate(&mut world, "b");
    revoke(&mut world, &[2]);
    let [Action::Commit(Change::Revoke { versions, promote: None, .. })] = &actions(&world)[..]
    else {
        panic!("{:?}", actions(&world))
    };
    assert_eq!(versions.iter().copied().collect::<Vec<_>>(), [2]);
    world.pass(1);
    assert_eq!(reason(&world, Kind::Ready), Reason::CurrentRevoked);
    assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::New { version: 3, .. })]));
    world.pass(1);
    // Kyverno was not told yet: the leaked key leaves the pipeline all the same.
    let deleted = Action::DeleteSecret(pipeline(1));
    assert!(actions(&world).contains(&deleted), "{:?}", actions(&world));
    // The leaked key leaves the policy first, the next one comes after it.
    world.sync_policies();
    world.sync_policies();
    world.load();
    world.ask();
    let acknowledge = Action::Commit(Change::Acknowledge { version: 3, add: BTreeSet::new() });
    assert!(actions(&world).contains(&acknowledge), "an answer is enough: {:?}", actions(&world));
    assert!(world.settle());
    assert_eq!(accepted(&world), [3, 1]);
    assert_eq!(reason(&world, Kind::RevocationsApplied), Reason::RevocationsApplied);
    assert_eq!(reason(&world, Kind::Ready), Reason::Available);

    // Taking the entry out again changes nothing.
    revoke(&mut world, &[]);
    world.ring_mut().keep = 10;
    assert!(world.settle());
    assert_eq!(accepted(&world), [3, 1]);
}

#[test]
fn a_restart_takes_back_nothing_of_what_was_said_of_a_revocation() {
    let mut world = settled();
    rotate(&mut world, "b");
    revoke(&mut world, &[1]);
    assert!(world.settle());
    let said = world.condition(Kind::RevocationsApplied);
    assert_eq!(said.as_ref().unwrap().status, Status::True);
    world.restart();
    let mut snapshot = world.snapshot().unwrap();
    snapshot.reported.revocations_applied = said.clone();
    let report = pass::report(&snapshot);
    assert_eq!(report.conditions.into_iter().find(|c| c.kind == Kind::RevocationsApplied), said);
}

#[test]
fn revoking_an_old_version_takes_it_out_and_brings_none_back() {
    let mut world = settled();
    for token in ["b", "c", "d"] {
        rotate(&mut world, token);
    }
    assert_eq!(accepted(&world), [4, 3, 2]);
    let fingerprint = world.ledger.as_ref().unwrap().by_number(3).unwrap().fingerprint.clone();
    world.ring_mut().revoked = vec![Revoked::Fingerprint(fingerprint)];
    assert!(world.settle());
    assert_eq!(accepted(&world), [4, 2]);
    assert_eq!(world.minted, 4, "nothing is minted for it");
}

#[test]
fn revoking_all_waits_for_a_replacement_and_says_so() {
    let mut world = settled();
    world.ring_mut().suspend = true;
    revoke(&mut world, &[1]);
    assert!(world.settle());
    assert!(accepted(&world).is_empty() && world.secrets.is_empty());
    let ready = world.condition(Kind::Ready).unwrap();
    assert_eq!((ready.status, ready.reason), (Status::False, Reason::AllRevoked));
    assert!(ready.message.contains("spec.suspend"), "{}", ready.message);
    world.ring_mut().suspend = false;
    assert!(world.settle());
    assert_eq!(accepted(&world), [2]);
    assert_eq!(reason(&world, Kind::Ready), Reason::Available);
}

#[test]
fn a_revocation_of_what_never_existed_is_said_and_not_remembered() {
    let mut world = settled();
    revoke(&mut world, &[2]);
    assert_eq!(actions(&world), []);
    let told = world.condition(Kind::RevocationsApplied).unwrap();
    assert_eq!((told.status, told.reason), (Status::False, Reason::RevocationUnknown));
    assert!(told.message.contains("version 2"), "{}", told.message);
    // Its number is left out, so that no version is born revoked.
    rotate(&mut world, "b");
    assert_eq!(accepted(&world), [3, 1]);
    assert!(world.ledger.as_ref().unwrap().revoked.is_empty());
}

#[test]
fn a_version_revoked_on_its_way_ends_its_rotation() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    assert_eq!(states(&world), [(1, State::Current), (2, State::Pending)]);
    revoke(&mut world, &[2]);
    assert!(world.settle());
    assert_eq!(states(&world), [(1, State::Current), (2, State::Revoked)]);
    let report = world.report().unwrap();
    assert_eq!(report.observed_rotation, None, "the rotation never happened");
    rotate(&mut world, "c");
    assert_eq!(accepted(&world), [3, 1]);
}

#[test]
fn a_rotation_promotes_the_standby_without_asking_kyverno() {
    let mut world = standing_by();
    world.kyverno_up = false;
    world.restart();
    world.ask();
    world.ring_mut().token = Some("b".into());
    for _ in 0..3 {
        world.pass(9);
    }
    assert_eq!(states(&world)[1], (2, State::Current), "{:?}", actions(&world));
    assert_eq!(world.secrets[&pipeline(1)].as_str(), "SHA256:2");
    let report = world.report().unwrap();
    assert_eq!(report.observed_rotation.as_deref(), Some("b"));
    world.kyverno_up = true;
    assert!(world.settle());
    assert_eq!(states(&world)[2], (3, State::Standby));
    assert_eq!(world.minted, 3, "one key a rotation");
}

#[test]
fn a_revocation_promotes_the_standby_in_its_own_commit() {
    let mut world = standing_by();
    world.kyverno_up = false;
    world.restart();
    revoke(&mut world, &[1]);
    world.pass(1);
    assert_eq!(states(&world), [(1, State::Revoked), (2, State::Current)]);
    world.pass(9);
    assert!(actions(&world).iter().any(|a| matches!(a, Action::WriteSecret { version: 2, .. })));
}

#[test]
fn a_standby_that_is_not_wanted_any_more_is_destroyed() {
    let mut world = standing_by();
    world.ring_mut().standby = false;
    assert!(world.settle());
    assert_eq!(states(&world), [(1, State::Current), (2, State::Retired)]);
    assert!(world.key_secrets.is_empty());
    world.ring_mut().keep = 10;
    assert!(world.settle());
    assert_eq!(accepted(&world), [1], "it never signed, so it is never accepted again");
}

/// Its key is gone, or somebody has put something else in its place.
const LOSSES: [fn(&mut World); 2] = [
    |world| world.key_secrets.clear(),
    |world| world.key_secrets.values_mut().for_each(|secret| secret.is_fit = false),
];

#[test]
fn a_standby_whose_key_is_gone_is_replaced() {
    for lose in LOSSES {
        let mut world = standing_by();
        lose(&mut world);
        assert!(world.settle());
        let expected = [(1, State::Current), (2, State::Retired), (3, State::Standby)];
        assert_eq!(states(&world), expected);
        assert_eq!(world.key_secrets.keys().collect::<Vec<_>>(), ["standby-3"]);
    }
}

#[test]
fn a_standby_whose_key_is_gone_does_not_take_over() {
    for lose in LOSSES {
        let mut world = standing_by();
        lose(&mut world);
        revoke(&mut world, &[1]);
        assert!(world.settle());
        assert_eq!(states(&world)[..2], [(1, State::Revoked), (2, State::Retired)]);
        assert!(accepted(&world).contains(&3));
    }
}

#[test]
fn a_suspended_ring_undoes_drift_and_starts_nothing() {
    let mut world = settled();
    world.ring_mut().suspend = true;
    world.ring_mut().token = Some("b".into());
    world.ring_mut().keep = 1;
    world.ring_mut().standby = true;
    assert_eq!(actions(&world), []);
    world.secrets.clear();
    assert!(world.settle());
    assert_eq!(world.secrets[&pipeline(1)].as_str(), "SHA256:1");
    assert_eq!(world.minted, 1);
    world.ring_mut().suspend = false;
    assert!(world.settle());
    assert_eq!(accepted(&world)[1..], [2]);
}

#[test]
fn an_old_ledger_does_nothing_until_the_user_says_how_to_go_on() {
    for witness in ["policy", "annotation", "status"] {
        let mut world = settled();
        let older = world.ledger.clone();
        rotate(&mut world, "b");
        let recorded = world.recorded.clone();
        world.ledger = older;
        if witness != "policy" {
            world.policies.clear();
        }
        if witness != "annotation" {
            world.recorded = None;
        }
        if witness != "status" {
            world.status.clear();
        }
        world.ring_mut().token = Some("c".into());
        assert_eq!(actions(&world), [], "{witness}");
        let stalled = world.condition(Kind::Stalled).unwrap();
        assert_eq!(stalled.reason, Reason::LedgerOutdated);
        assert!(stalled.message.contains("recover-after-version=2"), "{}", stalled.message);
        world.ring_mut().recover_after = Some(1);
        assert_eq!(actions(&world), [], "that is not the last version");
        world.ring_mut().recover_after = Some(2);
        assert!(matches!(&actions(&world)[..], [Action::Mint(Mint::Recover(_))]));
        world.recorded = recorded;
        world.pass(1);
        assert_eq!(world.ledger.as_ref().unwrap().pending().unwrap().number, 3);
        assert_eq!(reason(&world, Kind::KeysAvailable), Reason::FirstVersionPending);
    }
}

/// An older ledger looks like a mark that somebody raised.
#[test]
fn a_mark_above_the_ledger_says_how_to_put_it_right() {
    let mut world = settled();
    let older = world.ledger.clone();
    let exclusion = Exclusion { image: "redis:7".into(), expires: None };
    world.ring_mut().exclude.push(exclusion);
    world.pass(1);
    world.sync_policies();
    world.ledger = older;
    assert_eq!(actions(&world), []);
    let stalled = world.condition(Kind::Stalled).unwrap();
    assert_eq!(stalled.reason, Reason::LedgerOutdated);
    let command = "kubectl annotate clusterpolicy signing-enforce-0001 signing.odj.cloud/rings-";
    assert!(stalled.message.contains(command), "{}", stalled.message);
}

#[test]
fn a_forgotten_revocation_is_noticed() {
    let mut world = settled();
    rotate(&mut world, "b");
    let older = world.ledger.clone();
    revoke(&mut world, &[1]);
    assert!(world.settle());
    world.ledger = older;
    world.policies.clear();
    world.status.clear();
    revoke(&mut world, &[]);
    assert_eq!(actions(&world), []);
    assert_eq!(reason(&world, Kind::Stalled), Reason::LedgerOutdated);
}

#[test]
fn a_lost_ledger_goes_on_when_asked_with_a_number_that_was_never_given_out() {
    let mut world = settled();
    rotate(&mut world, "b");
    world.ledger = None;
    world.ring_mut().token = Some("c".into());
    assert_eq!(actions(&world), []);
    world.ring_mut().recover_after = Some(2);
    world.pass(1);
    let expected = [(1, State::Accepted), (2, State::Accepted), (3, State::Pending)];
    assert_eq!(states(&world), expected, "what status and policy agree on stays in force");
    assert_eq!(world.ledger.as_ref().unwrap().handled("c"), Some(3));
    world.sync_policies();
    world.load();
    world.ask();
    let policies = world.snapshot().unwrap().policies;
    let answered = |seen: &AskedPolicy| matches!(seen.answer, Answer::Answered { .. });
    assert!(policies.values().all(answered));
}

/// A rule stands where it stands, and not where a ledger from before it moved says.
#[test]
fn a_ring_that_goes_on_with_an_old_ledger_goes_on_where_its_rule_stands() {
    let mut world = settled();
    let old = world.ledger.clone();
    world.ring_mut().action = RuleAction::Audit;
    assert!(world.settle());
    world.ledger = old;
    world.ask();
    assert_eq!(reason(&world, Kind::Stalled), Reason::LedgerOutdated);
    world.ring_mut().recover_after = Some(1);
    world.pass(1);
    assert!(world.settle());
    let settings = &world.ledger.as_ref().unwrap().rule.settings;
    assert_eq!((settings.policy, settings.leaving), (AUDIT, None));
}

#[test]
fn a_status_alone_brings_no_version_back() {
    let mut world = settled();
    for token in ["b", "c", "d"] {
        rotate(&mut world, token);
    }
    // Somebody has written to the status. That leaves room for version 1.
    world.ledger = None;
    world.status[2].public_key = world.status[2].public_key.replace('3', "9");
    world.ring_mut().recover_after = Some(4);
    world.pass(1);
    assert_eq!(accepted(&world), [5, 4, 2], "of the others status and policy disagree");
    assert!(world.settle());
    assert_eq!(accepted(&world), [5, 4, 2]);
}

#[test]
fn a_lost_ledger_changes_no_rule_and_hides_no_gap() {
    let mut world = settled();
    world.ledger = None;
    world.ask();
    assert_eq!(reason(&world, Kind::PolicyEnforced), Reason::Enforced);
    world.kyverno_up = false;
    world.ask();
    assert_eq!(reason(&world, Kind::PolicyEnforced), Reason::GateMute);
    world.policies.clear();
    assert_eq!(reason(&world, Kind::PolicyEnforced), Reason::PolicyMissing);
}

#[test]
fn a_ring_that_revokes_while_its_deletion_waits() {
    let mut world = settled();
    rotate(&mut world, "b");
    world.ring_mut().deleting = true;
    revoke(&mut world, &[1]);
    assert!(world.settle());
    assert_eq!(accepted(&world), [2]);
    assert_eq!(reason(&world, Kind::Ready), Reason::DeletionBlocked);
}

#[test]
fn the_annotation_remembers_before_a_pipeline_holds_the_version() {
    let mut world = settled();
    world.ring_mut().token = Some("b".into());
    world.pass(1);
    let [first, ..] = &actions(&world)[..] else { panic!("nothing is done") };
    let mark = HighWater { version: 2, ..HighWater::default() };
    assert_eq!(*first, Action::RecordHighWater(mark));
}
