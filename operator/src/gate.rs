//! What the gates said, since when, and when each is to be asked again.

use std::{
    collections::{BTreeSet, HashMap},
    mem::discriminant,
    time::Duration,
};

use signingkeyring_core::{
    marks::{Mark, Marks, RuleState},
    names::RingName,
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::{Answer, CoverAnswer, Silence},
};
use tokio::{sync::Notify, time::Instant};

use crate::lock::{Mutex, RwLock};

mod health;

use health::{Fault, Health};
pub(crate) use health::{Group, Turn, group};

/// After this long without an answer nothing is known of one question, and of many it is
/// that nobody answers. Kyverno's own webhook may take 30 seconds and the API server then
/// says so itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// How often a policy is asked while something is on its way: so long after it has answered,
/// since a soak counts from there; of one that fails, so long after it was asked.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a policy is asked that has been failing for a while.
const FAILING_INTERVAL: Duration = Duration::from_secs(4);

/// How soon a policy is asked again that has failed for the first time.
const SUSPECT_INTERVAL: Duration = Duration::from_millis(500);

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
    /// Kyverno did not answer in the time that its webhook has. It may be slow, or hang.
    Slow(String),
    /// Kyverno cannot be reached.
    Unreachable(String),
    /// Something else answered, or nothing in time.
    Unreadable(String),
}

impl Response {
    /// The state that a gate is in by such answers, of which is known whether they make
    /// it an open one.
    const fn state(&self, is_open: bool) -> State {
        match self {
            _ if is_open => State::Open,
            Self::Marks(_) => State::Answered,
            Self::Open | Self::Silent(_) => State::Silent,
            Self::Slow(_) => State::Slow,
            Self::Unreachable(_) => State::Mute,
            Self::Unreadable(_) => State::Unreadable,
        }
    }

    /// Whether it goes on with what another of the same policy said.
    fn goes_on_with(&self, before: &Self, kind: PolicyKind) -> bool {
        let no_webhook = |response: &Self| {
            kind.has_own_webhook()
                && matches!(response, Self::Open | Self::Silent(Silence::NoWebhook))
        };
        match (no_webhook(self), no_webhook(before)) {
            (false, false) => discriminant(self) == discriminant(before),
            (now, before) => now == before,
        }
    }

    /// Whether the question passed Kyverno by, which should have seen it.
    const fn passed(&self) -> bool {
        matches!(self, Self::Silent(Silence::Passed | Silence::NoWebhook))
    }
}

/// The state that a gate is in, as metrics and logs tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Kyverno answers.
    Answered,
    /// Nothing verifies images: as a ring's condition says it.
    Open,
    /// A question passed without an answer otherwise.
    Silent,
    /// Kyverno answers late, or not in the time that it has.
    Slow,
    /// Kyverno cannot be reached.
    Mute,
    /// Something else answered, or nothing in time.
    Unreadable,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Answered, Self::Open, Self::Silent, Self::Slow, Self::Mute, Self::Unreadable];

    /// What metrics call it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Open => "open",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Mute => "mute",
            Self::Unreadable => "unreadable",
        }
    }
}

#[derive(Clone, Debug)]
struct Record {
    response: Response,
    asked: Instant,
    answered: Instant,
    /// When the first of the answers of this kind was in.
    since: Instant,
    /// When the first of the questions that passed Kyverno by did.
    passed_since: Option<Instant>,
    failures: u32,
    /// The last question failed, and the one before was answered: that is not
    /// believed before it has failed again, or another policy's has.
    is_suspect: bool,
    /// By ring, how long it has given the same answer to the same state of its
    /// ledger: from when the first such answer was in to when the last was
    /// asked for.
    held: HashMap<RingName, Held>,
}

impl Record {
    /// How long answers have come since the first of some.
    fn held(&self, since: Instant) -> Duration {
        self.asked.saturating_duration_since(since)
    }
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

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// What counted before.
    pub(crate) before: Option<Response>,
    /// What counts now.
    pub(crate) now: Option<Response>,
    /// The state that the gate is in.
    pub(crate) state: Option<State>,
    /// Whether it was in another one before.
    pub(crate) turned: bool,
    /// It is not believed yet: another policy is to be asked, and this one again.
    pub(crate) is_suspect: bool,
    /// What that changes for all that are asked in the same way.
    pub(crate) turn: Turn,
}

/// When a policy is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// From then on.
    At(Instant),
    /// In turn with the others that rest.
    InTurn,
}

/// An answer to a question from before what is asked about was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outdated;

