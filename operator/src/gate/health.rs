//! Whether Kyverno as a whole answers those that ask in the same way.
//!
//! What fails for one policy is its own until another one fails alike and nobody has
//! answered in between. Then it is true of all of them, and they need not be asked. That
//! a question was not answered in its time is said of a slow Kyverno, too: of that nothing
//! is concluded before nobody has answered for as long as the gate has patience.

use std::collections::BTreeSet;

use signingkeyring_core::policy_ref::{Action, PolicyKind, PolicyRef};
use tokio::time::Instant;

use super::{PATIENCE, Response};

/// Policies that Kyverno is asked about by the same means.
pub(crate) type Group = (PolicyKind, Action);

/// The group of a policy.
pub(crate) const fn group(policy: PolicyRef) -> Group {
    (policy.kind(), policy.action())
}

/// What Kyverno said of a group's policies of late.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// When an answer was in.
    answered: Option<Instant>,
    /// What failed since.
    streak: Option<Streak>,
    /// What is true of all of them.
    fault: Option<Fault>,
}

/// A fault of Kyverno's as a whole.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// What each of the policies would say.
    pub(super) response: Response,
    /// When it was known.
    pub(super) since: Instant,
    /// When it was last asked whether it is so still.
    pub(super) asked: Instant,
}

/// What questions came to one after the other, with no answer in between.
#[derive(Debug)]
struct Streak {
    failing: Failing,
    /// Since when nobody has answered.
    since: Instant,
    /// Who was asked.
    who: BTreeSet<PolicyRef>,
    questions: u32,
    /// Those of them that were refused, and did not just take too long.
    refused: BTreeSet<PolicyRef>,
    refusals: u32,
}

/// What is true of all policies of a group if it is of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// Kyverno has no webhook for pods.
    Open,
    /// It cannot be reached, or takes too long.
    Down,
}

impl Failing {
    const fn of(response: &Response) -> Option<Self> {
        match response {
            Response::Open => Some(Self::Open),
            Response::Unreachable(_) | Response::Slow(_) => Some(Self::Down),
            Response::Marks(_) | Response::Silent(_) | Response::Unreadable(_) => None,
        }
    }
}

/// What an answer has changed for a group as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    None,
    /// All of its policies fail from now on.
    Fails,
    /// They do not any more.
    Recovers,
}

