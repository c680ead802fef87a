//! What is broken on purpose at present, and since when it is known to be
//! whole again: whether a verdict has to be right.
//!
//! A disturbance begins before something is broken. It is over when what was
//! broken is back *and* Kyverno has shown, by an answer that cannot be from
//! before, that it has loaded it. After that there is no excuse until the
//! next disturbance.

use std::collections::HashMap;

use signingkeyring_e2e_observer::marks::Marks;
use tokio::time::Instant;

/// What a disturbance may have an effect on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every verdict: Kyverno itself, or its webhooks.
    Everything,
    /// The rings of one policy.
    Policy(String),
}

#[derive(Clone, Debug, Default)]
struct Disturbance {
    /// The number of the last disturbance.
    number: u64,
    /// How many are going on.
    ongoing: u32,
    ended: Option<Instant>,
    /// Kyverno has to show something newer than this.
    newer_than: Option<Marks>,
}

impl Disturbance {
    fn is_over(&self, answered: Option<Instant>) -> bool {
        let heard_since = match (self.ended, answered) {
            (None, _) => true,
            (Some(ended), Some(answered)) => answered > ended,
            (Some(_), None) => false,
        };
        self.ongoing == 0 && self.newer_than.is_none() && heard_since
    }
}

/// The disturbances, and what Kyverno answered last for each policy.
#[derive(Debug, Default)]
pub struct Disturbances {
    count: u64,
    by_scope: HashMap<Scope, Disturbance>,
    answered: HashMap<String, Instant>,
}

impl Disturbances {
    /// Something is about to be broken.
    pub fn begin(&mut self, scope: Scope) {
        self.count += 1;
        let disturbance = self.by_scope.entry(scope).or_default();
        disturbance.number = self.count;
        disturbance.ongoing += 1;
    }

    /// It is back. Kyverno has to answer once more, for a policy whose marks
    /// are given with newer ones than those.
    pub fn end(&mut self, scope: Scope, newer_than: Option<Marks>) {
        let disturbance = self.by_scope.entry(scope).or_default();
        disturbance.ongoing = disturbance.ongoing.saturating_sub(1);
        disturbance.ended = Some(Instant::now());
        if newer_than.is_some() {
            disturbance.newer_than = newer_than;
        }
    }

    /// Kyverno answered for a policy; it was asked then.
    pub fn heard(&mut self, policy: &str, asked: Instant, marks: &Marks) {
        self.answered.insert(policy.to_owned(), asked);
        let Some(disturbance) = self.by_scope.get_mut(&Scope::Policy(policy.to_owned())) else {
            return;
        };
        let is_newer = disturbance.newer_than.as_ref().is_some_and(|old| {
            marks.0.iter().any(|(ring, mark)| {
                old.of(ring).is_none_or(|before| mark.sequence > before.sequence)
            })
        });
        if is_newer
            && disturbance.ongoing == 0
            && disturbance.ended.is_some_and(|ended| asked > ended)
        {
            disturbance.newer_than = None;
        }
    }

    /// The number of the last disturbance that a policy's verdicts may have
    /// suffered from, if it is over. Two equal numbers say that nothing was
    /// broken between the two questions.
    #[must_use]
    pub fn undisturbed(&self, policy: &str) -> Option<u64> {
        let answered = self.answered.get(policy).copied();
        let scopes = [Scope::Everything, Scope::Policy(policy.to_owned())];
        let mut last = 0;
        for disturbance in scopes.iter().filter_map(|scope| self.by_scope.get(scope)) {
            if !disturbance.is_over(answered) {
                return None;
            }
            last = last.max(disturbance.number);
        }
        answered.map(|_| last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn marks(sequence: u64) -> Marks {
        Marks::parse(&format!("shop={sequence}.aa")).unwrap()
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_disturbance_lasts_until_kyverno_is_heard_again() {
        let mut disturbances = Disturbances::default();
        assert_eq!(disturbances.undisturbed("p"), None, "never heard");
        disturbances.heard("p", Instant::now(), &marks(1));
        assert_eq!(disturbances.undisturbed("p"), Some(0));

        disturbances.begin(Scope::Everything);
        disturbances.heard("p", later(1), &marks(1));
        assert_eq!(disturbances.undisturbed("p"), None, "it goes on");
        disturbances.begin(Scope::Everything);
        disturbances.end(Scope::Everything, None);
        disturbances.heard("p", later(2), &marks(1));
        assert_eq!(disturbances.undisturbed("p"), None, "one of two goes on");
        let before = Instant::now();
        disturbances.end(Scope::Everything, None);
        disturbances.heard("p", before, &marks(1));
        assert_eq!(disturbances.undisturbed("p"), None, "asked before its end");
        disturbances.heard("p", later(3), &marks(1));
        assert_eq!(disturbances.undisturbed("p"), Some(2));
    }

    #[test]
    fn a_policy_is_whole_once_something_newer_is_loaded() {
        let mut disturbances = Disturbances::default();
        let scope = Scope::Policy("p".to_owned());
        disturbances.heard("q", Instant::now(), &marks(1));
        disturbances.begin(scope.clone());
        disturbances.end(scope, Some(marks(4)));
        disturbances.heard("p", later(1), &marks(4));
        assert_eq!(disturbances.undisturbed("p"), None, "may be from before");
        disturbances.heard("p", later(1), &marks(5));
        assert_eq!(disturbances.undisturbed("p"), Some(1));
        assert_eq!(disturbances.undisturbed("q"), Some(0), "another policy's matter");
    }
}
