//! What the gates said, and since when.

use signingkeyring_core::{marks::Short, policy_ref::Action};

use super::*;

const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

fn marks(text: &str) -> Response {
    Response::Marks(text.parse().unwrap())
}

fn wanted(key_set: &str) -> HashMap<RingName, Wanted> {
    let state = RuleState { sequence: 1, key_set: key_set.into() };
    let stands = Some(Mark { state: state.clone(), rule: Short::default() });
    HashMap::from([("shop".parse().unwrap(), Wanted { state, stands, covered: Some(false) })])
}

/// So many are asked in the same way: what one of them says is true of itself alone.
const MEMBERS: usize = 400;

/// Answered as soon as asked. What failed is asked again.
fn record(gate: &Gate, response: Response, at: Instant, wanted: &HashMap<RingName, Wanted>) {
    let heard = gate.record(POLICY, response.clone(), (at, at), MEMBERS, wanted).unwrap();
    if heard.is_suspect {
        gate.record(POLICY, response, (at, at), MEMBERS, wanted).unwrap();
    }
}

fn held(gate: &Gate) -> Duration {
    match gate.answer(POLICY, "shop") {
        Answer::Answered { held, .. } => held,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_held_from_the_first_to_the_last_time_it_was_heard() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    record(&gate, marks("shop=1.aa"), start, &wanted("aa"));
    assert_eq!(held(&gate), Duration::ZERO);
    record(&gate, marks("shop=1.aa"), start + 3 * second, &wanted("aa"));
    assert_eq!(held(&gate), 3 * second);

    record(&gate, Response::Open, start + 4 * second, &wanted("aa"));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Open(Duration::ZERO));
    record(&gate, marks("shop=1.aa"), start + 5 * second, &wanted("aa"));
    assert_eq!(held(&gate), Duration::ZERO, "an open gate starts the soak again");

    record(&gate, marks("shop=1.aa"), start + 6 * second, &wanted("bb"));
    assert_eq!(held(&gate), Duration::ZERO, "a new key set starts it again");
    record(&gate, marks("shop=2.bb"), start + 7 * second, &wanted("bb"));
    record(&gate, marks("shop=2.bb"), start + 9 * second, &wanted("bb"));
    assert_eq!(held(&gate), 2 * second);
}

/// A ring that has rested for long would be said to be behind as soon as it begins to rotate.
#[tokio::test(start_paused = true)]
async fn what_was_answered_to_another_state_counts_for_no_time() {
    let (gate, start) = (Gate::default(), Instant::now());
    let minute = Duration::from_secs(60);
    let state = |key_set: &str| RuleState { sequence: 1, key_set: key_set.into() };
    let held = |key_set: &str| match gate.answer_to(POLICY, "shop", &state(key_set)) {
        Answer::Answered { held, mark, .. } => (held, mark.unwrap().state.key_set),
        other => panic!("{other:?}"),
    };
    record(&gate, marks("shop=1.aa"), start, &wanted("aa"));
    record(&gate, marks("shop=1.aa"), start + minute, &wanted("aa"));
    assert_eq!(held("aa"), (minute, "aa".into()));
    assert_eq!(held("bb"), (Duration::ZERO, "aa".into()));
    record(&gate, marks("shop=1.aa"), start + minute * 2, &wanted("bb"));
    record(&gate, marks("shop=1.aa"), start + minute * 3, &wanted("bb"));
    assert_eq!(held("bb"), (minute, "aa".into()));
}

