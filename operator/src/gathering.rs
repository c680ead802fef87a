//! Gathers what changes in a policy while several of its rings do: each write has Kyverno
//! load the policy anew, and forget what it has verified.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use signingkeyring_core::policy_ref::PolicyRef;
use tokio::time::Instant;

/// The longest that a write waits for others.
const LONGEST: Duration = Duration::from_secs(1);

/// The policies of which changes are being gathered, and since when.
#[derive(Debug, Default)]
pub struct Gathering(Mutex<HashMap<PolicyRef, Instant>>);

impl Gathering {
    /// How much longer a policy's write is to wait; nothing if it is to be made now.
    /// `others_follow` says whether more of its rings are worked on.
    pub fn wait(&self, policy: PolicyRef, others_follow: bool) -> Option<Duration> {
        let now = Instant::now();
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match since.get(&policy) {
            Some(since) => LONGEST.saturating_sub(now.saturating_duration_since(*since)),
            None => LONGEST,
        };
        if !others_follow || left.is_zero() {
            since.remove(&policy);
            return None;
        }
        since.entry(policy).or_insert(now);
        Some(left)
    }

    /// A policy was written, or does not have to be.
    pub fn end(&self, policy: PolicyRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&policy);
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy_ref::Action;

    use super::*;

    const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_others_and_no_longer_than_a_second() {
        let gathering = Gathering::default();
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST * 3 / 4));
        tokio::time::advance(LONGEST).await;
        assert_eq!(gathering.wait(POLICY, true), None);
        // The next begins anew.
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST));
    }

    #[tokio::test(start_paused = true)]
    async fn alone_or_as_the_last_one_it_does_not_wait() {
        let gathering = Gathering::default();
        assert_eq!(gathering.wait(POLICY, false), None);
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        assert_eq!(gathering.wait(POLICY, false), None);
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST));
        tokio::time::advance(LONGEST / 4).await;
        gathering.end(POLICY);
        assert_eq!(gathering.wait(POLICY, true), Some(LONGEST));
    }
}
