//! Who is asked next: each policy once at a time, those that are on their way to something
//! at a time of their own, and the others in turn. So many at once and so many a second, by
//! how fast Kyverno answers: what makes it slow has to make the questions fewer.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use signingkeyring_core::policy_ref::PolicyRef;
use tokio::time::Instant;

use crate::gate::{Due, Group, group};

/// The most policies that are asked at once: by a Kyverno that answers within [`QUICK`].
const MOST_AT_ONCE: u32 = 8;
const LEAST_AT_ONCE: u32 = 2;
const QUICK: Duration = Duration::from_millis(250);

/// A question that is not answered after this long does not count for that, up to
/// [`HANGING_TOO`] times as many.
const HANGING: Duration = Duration::from_secs(2);
const HANGING_TOO: usize = 4;

/// Between two questions passes this at least: twenty a second.
const GAP: Duration = Duration::from_millis(50);

/// At rest all policies are asked in this time, as long as there is [`REST_GAP`] between
/// two questions: five a second.
const ROUND: Duration = Duration::from_secs(120);
const REST_GAP: Duration = Duration::from_millis(200);

/// So many of those that rest are asked at once: another one, if the first hangs.
const AT_REST_AT_ONCE: usize = 2;

/// The policies that are to be asked, and those that are being asked.
#[derive(Debug)]
pub(super) struct Turns {
    known: HashMap<PolicyRef, Place>,
    /// Those with a time of their own.
    due: BTreeSet<(Instant, PolicyRef)>,
    /// Those that are asked in turn, by when they were last asked.
    resting: BTreeSet<(Instant, PolicyRef)>,
    /// Those that tell whether what failed for one is true of others.
    first: VecDeque<PolicyRef>,
    asking: HashMap<PolicyRef, Asking>,
    /// How long answers take of late.
    latency: Duration,
    /// When the last question was asked, and the last of one that rests.
    last: Instant,
    last_at_rest: Instant,
    /// At rest questions have no longer pauses than this.
    longest_pause: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    due: Option<Instant>,
    asked: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    since: Instant,
    at_rest: bool,
    /// Whether it was said to hang.
    is_told: bool,
}

impl Turns {
    /// Nobody was asked yet. At rest questions have no longer pauses than this.
    pub(super) fn new(longest_pause: Duration, now: Instant) -> Self {
        Self {
            known: HashMap::new(),
            due: BTreeSet::new(),
            resting: BTreeSet::new(),
            first: VecDeque::new(),
            asking: HashMap::new(),
            latency: Duration::ZERO,
            last: now.checked_sub(GAP).unwrap_or(now),
            last_at_rest: now,
            longest_pause,
        }
    }

    /// Says when a policy is to be asked. Of one that is being asked that is said again
    /// when it was answered.
    pub(super) fn place(&mut self, policy: PolicyRef, due: Due, now: Instant) {
        let asked = self.known.get(&policy).map_or(now, |place| place.asked);
        self.unplace(policy);
        let due = match due {
            Due::At(at) => Some(at),
            Due::InTurn => None,
        };
        self.known.insert(policy, Place { due, asked });
        if self.asking.contains_key(&policy) {
            return;
        }
        match due {
            Some(at) => self.due.insert((at, policy)),
            None => self.resting.insert((asked, policy)),
        };
    }

    /// A policy is not to be asked any more.
    pub(super) fn forget(&mut self, policy: PolicyRef) {
        self.unplace(policy);
        self.known.remove(&policy);
    }

    /// The policies that are to be asked.
    pub(super) fn known(&self) -> impl Iterator<Item = PolicyRef> {
        self.known.keys().copied()
    }

    /// Whether a policy is one of them.
    pub(super) fn knows(&self, policy: PolicyRef) -> bool {
        self.known.contains_key(&policy)
    }

    /// How many of them are asked in the same way.
    pub(super) fn members(&self, of: Group) -> usize {
        self.known().filter(|policy| group(*policy) == of).count()
    }

