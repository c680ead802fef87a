//! Who is asked next: each policy once at a time, and none waits for those whose
//! questions hang.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use signingkeyring_core::policy_ref::PolicyRef;
use tokio::time::Instant;

/// How many policies are asked at once.
const AT_ONCE: usize = 8;

/// A question that is not answered after this long does not count for that.
const HANGING: Duration = Duration::from_secs(2);

/// So many questions are on their way at most: each occupies the API server.
const MOST: usize = 32;

/// The policies that wait to be asked, and those that are being asked.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<PolicyRef>,
    asking: HashMap<PolicyRef, Instant>,
}

impl Turns {
    /// Has policies asked, unless they wait or are being asked.
    pub(super) fn want(&mut self, policies: impl IntoIterator<Item = PolicyRef>) {
        for policy in policies {
            if !self.asking.contains_key(&policy) && !self.waiting.contains(&policy) {
                self.waiting.push_back(policy);
            }
        }
    }

    /// The policy that is to be asked now, if there is room.
    pub(super) fn next(&mut self, now: Instant) -> Option<PolicyRef> {
        let recent = self.asking.values().filter(|since| now.duration_since(**since) < HANGING);
        if recent.count() >= AT_ONCE || self.asking.len() >= MOST {
            return None;
        }
        let policy = self.waiting.pop_front()?;
        self.asking.insert(policy, now);
        Some(policy)
    }

    /// A policy's question is over.
    pub(super) fn answered(&mut self, policy: PolicyRef) {
        self.asking.remove(&policy);
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy_ref::Action;

    use super::*;

    fn policies(numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = PolicyRef> {
        numbers.map(|number| PolicyRef::new(Action::Enforce, number))
    }

    fn started(turns: &mut Turns, now: Instant) -> usize {
        std::iter::from_fn(|| turns.next(now)).count()
    }

    #[test]
    fn a_policy_is_asked_once_at_a_time() {
        let mut turns = Turns::default();
        let now = Instant::now();
        let [policy] = [PolicyRef::new(Action::Audit, 1)];
        turns.want([policy, policy]);
        assert_eq!(turns.next(now), Some(policy));
        turns.want([policy]);
        assert_eq!(turns.next(now), None);
        turns.answered(policy);
        assert_eq!(turns.next(now), None, "it was not wanted since");
        turns.want([policy]);
        assert_eq!(turns.next(now), Some(policy));
    }

    #[test]
    fn questions_that_hang_do_not_hold_up_the_others() {
        let mut turns = Turns::default();
        let now = Instant::now();
        turns.want(policies(1..=100));
        assert_eq!(started(&mut turns, now), AT_ONCE);
        assert_eq!(started(&mut turns, now + HANGING), AT_ONCE);
    }

    #[test]
    fn the_api_server_is_not_flooded_with_them() {
        let mut turns = Turns::default();
        let start = Instant::now();
        turns.want(policies(1..=100));
        let asked: usize = (0..20).map(|n| started(&mut turns, start + n * HANGING)).sum();
        assert_eq!(asked, MOST);
        policies(1..=3).for_each(|policy| turns.answered(policy));
        assert_eq!(started(&mut turns, start + 30 * HANGING), 3);
    }
}
