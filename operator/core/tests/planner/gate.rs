//! What the conditions say of each answer to the question whether Kyverno
//! enforces the ring's rule: nothing that is not known.

use std::time::Duration;

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    plan::Action,
    snapshot::{Answer, Silence},
};

use crate::{
    cases::{actions, current, rotate, settled},
    world::{ENFORCE, World},
};

/// The next answer of the policy's gate.
fn heard(world: &mut World, answer: Answer) {
    let wanted = world.ledger.as_ref().unwrap().rule_state();
    world.heard.insert(ENFORCE, (answer, wanted, world.now, world.now));
}

fn silent(silence: Silence) -> Answer {
    Answer::Silent(silence, Duration::from_secs(60))
}

#[test]
fn closed_and_open_are_said_only_where_that_is_known() {
    let mut world = settled();
    let text = || "words".to_owned();
    for (answer, status, reason, words) in [
        (Answer::Open, Status::False, Reason::GateOpen, "OPEN: "),
        (Answer::Unreachable(text()), Status::False, Reason::GateMute, "CLOSED: "),
        (Answer::Unreadable(text()), Status::Unknown, Reason::GateUnreadable, "words"),
        (silent(Silence::Passed), Status::Unknown, Reason::GateSilent, "resourceFilters"),
        (silent(Silence::NoWebhook), Status::Unknown, Reason::GateSilent, "does not take"),
        (
            silent(Silence::LeftOut("namespaceSelector")),
            Status::Unknown,
            Reason::GateSilent,
            "namespaceSelector",
        ),
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

#[test]
fn a_rotation_waits_for_whatever_is_no_answer() {
    for answer in [
        Answer::Open,
        Answer::Unreadable("words".into()),
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
