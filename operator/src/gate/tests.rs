//! What the gates said, and since when.

use signingkeyring_core::policy_ref::Action;

use super::*;

const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

fn marks(text: &str) -> Response {
    Response::Marks(text.parse().unwrap())
}

fn wanted(key_set: &str) -> HashMap<RingName, Wanted> {
    let state = RuleState { sequence: 1, key_set: key_set.to_owned() };
    let stands = Some(Mark { state: state.clone(), rule: String::new() });
    HashMap::from([("shop".parse().unwrap(), Wanted { state, stands, covered: Some(false) })])
}

/// Answered as soon as asked.
fn record(gate: &Gate, response: Response, at: Instant, wanted: &HashMap<RingName, Wanted>) {
    gate.record(POLICY, response, at, at, wanted).unwrap();
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
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Open);
    record(&gate, marks("shop=1.aa"), start + 5 * second, &wanted("aa"));
    assert_eq!(held(&gate), Duration::ZERO, "an open gate starts the soak again");

    record(&gate, marks("shop=1.aa"), start + 6 * second, &wanted("bb"));
    assert_eq!(held(&gate), Duration::ZERO, "a new key set starts it again");
    record(&gate, marks("shop=2.bb"), start + 7 * second, &wanted("bb"));
    record(&gate, marks("shop=2.bb"), start + 9 * second, &wanted("bb"));
    assert_eq!(held(&gate), 2 * second);
}

#[tokio::test(start_paused = true)]
async fn another_rule_than_the_policys_is_behind_and_does_not_touch_the_soak() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let mut wanted = wanted("aa");
    for wanted in wanted.values_mut() {
        wanted.stands.as_mut().unwrap().rule = "new".to_owned();
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
    ] {
        gate.record(policy, response, now, now, &HashMap::new()).unwrap();
        assert_eq!(gate.cover(policy, Some(&stands)), answer);
    }
    gate.record(policy, Response::Marks(stands), now, now, &HashMap::new()).unwrap();
    assert_eq!(gate.cover(policy, None), CoverAnswer::Other, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_counts_from_when_it_was_in() {
    let gate = Gate::default();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let wanted = wanted("aa");
    gate.record(POLICY, marks("shop=1.aa"), start, start + 4 * second, &wanted).unwrap();
    assert_eq!(held(&gate), Duration::ZERO);
    let (asked, answered) = (start + 5 * second, start + 9 * second);
    gate.record(POLICY, marks("shop=1.aa"), asked, answered, &wanted).unwrap();
    assert_eq!(held(&gate), second);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_asked_every_second_and_what_rests_is_not() {
    let gate = Gate::default();
    let now = Instant::now();
    assert_eq!(gate.due(POLICY, false, now), Some(Duration::ZERO));
    record(&gate, marks("shop=1.aa"), now, &wanted("aa"));
    assert_eq!(gate.due(POLICY, false, now), None);
    assert_eq!(gate.due(POLICY, true, now), Some(ACTIVE_INTERVAL));
    record(&gate, Response::Open, now, &wanted("aa"));
    assert_eq!(gate.due(POLICY, false, now), Some(ACTIVE_INTERVAL));
    for _ in 0..FAILING_AFTER {
        record(&gate, Response::Open, now, &wanted("aa"));
    }
    assert_eq!(gate.due(POLICY, false, now), Some(FAILING_INTERVAL));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_it_was_forgotten_does_not_count() {
    let gate = Gate::default();
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    gate.forget(POLICY);
    let late = gate.record(POLICY, Response::Open, before, Instant::now(), &HashMap::new());
    assert_eq!(late, Err(Outdated));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::NotAsked);
    record(&gate, Response::Open, Instant::now(), &wanted("aa"));
    assert_eq!(gate.answer(POLICY, "shop"), Answer::Open);
    gate.forget_all();
    assert_eq!(gate.answer(POLICY, "shop"), Answer::NotAsked);
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
