//! What the gates said, since when, and when each is to be asked again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use signingkeyring_core::{
    marks::{Mark, Marks, RuleState},
    names::RingName,
    policy_ref::PolicyRef,
    snapshot::{Answer, CoverAnswer, Silence},
};
use tokio::{sync::Notify, time::Instant};

/// How often a policy is asked while something is on its way.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a policy is asked that has been failing for a while.
const FAILING_INTERVAL: Duration = Duration::from_secs(4);

/// After this many failures in a row a policy counts as failing.
const FAILING_AFTER: u32 = 10;

/// What a policy's gate said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The policy's marks, as Kyverno has loaded them.
    Marks(Marks),
    /// The question passed without an answer, and Kyverno has no webhook for pods.
    Open,
    /// It passed without an answer otherwise.
    Silent(Silence),
    /// Kyverno cannot be reached.
    Unreachable(String),
    /// Something else answered, or nothing in time.
    Unreadable(String),
}

impl Response {
    /// What a gate can say, for metrics.
    pub(crate) const STATES: [&'static str; 5] =
        ["answered", "open", "silent", "mute", "unreadable"];

    pub(crate) const fn state(&self) -> &'static str {
        let [answered, open, silent, mute, unreadable] = Self::STATES;
        match self {
            Self::Marks(_) => answered,
            Self::Open => open,
            Self::Silent(_) => silent,
            Self::Unreachable(_) => mute,
            Self::Unreadable(_) => unreadable,
        }
    }
}

#[derive(Clone, Debug)]
struct Record {
    response: Response,
    asked: Instant,
    /// When the first of the answers of this kind was in.
    since: Instant,
    failures: u32,
    /// By ring, how long it has given the same answer to the same state of its
    /// ledger: from when the first such answer was in to when the last was
    /// asked for.
    held: HashMap<RingName, Held>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    answered: Option<Mark>,
    wanted: RuleState,
    covered: bool,
    since: Instant,
    /// Since when it says something else than the policy does.
    behind_since: Option<Instant>,
}

/// What a policy's answers are compared with, for one ring.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// What the ring's ledger calls for.
    pub(crate) state: RuleState,
    /// What the policy says of the ring.
    pub(crate) stands: Option<Mark>,
    /// Whether the ring's namespaces are still covered as those of no ring, if
    /// that is certain: what is accepted here is refused there, so that time does
    /// not count.
    pub(crate) covered: Option<bool>,
}

/// An answer to a question from before what is asked about was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outdated;

/// The answers of the policies' gates, in memory only: an operator that
/// starts asks again.
#[derive(Debug, Default)]
pub struct Gate {
    records: RwLock<HashMap<PolicyRef, Record>>,
    forgotten: Mutex<Forgotten>,
    notify: Notify,
}

/// Since when answers count: those to questions before are dropped.
#[derive(Debug, Default)]
struct Forgotten {
    policies: HashMap<PolicyRef, Instant>,
    all: Option<Instant>,
}

impl Forgotten {
    fn includes(&self, policy: PolicyRef, asked: Instant) -> bool {
        let since = self.policies.get(&policy).copied().max(self.all);
        since.is_some_and(|since| asked < since)
    }
}

impl Gate {
    /// What a policy's gate said of one ring.
    #[must_use]
    pub fn answer(&self, policy: PolicyRef, ring: &str) -> Answer {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = records.get(&policy) else { return Answer::NotAsked };
        match &record.response {
            Response::Open => Answer::Open,
            Response::Silent(silence) => {
                let held = record.asked.saturating_duration_since(record.since);
                Answer::Silent(silence.clone(), held)
            }
            Response::Unreachable(text) => Answer::Unreachable(text.clone()),
            Response::Unreadable(text) => Answer::Unreadable(text.clone()),
            Response::Marks(marks) => {
                let for_ = |since| record.asked.saturating_duration_since(since);
                let held = record.held.get(ring);
                Answer::Answered {
                    mark: marks.0.get(ring).cloned(),
                    held: held.map_or(Duration::ZERO, |held| for_(held.since)),
                    behind: held.and_then(|held| held.behind_since).map_or(Duration::ZERO, for_),
                }
            }
        }
    }