/// The answers of the policies' gates, in memory only: an operator that
/// starts asks again.
#[derive(Debug, Default)]
pub struct Gate {
    records: RwLock<Records>,
    forgotten: Mutex<Forgotten>,
    wanted: Mutex<BTreeSet<PolicyRef>>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Records {
    of: HashMap<PolicyRef, Record>,
    health: HashMap<Group, Health>,
}

impl Records {
    /// The fault that stands for a policy's answer, whatever it said itself: what is asked
    /// of it by itself would seem to have just begun.
    fn fault(&self, policy: PolicyRef) -> Option<&Fault> {
        self.health.get(&group(policy))?.fault()
    }

    /// What a policy says, and for how long it has said that kind of thing.
    fn said(&self, policy: PolicyRef) -> Option<(&Response, Duration)> {
        if let Some(fault) = self.fault(policy) {
            let held = fault.asked.saturating_duration_since(fault.since);
            return Some((&fault.response, held));
        }
        self.of.get(&policy).map(|record| (&record.response, record.held(record.since)))
    }

    /// What a policy says of one ring.
    fn answer(&self, policy: PolicyRef, ring: &str) -> Answer {
        let Some((response, held)) = self.said(policy) else { return Answer::NotAsked };
        match response {
            Response::Open => Answer::Open(held),
            Response::Silent(silence) => Answer::Silent(silence.clone(), held),
            Response::Slow(text) => Answer::Slow(text.clone(), held),
            Response::Unreachable(text) => Answer::Unreachable(text.clone()),
            Response::Unreadable(text) => Answer::Unreadable(text.clone()),
            Response::Marks(marks) => {
                let record = self.of.get(&policy);
                let for_ = |since| record.map_or(Duration::ZERO, |record| record.held(since));
                let held = record.and_then(|record| record.held.get(ring));
                let behind_since = held.and_then(|held| held.behind_since);
                Answer::Answered {
                    mark: marks.0.get(ring).cloned(),
                    held: held.map_or(Duration::ZERO, |held| for_(held.since)),
                    behind: behind_since.map_or(Duration::ZERO, for_),
                }
            }
        }
    }

    /// The state that a policy's gate is in: that of none of its rings.
    fn state(&self, policy: PolicyRef) -> Option<State> {
        let (response, _) = self.said(policy)?;
        Some(response.state(self.answer(policy, "").is_open(policy.kind())))
    }
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
        self.records.read().answer(policy, ring)
    }

    /// The same, where the ring's ledger calls for this state. What was answered while it
    /// called for another one counts for no time.
    #[must_use]
    pub fn answer_to(&self, policy: PolicyRef, ring: &str, wanted: &RuleState) -> Answer {
        let records = self.records.read();
        let mut answer = records.answer(policy, ring);
        let heard = records.of.get(&policy).and_then(|record| record.held.get(ring));
        let is_same = heard.is_some_and(|heard| heard.wanted == *wanted);
        if let Answer::Answered { held, .. } = &mut answer
            && !is_same
        {
            *held = Duration::ZERO;
        }
        answer
    }

    /// What was said for a policy that holds no ring, which says this of itself.
    #[must_use]
    pub fn cover(&self, policy: PolicyRef, stands: Option<&Marks>) -> CoverAnswer {
        match self.records.read().said(policy).map(|(response, _)| response) {
            None
            | Some(
                Response::Unreachable(_)
                | Response::Slow(_)
                | Response::Unreadable(_)
                | Response::Silent(Silence::Unlabelled | Silence::LeftOut(_) | Silence::NotSeen(_)),
            ) => CoverAnswer::Unheard,
            // It may be there in another state than it was asked for.
            Some(Response::Silent(Silence::Passed)) if !policy.kind().answers_in_any_state() => {
                CoverAnswer::Unheard
            }
            Some(Response::Open | Response::Silent(Silence::Passed | Silence::NoWebhook)) => {
                CoverAnswer::Open
            }
            Some(Response::Marks(marks)) if Some(marks) == stands => CoverAnswer::AsFound,
            Some(Response::Marks(_)) => CoverAnswer::Other,
        }
    }

    /// Has it looked whether policies are to be asked: something about them has changed.
    pub fn look_at(&self, policies: impl IntoIterator<Item = PolicyRef>) {
        self.wanted.lock().extend(policies);
        self.notify.notify_one();
    }

    /// Waits for that, and says which they are.
    pub(crate) async fn wanted(&self) -> BTreeSet<PolicyRef> {
        self.notify.notified().await;
        std::mem::take(&mut *self.wanted.lock())
    }

    /// Forgets a policy, and what comes in of questions that are on their way.
    pub fn forget(&self, policy: PolicyRef) {
        self.forgotten.lock().policies.insert(policy, Instant::now());
        self.records.write().of.remove(&policy);
        self.look_at([policy]);
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&self) {
        self.forgotten.lock().all = Some(Instant::now());
        let mut records = self.records.write();
        let policies: Vec<PolicyRef> = records.of.keys().copied().collect();
        *records = Records::default();
        drop(records);
        self.look_at(policies);
    }

