//! Gathers what changes right after each other in what is written of it: in a policy while
//! several of its rings change, where each write has Kyverno load the policy anew, and forget
//! what it has verified; in a ring's status while it takes one step after the other.

use std::{collections::HashMap, hash::Hash, time::Duration};

use signingkeyring_core::report::PASSING;
use tokio::time::Instant;

use crate::lock::Mutex;

/// The longest that a write of a policy waits for others.
const LONGEST: Duration = Duration::from_secs(1);

/// Of what changes are being gathered, and since when.
#[derive(Debug)]
pub struct Gathering<N> {
    longest: Duration,
    since: Mutex<HashMap<N, Instant>>,
    /// When that was last written which waits after a write and not before it.
    written: Mutex<HashMap<N, Instant>>,
}

impl<N: Clone + Eq + Hash> Gathering<N> {
    fn new(longest: Duration) -> Self {
        Self { longest, since: Mutex::default(), written: Mutex::default() }
    }

    /// Of what is written of policies.
    #[must_use]
    pub fn of_policies() -> Self {
        Self::new(LONGEST)
    }

    /// Of what is written of rings.
    #[must_use]
    pub fn of_statuses() -> Self {
        Self::new(PASSING)
    }

    /// How much longer a write is to wait; nothing if it is to be made now. `others_follow`
    /// says whether more is about to change.
    pub fn wait(&self, name: &N, others_follow: bool) -> Option<Duration> {
        let now = Instant::now();
        let mut since = self.since.lock();
        let left = match since.get(name) {
            Some(since) => self.longest.saturating_sub(now.saturating_duration_since(*since)),
            None => self.longest,
        };
        if !others_follow || left.is_zero() {
            since.remove(name);
            return None;
        }
        since.entry(name.clone()).or_insert(now);
        Some(left)
    }

    /// It was written, or does not have to be.
    pub fn end(&self, name: &N) {
        self.since.lock().remove(name);
    }

    /// How much longer a write is to wait where the first change waits for nobody: what
    /// changes right after a write is gathered.
    #[must_use]
    pub fn pause(&self, name: &N) -> Option<Duration> {
        let left = self.longest.saturating_sub(self.written.lock().get(name)?.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// It was written, so that what follows is gathered.
    pub fn wrote(&self, name: &N) {
        self.written.lock().insert(name.clone(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy_ref::{Action, PolicyRef};

    use super::*;

    const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_others_and_no_longer_than_a_second() {
        let gathering = Gathering::of_policies();
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST * 3 / 4));
        tokio::time::advance(LONGEST).await;
        assert_eq!(gathering.wait(&POLICY, true), None);
        // The next begins anew.
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST));
    }

    #[tokio::test(start_paused = true)]
    async fn alone_or_as_the_last_one_it_does_not_wait() {
        let gathering = Gathering::of_policies();
        assert_eq!(gathering.wait(&POLICY, false), None);
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        assert_eq!(gathering.wait(&POLICY, false), None);
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        gathering.end(&POLICY);
        assert_eq!(gathering.wait(&POLICY, true), Some(LONGEST));
    }
    #[tokio::test(start_paused = true)]
    async fn what_follows_the_write_of_a_policy_without_rings_is_gathered() {
        let gathering = Gathering::of_policies();
        let (policy, other) =
            (PolicyRef::unknown(Action::Enforce), PolicyRef::unknown(Action::Audit));
        assert_eq!(gathering.pause(&policy), None);
        gathering.wrote(&policy);
        assert_eq!((gathering.pause(&policy), gathering.pause(&other)), (Some(LONGEST), None));
        tokio::time::advance(LONGEST / 4).await;
        assert_eq!(gathering.pause(&policy), Some(LONGEST * 3 / 4));
        tokio::time::advance(LONGEST).await;
        assert_eq!(gathering.pause(&policy), None);
    }
}