    /// What was said for a policy that holds no ring, which says this of itself.
    #[must_use]
    pub fn cover(&self, policy: PolicyRef, stands: Option<&Marks>) -> CoverAnswer {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        match records.get(&policy).map(|record| &record.response) {
            None
            | Some(
                Response::Unreachable(_)
                | Response::Unreadable(_)
                | Response::Silent(Silence::LeftOut(_) | Silence::NotSeen(_)),
            ) => CoverAnswer::Unheard,
            Some(Response::Open | Response::Silent(Silence::Passed | Silence::NoWebhook)) => {
                CoverAnswer::Open
            }
            Some(Response::Marks(marks)) if Some(marks) == stands => CoverAnswer::AsFound,
            Some(Response::Marks(_)) => CoverAnswer::Other,
        }
    }

    /// Has the policies asked that have something on their way.
    pub fn notify(&self) {
        self.notify.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Forgets a policy, and what comes in of questions that are on their way.
    pub fn forget(&self, policy: PolicyRef) {
        self.forgotten().policies.insert(policy, Instant::now());
        self.write().remove(&policy);
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&self) {
        self.forgotten().all = Some(Instant::now());
        self.write().clear();
    }

    /// Takes in an answer, unless it is to be forgotten; returns the one before.
    pub(crate) fn record(
        &self,
        policy: PolicyRef,
        response: Response,
        asked: Instant,
        answered: Instant,
        wanted: &HashMap<RingName, Wanted>,
    ) -> Result<Option<Response>, Outdated> {
        let mut records = self.write();
        if self.forgotten().includes(policy, asked) {
            return Err(Outdated);
        }
        let before = records.remove(&policy);
        let failed = !matches!(response, Response::Marks(_));
        let failures = if failed { before.as_ref().map_or(0, |b| b.failures) + 1 } else { 0 };
        let held = match &response {
            Response::Marks(marks) => {
                carry_over(marks, wanted, before.as_ref().map(|b| &b.held), answered)
            }
            _ => HashMap::new(),
        };
        let same = before.as_ref().filter(|b| b.response.state() == response.state());
        let since = same.map_or(answered, |before| before.since);
        let record = Record { response, asked, since, failures, held };
        records.insert(policy, record);
        Ok(before.map(|b| b.response))
    }

    /// How long until a policy is to be asked again; nothing if it rests.
    pub(crate) fn due(&self, policy: PolicyRef, unsettled: bool, now: Instant) -> Option<Duration> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = records.get(&policy) else { return Some(Duration::ZERO) };
        let failed = record.failures > 0;
        let pause = match (failed, unsettled) {
            (true, _) if record.failures > FAILING_AFTER => FAILING_INTERVAL,
            (true, _) | (false, true) => ACTIVE_INTERVAL,
            (false, false) => return None,
        };
        Some((record.asked + pause).saturating_duration_since(now))
    }

    fn forgotten(&self) -> MutexGuard<'_, Forgotten> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<PolicyRef, Record>> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when each ring has given the answer that it gives now. That starts
/// anew when the answer or the ledger's state changes, and after any time
/// without an answer.
fn carry_over(
    marks: &Marks,
    wanted: &HashMap<RingName, Wanted>,
    before: Option<&HashMap<RingName, Held>>,
    now: Instant,
) -> HashMap<RingName, Held> {
    wanted
        .iter()
        .map(|(ring, wanted)| {
            let answered = marks.0.get(ring.as_str()).cloned();
            let before = before.and_then(|held| held.get(ring));
            let covered = wanted.covered.unwrap_or_else(|| before.is_none_or(|held| held.covered));
            // Whether the rest of a rule was loaded does not bear on its keys.
            let state = |mark: &Option<Mark>| mark.as_ref().map(|mark| mark.state.clone());
            let same = |held: &&Held| {
                state(&held.answered) == state(&answered)
                    && held.wanted == wanted.state
                    && held.covered == covered
            };
            let since = before.filter(same).map_or(now, |held| held.since);
            let behind_since = (answered != wanted.stands)
                .then(|| before.and_then(|held| held.behind_since).unwrap_or(now));
            let wanted = wanted.state.clone();
            (ring.clone(), Held { answered, wanted, covered, since, behind_since })
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
}