    /// The policy that is to be asked now, if there is one and there is room.
    pub(super) fn next(&mut self, now: Instant) -> Option<PolicyRef> {
        if !self.has_room(now) || now.saturating_duration_since(self.last) < GAP {
            return None;
        }
        while let Some(policy) = self.first.pop_front() {
            if self.knows(policy) && !self.asking.contains_key(&policy) {
                return Some(self.start(policy, now, false));
            }
        }
        let due = self.due.first().copied().filter(|(at, _)| *at <= now);
        // Those that rest are asked however many are on their way: by their pause they do not
        // take much.
        let is_time = now.saturating_duration_since(self.last_at_rest) >= self.pause();
        match self.at_rest(now).filter(|_| is_time) {
            Some(policy) => Some(self.start(policy, now, true)),
            None => due.map(|(_, policy)| self.start(policy, now, false)),
        }
    }

    /// A policy's question is over.
    pub(super) fn answered(&mut self, policy: PolicyRef, took: Duration) {
        self.asking.remove(&policy);
        self.latency = (self.latency * 7 + took) / 8;
        if let Some(place) = self.known.get(&policy) {
            self.resting.insert((place.asked, policy));
        }
    }

    /// Has another policy of a group asked at once, unless one is already: what it says is
    /// true of all of them, or of one alone.
    pub(super) fn ask_one_of(&mut self, of: Group, but: Option<PolicyRef>) {
        let is_of = |policy: &&PolicyRef| group(**policy) == of && Some(**policy) != but;
        if self.first.iter().chain(self.asking.keys()).any(|policy| is_of(&policy)) {
            return;
        }
        let resting = self.resting.iter().map(|(_, policy)| policy);
        let due = self.due.iter().map(|(_, policy)| policy);
        let found = resting.chain(due).find(is_of).copied();
        self.first.extend(found);
    }

    /// The policies whose questions have hung for a while, each once: another of its
    /// group is asked because of it, and not one after the other.
    pub(super) fn hanging(&mut self, now: Instant) -> Vec<PolicyRef> {
        let hangs = |asking: &Asking| now.saturating_duration_since(asking.since) >= HANGING;
        let new = self.asking.iter_mut().filter(|(_, asking)| hangs(asking) && !asking.is_told);
        new.map(|(policy, asking)| {
            asking.is_told = true;
            *policy
        })
        .collect()
    }