#[tokio::test(start_paused = true)]
async fn another_rule_than_the_policys_is_behind_and_does_not_touch_the_soak() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let mut wanted = wanted("aa");
    for wanted in wanted.values_mut() {
        wanted.stands.as_mut().unwrap().rule = "new".into();
    }
    let said = || match gate.answer(POLICY, "shop") {
        Answer::Answered { held, behind, .. } => (held, behind),
        other => panic!("{other:?}"),
    };
    record(&gate, marks("shop=1.aa.old"), start, &wanted);
    record(&gate, marks("shop=1.aa.old"), start + 20 * second, &wanted);
    assert_eq!(said(), (20 * second, 20 * second));
    record(&gate, marks("shop=1.aa.new"), start + 21 * second, &wanted);
    assert_eq!(said(), (21 * second, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_soak_begins_when_nothing_else_covers_the_ring() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let mut wanted = wanted("aa");
    let mut ask = |covered, after: u32| {
        wanted.values_mut().for_each(|wanted| wanted.covered = covered);
        record(&gate, marks("shop=1.aa"), start + after * second, &wanted);
        held(&gate)
    };
    assert_eq!(ask(None, 0), Duration::ZERO);
    assert_eq!(ask(Some(true), 5), 5 * second);
    assert_eq!(ask(Some(false), 9), Duration::ZERO);
    assert_eq!(ask(Some(false), 12), 3 * second);
    assert_eq!(ask(None, 13), 4 * second, "what is not certain changes nothing");
    assert_eq!(ask(Some(true), 14), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_covers_no_ring_is_compared_as_a_whole() {
    let gate = Gate::default();
    let policy = PolicyRef::unknown(Action::Audit);
    let now = Instant::now();
    let stands: Marks = "signing-gate.unknown=2.aa.bb".parse().unwrap();
    assert_eq!(gate.cover(policy, Some(&stands)), CoverAnswer::Unheard);
    for (response, answer) in [
        (Response::Marks(stands.clone()), CoverAnswer::AsFound),
        (marks("signing-gate.unknown=1.aa.bb"), CoverAnswer::Other),
        (Response::Open, CoverAnswer::Open),
        (Response::Silent(Silence::Passed), CoverAnswer::Open),
        (Response::Silent(Silence::LeftOut("namespaceSelector")), CoverAnswer::Unheard),
        (Response::Unreachable("down".to_owned()), CoverAnswer::Unheard),
        (Response::Slow("deadline exceeded".to_owned()), CoverAnswer::Unheard),
    ] {
        let hear = || gate.record(policy, response.clone(), (now, now), MEMBERS, &HashMap::new());
        if hear().unwrap().is_suspect {
            hear().unwrap();
        }
        assert_eq!(gate.cover(policy, Some(&stands)), answer);
    }
    gate.record(policy, Response::Marks(stands), (now, now), MEMBERS, &HashMap::new()).unwrap();
    assert_eq!(gate.cover(policy, None), CoverAnswer::Other, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_counts_from_when_it_was_in() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let wanted = wanted("aa");
    let times = (start, start + 4 * second);
    gate.record(POLICY, marks("shop=1.aa"), times, MEMBERS, &wanted).unwrap();
    assert_eq!(held(&gate), Duration::ZERO);
    let times = (start + 5 * second, start + 9 * second);
    gate.record(POLICY, marks("shop=1.aa"), times, MEMBERS, &wanted).unwrap();
    assert_eq!(held(&gate), second);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_asked_every_second_and_what_rests_is_not() {
    let gate = Gate::default();
    let now = Instant::now();
    assert_eq!(gate.due(POLICY, false, now), Due::At(now));
    record(&gate, marks("shop=1.aa"), now, &wanted("aa"));
    assert_eq!(gate.due(POLICY, false, now), Due::InTurn);
    assert_eq!(gate.due(POLICY, true, now), Due::At(now + ACTIVE_INTERVAL));
    let fails = || gate.record(POLICY, Response::Open, (now, now), MEMBERS, &wanted("aa")).unwrap();
    assert!(fails().is_suspect);
    assert_eq!(gate.due(POLICY, false, now), Due::At(now + SUSPECT_INTERVAL));
    let late = (now, now + PATIENCE);
    assert!(!gate.record(POLICY, Response::Open, late, MEMBERS, &wanted("aa")).unwrap().is_suspect);
    assert_eq!(gate.due(POLICY, false, now), Due::At(now + ACTIVE_INTERVAL), "from the question");
    for _ in 0..FAILING_AFTER {
        fails();
    }
    assert_eq!(gate.due(POLICY, false, now), Due::At(now + FAILING_INTERVAL));
}

/// However long an answer takes: what was held is counted from it.
#[tokio::test(start_paused = true)]
async fn a_soak_of_a_second_is_over_with_the_second_answer() {
    let (gate, start) = (Gate::default(), Instant::now());
    let takes = Duration::from_millis(200);
    let ask = |at: Instant| {
        gate.record(POLICY, marks("shop=1.aa"), (at, at + takes), MEMBERS, &wanted("aa")).unwrap();
    };
    ask(start);
    let Due::At(next) = gate.due(POLICY, true, start) else { panic!("it is on its way") };
    ask(next);
    assert_eq!(held(&gate), Duration::from_secs(1));
}

/// The second of two policies that are asked in the same way.
const OTHER: PolicyRef = PolicyRef::new(Action::Enforce, 2);

#[tokio::test(start_paused = true)]
async fn what_fails_once_is_not_said_and_starts_the_soak_again() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let refused = || Response::Unreachable("connection refused".to_owned());
    let hear = |response, after: u32| {
        let at = start + after * second;
        gate.record(POLICY, response, (at, at), MEMBERS, &wanted("aa")).unwrap()
    };
    hear(marks("shop=1.aa"), 0);
    hear(marks("shop=1.aa"), 9);
    assert_eq!(held(&gate), 9 * second);
    let heard = hear(refused(), 10);
    assert_eq!((heard.is_suspect, heard.before == heard.now), (true, true));
    assert_eq!(held(&gate), Duration::ZERO);
    assert!(!hear(marks("shop=1.aa"), 11).is_suspect);
    assert_eq!(held(&gate), Duration::ZERO);
    // It is forgotten that it failed before.
    assert!(hear(refused(), 12).is_suspect);
    assert!(!hear(refused(), 13).is_suspect);
    assert!(matches!(gate.answer(POLICY, "shop"), Answer::Unreachable(_)));
}

#[tokio::test(start_paused = true)]
async fn what_two_say_is_said_of_all_and_when_one_answers_each_is_asked_anew() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let hear = |policy, response, after: u32| {
        let at = start + after * second;
        gate.record(policy, response, (at, at), 3, &wanted("aa")).unwrap()
    };
    let third = PolicyRef::new(Action::Enforce, 3);
    let audit = PolicyRef::new(Action::Audit, 1);
    for policy in [POLICY, OTHER, third, audit] {
        hear(policy, marks("shop=1.aa"), 0);
    }
    let refused = || Response::Unreachable("connection refused".to_owned());
    assert_eq!(hear(POLICY, refused(), 20).turn, Turn::None);
    assert!(matches!(gate.answer(third, "shop"), Answer::Answered { .. }));
    assert_eq!(hear(OTHER, refused(), 20).turn, Turn::Fails);
    for policy in [POLICY, OTHER, third] {
        assert!(matches!(gate.answer(policy, "shop"), Answer::Unreachable(_)), "{policy}");
        // One of them is asked for all.
        assert_eq!(gate.due(policy, true, start), Due::InTurn);
    }
    assert!(matches!(gate.answer(audit, "shop"), Answer::Answered { .. }));
    let [(of, at)] = gate.faults()[..] else { panic!("{:?}", gate.faults()) };
    assert_eq!((of, at), (group(third), start + 20 * second + ACTIVE_INTERVAL));
    let heard = hear(third, marks("shop=1.aa"), 25);
    assert_eq!(heard.turn, Turn::Recovers);
    assert!(matches!(heard.before, Some(Response::Unreachable(_))));
    // The soak begins anew, with what was heard before all of this too.
    assert!(matches!(gate.answer(third, "shop"), Answer::Answered { held: Duration::ZERO, .. }));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::NotAsked);
    assert_eq!((gate.due(POLICY, false, start), gate.faults().len()), (Due::At(start), 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_it_was_forgotten_does_not_count() {
    let gate = Gate::default();
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    gate.forget(POLICY);
    let times = (before, Instant::now());
    let late = gate.record(POLICY, Response::Open, times, MEMBERS, &HashMap::new());
    assert_eq!(late, Err(Outdated));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::NotAsked);
    record(&gate, Response::Open, Instant::now(), &wanted("aa"));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Open(Duration::ZERO));
    gate.forget_all();
    assert_eq!(gate.answer(POLICY, "shop"), Answer::NotAsked);
}

#[tokio::test(start_paused = true)]
async fn an_open_gate_is_open_from_when_it_was_first_heard() {
    let gate = Gate::default();
    let start = Instant::now();
    for after in [0, 4] {
        record(&gate, Response::Open, start + Duration::from_secs(after), &wanted("aa"));
    }
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Open(Duration::from_secs(4)));
}

#[tokio::test(start_paused = true)]
async fn a_silence_lasts_from_when_it_was_first_heard() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    for (after, silence) in [(0, Silence::NoWebhook), (3, Silence::Passed)] {
        record(&gate, Response::Silent(silence), start + after * second, &wanted("aa"));
    }
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Silent(Silence::Passed, 3 * second));
    record(&gate, marks("shop=1.aa"), start + 4 * second, &wanted("aa"));
    let silence = Response::Silent(Silence::Passed);
    record(&gate, silence, start + 5 * second, &wanted("aa"));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Silent(Silence::Passed, Duration::ZERO));
}