    /// Takes in an answer to a question to one of so many policies that are asked in the
    /// same way, unless it is to be forgotten.
    pub(crate) fn record(
        &self,
        policy: PolicyRef,
        response: Response,
        (asked, answered): (Instant, Instant),
        members: usize,
        wanted: &HashMap<RingName, Wanted>,
    ) -> Result<Heard, Outdated> {
        let mut records = self.records.write();
        if self.forgotten.lock().includes(policy, asked) {
            return Err(Outdated);
        }
        let before = records.said(policy).map(|(response, _)| response.clone());
        let state_before = records.state(policy);
        let health = records.health.entry(group(policy)).or_default();
        let turn = health.hear(policy, &response, (asked, answered), members);
        let fails = health.fault().is_some();
        if turn == Turn::Recovers {
            // What they answered before it failed is as good as never heard.
            let is_old = |other: PolicyRef, record: &Record| {
                group(other) == group(policy) && matches!(record.response, Response::Marks(_))
            };
            records.of.retain(|other, record| !is_old(*other, record));
        }
        let own = records.of.remove(&policy);
        let failed = !matches!(response, Response::Marks(_));
        let answered_before = own
            .as_ref()
            .filter(|own| matches!(own.response, Response::Marks(_)) && !own.is_suspect);
        let is_suspect = failed && !fails && answered_before.is_some();
        let record = match own {
            // Nothing that was heard before this counts for a soak.
            Some(own) if is_suspect => {
                Record { is_suspect, asked, answered, held: HashMap::new(), ..own }
            }
            own => taken_in(own.as_ref(), response, (asked, answered), policy.kind(), wanted),
        };
        records.of.insert(policy, record);
        let now = records.said(policy).map(|(response, _)| response.clone());
        let state = records.state(policy);
        Ok(Heard { before, now, state, turned: state != state_before, is_suspect, turn })
    }

    /// The state that a policy's gate is in.
    pub(crate) fn state(&self, policy: PolicyRef) -> Option<State> {
        self.records.read().state(policy)
    }

    /// When a policy is to be asked that is on its way to something, or is not.
    pub(crate) fn due(&self, policy: PolicyRef, unsettled: bool, now: Instant) -> Due {
        let records = self.records.read();
        if records.health.get(&group(policy)).is_some_and(|health| health.fault().is_some()) {
            return Due::InTurn;
        }
        let Some(record) = records.of.get(&policy) else { return Due::At(now) };
        match record.failures {
            _ if record.is_suspect => Due::At(record.asked + SUSPECT_INTERVAL),
            0 if !unsettled => Due::InTurn,
            0 => Due::At(record.answered + ACTIVE_INTERVAL),
            failures if failures > FAILING_AFTER => Due::At(record.asked + FAILING_INTERVAL),
            _ => Due::At(record.asked + ACTIVE_INTERVAL),
        }
    }

    /// The groups of policies that all fail, and when one of each is to be asked again.
    pub(crate) fn faults(&self) -> Vec<(Group, Instant)> {
        let records = self.records.read();
        let faults = records.health.iter().filter_map(|(group, health)| {
            let fault = health.fault()?;
            let lasts = fault.asked.saturating_duration_since(fault.since);
            let is_long = lasts > FAILING_AFTER * ACTIVE_INTERVAL;
            let pause = if is_long { FAILING_INTERVAL } else { ACTIVE_INTERVAL };
            Some((*group, fault.asked + pause))
        });
        faults.collect()
    }

    /// How long questions to a policy have passed Kyverno without an answer, although it
    /// should have seen them.
    pub(crate) fn passed_for(&self, policy: PolicyRef) -> Option<Duration> {
        let records = self.records.read();
        let record = records.of.get(&policy)?;
        record.passed_since.map(|since| record.held(since))
    }
}

/// The record of an answer that is believed.
fn taken_in(
    before: Option<&Record>,
    response: Response,
    (asked, answered): (Instant, Instant),
    kind: PolicyKind,
    wanted: &HashMap<RingName, Wanted>,
) -> Record {
    let failed = !matches!(response, Response::Marks(_));
    let failures = if failed { before.map_or(0, |b| b.failures) + 1 } else { 0 };
    let held = match &response {
        Response::Marks(marks) => carry_over(marks, wanted, before.map(|b| &b.held), answered),
        _ => HashMap::new(),
    };
    let same = before.filter(|before| response.goes_on_with(&before.response, kind));
    let since = same.map_or(answered, |before| before.since);
    let passed_before = before.and_then(|before| before.passed_since);
    let passed_since = response.passed().then(|| passed_before.unwrap_or(answered));
    Record { response, asked, answered, since, passed_since, failures, is_suspect: false, held }
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
mod tests;