    /// Within this time each policy is asked, as many as there are and as fast as they
    /// answer.
    pub(super) fn round(&self) -> Duration {
        self.pause().max(self.latency) * self.count()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.known.len()).unwrap_or(u32::MAX)
    }

    /// Between two questions at rest.
    fn pause(&self) -> Duration {
        (ROUND / self.count().max(1)).max(REST_GAP).min(self.longest_pause)
    }

    fn has_room(&self, now: Instant) -> bool {
        let ages = self.asking.values().map(|asking| now.saturating_duration_since(asking.since));
        let asking = u32::try_from(self.asking.len()).unwrap_or(u32::MAX);
        let age = ages.clone().sum::<Duration>() / asking.max(1);
        let slow = self.latency.max(age).max(QUICK).as_millis();
        let at_once = QUICK.as_millis() * u128::from(MOST_AT_ONCE) / slow;
        let at_once = usize::try_from(at_once.max(LEAST_AT_ONCE.into())).unwrap_or(usize::MAX);
        let recent = ages.filter(|age| *age < HANGING).count();
        recent < at_once && self.asking.len() < at_once * HANGING_TOO
    }

    /// Who has rested for longest of those that may be asked.
    fn at_rest(&self, now: Instant) -> Option<PolicyRef> {
        let at_rest = self.asking.values().filter(|asking| asking.at_rest);
        let hangs = |asking: &Asking| now.saturating_duration_since(asking.since) >= HANGING;
        if at_rest.clone().count() >= AT_REST_AT_ONCE || !at_rest.clone().all(hangs) {
            return None;
        }
        let rested = |asked: Instant| now.saturating_duration_since(asked);
        let mut resting = self.resting.iter();
        resting.find(|(asked, policy)| rested(*asked) >= policy.kind().rest()).map(|(_, p)| *p)
    }

    fn start(&mut self, policy: PolicyRef, now: Instant, at_rest: bool) -> PolicyRef {
        self.unplace(policy);
        if let Some(place) = self.known.get_mut(&policy) {
            place.asked = now;
        }
        self.last = now;
        if at_rest {
            self.last_at_rest = now;
        }
        self.asking.insert(policy, Asking { since: now, at_rest, is_told: false });
        policy
    }

    fn unplace(&mut self, policy: PolicyRef) {
        if let Some(Place { due, asked }) = self.known.get(&policy) {
            self.resting.remove(&(*asked, policy));
            if let Some(at) = due {
                self.due.remove(&(*at, policy));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use signingkeyring_core::policy_ref::{Action, PolicyKind};

    use super::*;

    const TICK: Duration = Duration::from_millis(50);
    const PAUSE: Duration = Duration::from_secs(3);

    fn policy(number: u32) -> PolicyRef {
        PolicyRef::new(Action::Enforce, number)
    }

    /// A Kyverno that takes a time for each answer, which may depend on when it was asked.
    struct Simulation {
        turns: Turns,
        start: Instant,
        now: Instant,
        under_way: Vec<(Instant, Duration, PolicyRef)>,
        /// When each was asked.
        asked: HashMap<PolicyRef, Vec<Instant>>,
        most_at_once: usize,
    }

    impl Simulation {
        fn new(policies: u32) -> Self {
            let now = Instant::now();
            let mut turns = Turns::new(PAUSE, now);
            (1..=policies).for_each(|number| turns.place(policy(number), Due::InTurn, now));
            let (under_way, asked) = (Vec::new(), HashMap::new());
            Self { turns, start: now, now, under_way, asked, most_at_once: 0 }
        }

        /// `due` says when a policy is asked next that was answered.
        fn run(
            &mut self,
            length: Duration,
            latency: impl Fn(PolicyRef) -> Duration,
            due: impl Fn(PolicyRef, Instant) -> Due,
        ) {
            let end = self.now + length;
            while self.now < end {
                self.now += TICK;
                let now = self.now;
                let (over, under_way) =
                    self.under_way.drain(..).partition(|(at, took, _)| *at + *took <= now);
                self.under_way = under_way;
                let over: Vec<(Instant, Duration, PolicyRef)> = over;
                for (_, took, policy) in over {
                    self.turns.answered(policy, took);
                    self.turns.place(policy, due(policy, now), now);
                }
                while let Some(policy) = self.turns.next(now) {
                    self.asked.entry(policy).or_default().push(now);
                    self.under_way.push((now, latency(policy), policy));
                }
                self.most_at_once = self.most_at_once.max(self.under_way.len());
            }
        }

        /// The longest that a policy was not asked for.
        fn longest_pause(&self) -> Duration {
            let pauses = |asked: &Vec<Instant>| {
                let times = [self.start].into_iter().chain(asked.iter().copied()).chain([self.now]);
                let times: Vec<Instant> = times.collect();
                times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
            };
            self.asked.values().map(pauses).max().unwrap_or_default()
        }

        fn questions(&self) -> usize {
            self.asked.values().map(Vec::len).sum()
        }
    }

    fn resting(_: PolicyRef, _: Instant) -> Due {
        Due::InTurn
    }

    #[tokio::test(start_paused = true)]
    async fn at_rest_each_policy_is_asked_within_the_bound_that_is_stated() {
        let second = Duration::from_secs(1);
        for (policies, millis, bound) in
            [(1, 10, 4), (40, 10, 125), (400, 10, 125), (850, 10, 175), (50, 5_000, 255)]
        {
            let mut simulation = Simulation::new(policies);
            let latency = Duration::from_millis(millis);
            simulation.run(2 * bound * second, |_| latency, resting);
            let stated = simulation.turns.round();
            assert!(stated <= bound * second, "{policies}: {stated:?} is stated");
            let longest = simulation.longest_pause();
            let stated = stated + latency + TICK * policies;
            assert_eq!(simulation.asked.len(), policies as usize);
            assert!(longest <= stated, "{policies}: {longest:?}, and {stated:?} is stated");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_rest_are_asked_however_many_are_on_their_way() {
        let mut simulation = Simulation::new(200);
        let due = |asked: PolicyRef, now| {
            if asked > policy(100) { Due::At(now + Duration::from_secs(1)) } else { Due::InTurn }
        };
        simulation.run(Duration::from_secs(250), |_| Duration::from_millis(10), due);
        let stated = simulation.turns.round();
        let longest = simulation.longest_pause();
        assert!(longest <= stated + Duration::from_secs(12), "{longest:?}, {stated:?} is stated");
        // No more than twenty a second.
        assert!(simulation.questions() <= 250 * 20, "{}", simulation.questions());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_on_its_way_is_asked_at_its_time() {
        let mut simulation = Simulation::new(1);
        let now = simulation.now;
        simulation.turns.place(policy(1), Due::At(now), now);
        let again = |_, now| Due::At(now + Duration::from_secs(1));
        simulation.run(Duration::from_secs(10), |_| Duration::from_millis(10), again);
        assert!(simulation.questions() >= 9, "{}", simulation.questions());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_kyverno_is_asked_less_at_once_and_a_quick_one_more() {
        let due = |_, now| Due::At(now);
        let slow = Cell::new(Duration::from_millis(10));
        let mut simulation = Simulation::new(400);
        let now = simulation.now;
        (1..=400).for_each(|number| simulation.turns.place(policy(number), Due::At(now), now));
        simulation.run(Duration::from_secs(30), |_| slow.get(), due);
        assert!(simulation.questions() >= 30 * 19, "{}", simulation.questions());
        // All of a sudden each answer takes 8 s.
        slow.set(Duration::from_secs(8));
        let before = simulation.questions();
        simulation.run(Duration::from_secs(60), |_| slow.get(), due);
        assert!(simulation.most_at_once <= 8, "{} at once", simulation.most_at_once);
        let asked = simulation.questions() - before;
        assert!((8..=80).contains(&asked), "{asked} questions in a minute");
        slow.set(Duration::from_millis(10));
        simulation.run(Duration::from_secs(60), |_| slow.get(), due);
        let before = simulation.questions();
        simulation.run(Duration::from_secs(10), |_| slow.get(), due);
        assert!(simulation.questions() - before >= 10 * 19);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hold_up_the_others() {
        let mut simulation = Simulation::new(20);
        let hangs = |asked: PolicyRef| {
            let hangs = asked == policy(1);
            if hangs { Duration::from_secs(45) } else { Duration::from_millis(10) }
        };
        simulation.run(Duration::from_secs(300), hangs, resting);
        let others = simulation.asked.iter().filter(|(asked, _)| **asked != policy(1));
        for (policy, asked) in others {
            assert!(asked.len() >= 3, "{policy}: {}", asked.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_confirmed_by_another_of_its_group_before_all_others() {
        let mut simulation = Simulation::new(10);
        let (turns, now) = (&mut simulation.turns, simulation.now + PAUSE);
        (2..=10).for_each(|number| turns.place(policy(number), Due::At(now), now));
        let other = policy(1).of_kind(PolicyKind::ImageValidatingPolicy);
        turns.place(other, Due::InTurn, now);
        turns.ask_one_of(group(policy(3)), Some(policy(3)));
        turns.ask_one_of(group(policy(3)), Some(policy(3)));
        assert_eq!(turns.next(now), Some(policy(1)), "who rests");
        // It is under way, so nobody else is asked for that.
        turns.ask_one_of(group(policy(3)), Some(policy(3)));
        assert_eq!(turns.next(now), None, "before the next gap");
        assert_eq!(turns.members(group(other)), 1);
        turns.ask_one_of(group(other), Some(other));
        assert_eq!(turns.next(now), None, "there is no other one");
        turns.ask_one_of(group(other), None);
        assert_eq!(turns.next(now), None, "before the next gap");
        assert_eq!(turns.next(now + GAP), Some(other));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_is_told_once() {
        let mut simulation = Simulation::new(3);
        let now = simulation.now + PAUSE;
        let turns = &mut simulation.turns;
        turns.place(policy(2), Due::At(now), now);
        turns.ask_one_of(group(policy(2)), Some(policy(1)));
        let asked = turns.next(now).unwrap();
        assert_eq!(turns.hanging(now + HANGING / 2), []);
        assert_eq!(turns.hanging(now + HANGING), [asked]);
        assert_eq!(turns.hanging(now + 2 * HANGING), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_not_asked() {
        let mut simulation = Simulation::new(3);
        let now = simulation.now + PAUSE;
        let turns = &mut simulation.turns;
        turns.place(policy(2), Due::At(now), now);
        turns.ask_one_of(group(policy(1)), None);
        (1..=3).for_each(|number| turns.forget(policy(number)));
        assert_eq!((turns.next(now), turns.known().count()), (None, 0));
    }
}