impl Health {
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Takes in what a question to one of so many policies came to.
    pub(super) fn hear(
        &mut self,
        policy: PolicyRef,
        response: &Response,
        (asked, answered): (Instant, Instant),
        members: usize,
    ) -> Turn {
        let failing = Failing::of(response);
        if matches!(response, Response::Marks(_)) {
            self.answered = self.answered.max(Some(answered));
        }
        let is_new = self.streak.as_ref().is_none_or(|streak| Some(streak.failing) != failing);
        if is_new {
            self.streak = failing.map(|failing| Streak {
                failing,
                // One that hung may have been asked before another was answered.
                since: Some(asked).max(self.answered).unwrap_or(asked),
                who: BTreeSet::new(),
                questions: 0,
                refused: BTreeSet::new(),
                refusals: 0,
            });
        }
        let as_before = self.fault.as_ref().and_then(|fault| Failing::of(&fault.response));
        if let Some(fault) = self.fault.as_mut().filter(|_| as_before == failing) {
            fault.asked = fault.asked.max(asked);
            return Turn::None;
        }
        let recovers = self.fault.take().is_some();
        let Some(streak) = &mut self.streak else {
            return if recovers { Turn::Recovers } else { Turn::None };
        };
        streak.who.insert(policy);
        streak.questions += 1;
        if !matches!(response, Response::Slow(_)) {
            streak.refused.insert(policy);
            streak.refusals += 1;
        }
        let needed = members.clamp(1, 2);
        let is_refused = streak.refused.len() >= needed && streak.refusals >= 2;
        let is_silent = streak.who.len() >= needed
            && streak.questions >= 2
            && answered.saturating_duration_since(streak.since) >= PATIENCE;
        if is_refused || is_silent {
            let response = match response {
                Response::Slow(text) => Response::Unreachable(text.clone()),
                other => other.clone(),
            };
            self.fault = Some(Fault { response, since: answered, asked });
            return Turn::Fails;
        }
        if recovers { Turn::Recovers } else { Turn::None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(number: u32) -> PolicyRef {
        PolicyRef::new(Action::Enforce, number)
    }

    fn answer() -> Response {
        Response::Marks("shop=1.aa".parse().unwrap())
    }

    fn refused() -> Response {
        Response::Unreachable("connection refused".to_owned())
    }

    fn slow() -> Response {
        Response::Slow("context deadline exceeded".to_owned())
    }

    /// Each question takes as long as this and is asked when the one before was over.
    fn hear(
        health: &mut Health,
        took: Duration,
        members: usize,
        questions: &[(u32, Response)],
    ) -> Vec<Turn> {
        let mut now = Instant::now();
        let heard = questions.iter().map(|(number, response)| {
            let asked = now;
            now += took;
            health.hear(policy(*number), response, (asked, now), members)
        });
        heard.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_true_of_two_is_true_of_all_until_one_answers() {
        for failure in [refused(), Response::Open] {
            let mut health = Health::default();
            let questions = [(1, failure.clone()), (2, failure.clone()), (3, answer())];
            let turns = hear(&mut health, SECOND, 400, &questions);
            assert_eq!(turns, [Turn::None, Turn::Fails, Turn::Recovers]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_policy_alone_is_no_fault_of_the_others() {
        let mut health = Health::default();
        let questions = [(1, refused()), (1, refused()), (1, refused())];
        assert_eq!(hear(&mut health, SECOND, 400, &questions), [Turn::None; 3]);
        let questions = [(1, refused()), (2, answer()), (1, refused()), (3, answer())];
        assert_eq!(hear(&mut health, SECOND, 400, &questions), [Turn::None; 4]);
        // Of one that is alone, that it is so twice has to do.
        let mut health = Health::default();
        let questions = [(1, refused()), (1, refused())];
        assert_eq!(hear(&mut health, SECOND, 1, &questions), [Turn::None, Turn::Fails]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_differs_nothing_is_concluded() {
        let mut health = Health::default();
        let unreadable = Response::Unreadable("a quota".to_owned());
        let questions = [
            (1, Response::Open),
            (2, refused()),
            (3, Response::Open),
            (1, unreadable.clone()),
            (2, unreadable),
        ];
        assert_eq!(hear(&mut health, SECOND, 400, &questions), [Turn::None; 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_becomes_another_is_over_first() {
        let mut health = Health::default();
        let questions = [(1, refused()), (2, refused()), (3, Response::Open), (4, Response::Open)];
        let turns = hear(&mut health, SECOND, 400, &questions);
        assert_eq!(turns, [Turn::None, Turn::Fails, Turn::Recovers, Turn::Fails]);
        assert_eq!(health.fault().unwrap().response, Response::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_kyverno_is_not_called_down_as_long_as_it_answers_anybody() {
        let mut health = Health::default();
        let mut questions = vec![(1, slow()), (2, slow()), (3, slow()), (4, answer())];
        questions = questions.iter().cycle().take(40).cloned().collect();
        let turns = hear(&mut health, 10 * SECOND, 400, &questions);
        assert_eq!(turns, vec![Turn::None; 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_nobody_is_down_at_the_end_of_the_patience() {
        for (took, members) in [(10, 400), (30, 400), (10, 1)] {
            let mut health = Health::default();
            let numbers = if members == 1 { [1; 5] } else { [1, 2, 3, 4, 5] };
            let questions = numbers.map(|number| (number, slow()));
            let turns = hear(&mut health, took * SECOND, members, &questions);
            let fails = turns.iter().position(|turn| *turn == Turn::Fails).unwrap();
            let after = u32::try_from(fails + 1).unwrap() * took;
            assert!((45..=60).contains(&after), "after {after} s");
            assert!(matches!(&health.fault().unwrap().response, Response::Unreachable(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hung_while_another_was_answered_counts_from_then() {
        let mut health = Health::default();
        let start = Instant::now();
        let mut hear = |number, response: &Response, asked: u32, answered: u32| {
            let times = (start + asked * SECOND, start + answered * SECOND);
            health.hear(policy(number), response, times, 400)
        };
        assert_eq!(hear(9, &answer(), 20, 28), Turn::None);
        assert_eq!(hear(1, &slow(), 0, 30), Turn::None);
        assert_eq!(hear(2, &slow(), 16, 46), Turn::None, "an answer came 18 s ago");
        assert_eq!(hear(3, &slow(), 44, 74), Turn::Fails);
    }
}
