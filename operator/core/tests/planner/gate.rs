//! What the conditions say of each answer to the question whether Kyverno
//! enforces the ring's rule: nothing that is not known.

use std::time::Duration;

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    pass,
    plan::Action,
    policy_ref::PolicyKind,
    snapshot::{Answer, Difference, Silence, Snapshot},
};

use crate::{
    cases::{actions, current, rotate, settled},
    world::{ENFORCE, Obstacle, World},
};

/// The next answer of the policy's gate.
fn heard(world: &mut World, answer: Answer) {
    let wanted = world.ledger.as_ref().unwrap().rule_state();
    world.heard.insert(ENFORCE, (answer, wanted, world.now, world.now));
}

fn open(seconds: u64) -> Answer {
    Answer::Open(Duration::from_secs(seconds))
}

fn silent(silence: Silence) -> Answer {
    Answer::Silent(silence, Duration::from_secs(60))
}

#[test]
fn closed_and_open_are_said_only_where_that_is_known() {
    let mut world = settled();
    let text = || "words".to_owned();
    for (answer, status, reason, words) in [
        (open(60), Status::False, Reason::GateOpen, "OPEN: "),
        (Answer::Unreachable(text()), Status::False, Reason::GateMute, "CLOSED: "),
        (Answer::Slow(text(), Duration::from_secs(60)), Status::Unknown, Reason::GateSlow, "words"),
        (Answer::Unreadable(text()), Status::Unknown, Reason::GateUnreadable, "words"),
        (silent(Silence::Passed), Status::Unknown, Reason::GateSilent, "resourceFilters"),
        (silent(Silence::NoWebhook), Status::Unknown, Reason::GateSilent, "does not take"),
        (
            silent(Silence::LeftOut("namespaceSelector")),
            Status::Unknown,
            Reason::GateSilent,
            "namespaceSelector",
        ),
        (silent(Silence::Unlabelled), Status::Unknown, Reason::GateSilent, "had not the label"),
        (silent(Silence::NotSeen(text())), Status::Unknown, Reason::GateSilent, "words"),
    ] {
        heard(&mut world, answer.clone());
        let enforced = world.condition(Kind::PolicyEnforced).unwrap();
        assert_eq!((enforced.status, enforced.reason), (status, reason), "{answer:?}");
        assert!(enforced.message.contains(words), "{}", enforced.message);
        for word in ["OPEN", "CLOSED"] {
            let said = enforced.message.contains(word);
            assert_eq!(said, words.starts_with(word), "{}", enforced.message);
        }
        let ready = world.condition(Kind::Ready).unwrap();
        assert_eq!((ready.status, ready.reason), (status, reason));
    }
}

/// As where a Kyverno has just started and has yet to write its webhooks.
#[test]
fn a_moment_without_webhooks_is_told_apart_from_a_gate_that_is_open() {
    let newer = ENFORCE.of_kind(PolicyKind::ImageValidatingPolicy);
    let mut world = settled();
    world.ring_mut().kind = newer.kind();
    assert!(world.settle());
    let wanted = world.ledger.as_ref().unwrap().rule_state();
    let none = |seconds| Answer::Silent(Silence::NoWebhook, Duration::from_secs(seconds));
    for (answer, reason) in [
        (open(0), Reason::PolicyPending),
        (none(2), Reason::PolicyPending),
        (none(3), Reason::GateOpen),
        (open(60), Reason::GateOpen),
    ] {
        world.heard.insert(newer, (answer, wanted.clone(), world.now, world.now));
        let enforced = world.condition(Kind::PolicyEnforced).unwrap();
        assert_eq!((enforced.status, enforced.reason), (Status::False, reason), "{enforced:?}");
    }
}

