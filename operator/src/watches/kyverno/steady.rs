//! What of webhooks that come and go is believed: that one is gone, or takes less, at
//! once; that it is back when it has been for a while.

use std::time::Duration;

use signingkeyring_core::omissions::{Hook, Look};
use tokio::time::Instant;

/// How long a webhook that was gone has to be back before that is believed:
/// where somebody takes it away again and again, it is gone.
const STEADY: Duration = Duration::from_secs(5);

/// What of webhooks that come and go is believed.
#[derive(Debug, Default)]
pub(super) struct Steady {
    last: Vec<Hook>,
    lost_at: Option<Instant>,
    later: Option<Look<Vec<Hook>>>,
}

impl Steady {
    /// Takes in what is there; returns it if it is believed at once.
    pub(super) fn take(&mut self, next: Look<Vec<Hook>>, now: Instant) -> Option<Look<Vec<Hook>>> {
        self.later = None;
        if let Ok(hooks) = &next {
            let takes_as_much = |hook: &Hook, other: &Hook| {
                other.name == hook.name && hook.rules.iter().all(|rule| other.rules.contains(rule))
            };
            let is_there = |hook: &Hook| hooks.iter().any(|other| takes_as_much(hook, other));
            let is_lost = !self.last.iter().all(is_there);
            self.last.clone_from(hooks);
            if is_lost {
                self.lost_at = Some(now);
                return Some(next);
            }
        }
        if self.until().is_some_and(|until| now < until) {
            self.later = Some(next);
            return None;
        }
        Some(next)
    }

    /// When something that waits is believed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until().filter(|_| self.later.is_some())
    }

    /// What is believed by then.
    pub(super) fn ripe(&mut self) -> Option<Look<Vec<Hook>>> {
        self.later.take()
    }

    fn until(&self) -> Option<Instant> {
        self.lost_at.map(|at| at + STEADY)
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::omissions::{Rule, Selector};

    use super::*;

    fn hooks(names: &[&str]) -> Look<Vec<Hook>> {
        let hook = |name: &&str| Hook {
            name: (*name).to_owned(),
            service_namespace: None,
            is_ignored: false,
            rules: Vec::new(),
            namespaces: Selector::default(),
            objects: Selector::default(),
            conditions: Vec::new(),
        };
        Ok(names.iter().map(hook).collect())
    }

    #[test]
    fn one_that_is_taken_away_again_and_again_is_gone() {
        let (mut steady, start) = (Steady::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(steady.take(hooks(&["a"]), at(0)), Some(hooks(&["a"])), "the first is believed");
        for second in 1..20 {
            assert_eq!(steady.take(hooks(&[]), at(second)), Some(hooks(&[])));
            assert_eq!(steady.due(), None);
            assert_eq!(steady.take(hooks(&["a"]), at(second)), None);
            assert_eq!(steady.due(), Some(at(second) + STEADY));
        }
        assert_eq!(steady.ripe(), Some(hooks(&["a"])));
        assert_eq!(steady.due(), None);
    }

    #[test]
    fn one_that_takes_nothing_for_a_while_is_as_good_as_gone() {
        let rule = Rule {
            groups: vec![String::new()],
            versions: vec!["v1".to_owned()],
            operations: vec!["CREATE".to_owned()],
            resources: vec!["pods".to_owned()],
            is_cluster_scoped: false,
        };
        let full = || {
            let mut hooks = hooks(&["a"]);
            hooks.iter_mut().flatten().for_each(|hook| hook.rules = vec![rule.clone()]);
            hooks
        };
        let (mut steady, start) = (Steady::default(), Instant::now());
        assert!(steady.take(full(), start).is_some());
        assert_eq!(steady.take(hooks(&["a"]), start), Some(hooks(&["a"])));
        assert_eq!(steady.take(full(), start), None);
        assert_eq!(steady.due(), Some(start + STEADY));
    }

    #[test]
    fn what_is_more_is_believed_at_once_unless_something_was_lost() {
        let (mut steady, start) = (Steady::default(), Instant::now());
        assert!(steady.take(hooks(&["a"]), start).is_some());
        assert!(steady.take(hooks(&["a", "b"]), start).is_some());
        assert!(steady.take(hooks(&["b"]), start).is_some());
        assert_eq!(steady.take(hooks(&["b", "c"]), start), None);
        assert_eq!(steady.take(hooks(&["a", "b"]), start + STEADY), Some(hooks(&["a", "b"])));
        assert_eq!(steady.due(), None);
    }
}
