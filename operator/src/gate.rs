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
mod tests;