#[test]
fn a_rotation_waits_for_whatever_is_no_answer() {
    for answer in [
        open(60),
        Answer::Unreadable("words".into()),
        Answer::Slow("words".into(), Duration::from_secs(60)),
        silent(Silence::Passed),
        silent(Silence::LeftOut("namespaceSelector")),
    ] {
        let mut world = settled();
        world.ring_mut().token = Some("next".into());
        world.pass(9);
        world.sync_policies();
        heard(&mut world, answer);
        world.tick(1000);
        assert!(actions(&world).iter().all(|a| !matches!(a, Action::WriteSecret { .. })));
        assert_eq!(current(&world), 1);
        rotate(&mut world, "next");
        assert_eq!(current(&world), 2, "it goes on by itself");
    }
}

/// Kyverno answers for the policy, and pods meet more than that.
#[test]
fn what_pins_tags_counts_as_the_policy_does() {
    let mut world = settled();
    world.obstacles = vec![Obstacle::Unwritable(Difference::Unpinned)];
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!((enforced.status, enforced.reason), (Status::False, Reason::PolicyDiffers));
    for words in ["names an image by a tag is refused", "by its digest are verified"] {
        assert!(enforced.message.contains(words), "{}", enforced.message);
    }
    assert!(!enforced.message.contains("does not hold what it should"), "{}", enforced.message);
}

#[test]
fn an_answer_that_took_too_long_changes_no_word_before_more_have() {
    let mut world = settled();
    let before = world.condition(Kind::PolicyEnforced).unwrap();
    let slow = |seconds| Answer::Slow("deadline exceeded".into(), Duration::from_secs(seconds));
    heard(&mut world, slow(14));
    let mut snapshot = world.snapshot().unwrap();
    let enforced = |snapshot: &Snapshot| {
        let conditions = pass::report(snapshot).conditions;
        conditions.into_iter().find(|said| said.kind == Kind::PolicyEnforced).unwrap()
    };
    assert_eq!(enforced(&snapshot).reason, Reason::GateSlow, "nothing is known from before");
    // It is looked again when there is more to say.
    let look_again = pass::report(&snapshot).look_again;
    assert_eq!(look_again, Some(Duration::from_secs(1)));
    snapshot.reported.policy_enforced = Some(before.clone());
    assert_eq!(enforced(&snapshot), before);
    heard(&mut world, slow(15));
    snapshot.policies = world.snapshot().unwrap().policies;
    assert_eq!(enforced(&snapshot).status, Status::Unknown);
}

#[test]
fn a_policy_that_was_just_written_may_be_silent_for_some_seconds() {
    let mut world = settled();
    let short = Answer::Silent(Silence::NoWebhook, Duration::from_secs(5));
    heard(&mut world, short);
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!((enforced.status, enforced.reason), (Status::False, Reason::PolicyPending));
}

#[test]
fn without_the_kind_of_the_questions_nothing_is_claimed() {
    let mut world = settled();
    world.questions_missing = Some("the cluster does not serve it".into());
    world.heard.clear();
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!((enforced.status, enforced.reason), (Status::Unknown, Reason::GateNotServed));
    assert!(enforced.message.contains("the cluster does not serve it"), "{}", enforced.message);

    // A ring whose policy waits for it.
    world.policies.clear();
    let enforced = world.condition(Kind::PolicyEnforced).unwrap();
    assert_eq!((enforced.status, enforced.reason), (Status::False, Reason::GateNotServed));
    assert!(enforced.message.contains("is created once"), "{}", enforced.message);
}

#[test]
fn a_kind_that_is_not_loaded_any_more_is_said_before_a_rotation_is_due() {
    let mut world = settled();
    world.meets(Obstacle::NotLoaded(PolicyKind::ClusterPolicy));
    let ready = world.condition(Kind::Ready).unwrap();
    assert_eq!((ready.status, ready.reason), (Status::False, Reason::CannotRotate), "{ready:?}");
    assert!(ready.message.contains("it is not known whether images are verified"), "{ready:?}");
    assert!(!ready.message.contains("in force"), "{ready:?}");
    assert_eq!(world.condition(Kind::PolicyEnforced).unwrap().reason, Reason::GateSilent);
}