/// As where a Kyverno has just started, or is without its webhook for good.
#[tokio::test(start_paused = true)]
async fn a_gate_is_called_open_when_its_rings_say_so() {
    let newer = POLICY.of_kind(PolicyKind::ImageValidatingPolicy);
    let start = Instant::now();
    let none = Response::Silent(Silence::NoWebhook);
    let passed = Response::Silent(Silence::Passed);
    let (open, silent) = (State::Open, State::Silent);
    for (policy, said) in [
        (
            POLICY,
            vec![(0, Response::Open, open), (5, none.clone(), silent), (9, none.clone(), silent)],
        ),
        (
            newer,
            vec![(0, Response::Open, silent), (1, none.clone(), silent), (3, none.clone(), open)],
        ),
        (newer, vec![(0, passed.clone(), silent), (9, none.clone(), silent), (12, none, open)]),
        (newer, vec![(0, Response::Open, silent), (4, Response::Open, open), (5, passed, silent)]),
    ] {
        let (gate, mut before) = (Gate::default(), None);
        for (after, response, state) in said {
            let at = start + Duration::from_secs(after);
            let times = (at, at);
            let recorded = gate.record(policy, response, times, MEMBERS, &HashMap::new()).unwrap();
            assert_eq!(recorded.state, Some(state), "{policy} after {after}s");
            assert_eq!(recorded.turned, before != Some(state), "{policy} after {after}s");
            let is_open = gate.answer(policy, "shop").is_open(policy.kind());
            assert_eq!(is_open, state == open, "{policy} after {after}s");
            before = Some(state);
        }
    }
}

/// A namespace without its label says nothing of Kyverno, however long it lacks that.
#[tokio::test(start_paused = true)]
async fn only_questions_that_kyverno_should_have_seen_pass_it_by() {
    let gate = Gate::default();
    let start = Instant::now();
    let passed_for = |after, silence| {
        let at = start + Duration::from_secs(after);
        record(&gate, Response::Silent(silence), at, &wanted("aa"));
        gate.passed_for(POLICY)
    };
    assert_eq!(passed_for(0, Silence::Unlabelled), None);
    assert_eq!(passed_for(90, Silence::Unlabelled), None);
    assert_eq!(passed_for(91, Silence::Passed), Some(Duration::ZERO));
    assert_eq!(passed_for(99, Silence::NoWebhook), Some(Duration::from_secs(8)));
    assert_eq!(passed_for(100, Silence::LeftOut("namespaceSelector")), None);
}
