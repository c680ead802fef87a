//! Which ring is looked at next although nothing changed: pipelines' Secrets are not
//! watched.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::Mutex;

/// When each ring was last looked at.
#[derive(Debug, Default)]
pub struct Rechecks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rings: HashMap<Arc<str>, Looked>,
    /// Those that have not been woken since, oldest first, and wait for nobody.
    resting: BTreeSet<(Instant, Arc<str>)>,
    /// The same of those that wait for somebody.
    waiting: BTreeSet<(Instant, Arc<str>)>,
    /// How many requests it takes to look at all of them.
    requests: u64,
    /// So many requests more were made for those that wait than for the others, while both
    /// had their turn.
    lead: u64,
}

#[derive(Clone, Copy, Debug)]
struct Looked {
    at: Instant,
    requests: u32,
    waits: bool,
}

/// Who is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This ring, with so many requests.
    Ring(String, u32),
    /// Nobody before then.
    At(Instant),
    /// Nobody.
    Nobody,
}

impl Rechecks {
    /// A ring was looked at, by so many requests; one counts in any case. It may wait for
    /// what nobody tells of, such as a right in a namespace: those take turns with the many
    /// that are as they should be.
    pub fn looked_at(&self, ring: &str, at: Instant, requests: usize, waits: bool) {
        let mut state = self.0.lock();
        state.forget(ring);
        let requests = u32::try_from(requests).unwrap_or(u32::MAX).max(1);
        state.requests += u64::from(requests);
        let ring: Arc<str> = ring.into();
        state.of(waits).insert((at, Arc::clone(&ring)));
        state.rings.insert(ring, Looked { at, requests, waits });
    }

    /// A ring is gone.
    pub fn forget(&self, ring: &str) {
        self.0.lock().forget(ring);
    }

    /// Within this time each ring is looked at, by so many requests a second.
    #[must_use]
    pub fn bound(&self, interval: Duration, rate: u16) -> Duration {
        let state = self.0.lock();
        // Those that wait may be looked at as often as all others together.
        let turns = if state.waiting.is_empty() { 1 } else { 2 };
        interval + Duration::from_millis(turns * state.requests * 1_000 / u64::from(rate))
    }

    /// Who is to be looked at now, of those that were not for this long.
    pub fn next(&self, interval: Duration) -> Next {
        let (mut state, now) = (self.0.lock(), Instant::now());
        let firsts = [&state.resting, &state.waiting].map(|rings| rings.first().cloned());
        let Some(first) = firsts.iter().flatten().map(|(at, _)| *at).min() else {
            return Next::Nobody;
        };
        let due = firsts
            .map(|first| first.filter(|(at, _)| now.saturating_duration_since(*at) >= interval));
        let both = due.iter().all(Option::is_some);
        let (place, waits) = match due {
            [None, None] => return Next::At(first + interval),
            [Some(resting), Some(_)] if state.lead > 0 => (resting, false),
            [_, Some(waiting)] => (waiting, true),
            [Some(resting), None] => (resting, false),
        };
        state.of(waits).remove(&place);
        let (_, ring) = place;
        let requests = state.rings.get(&ring).map_or(1, |looked| looked.requests);
        state.lead = match waits {
            // Nobody else waited for those.
            true if !both => state.lead,
            true => state.lead + u64::from(requests),
            false => state.lead.saturating_sub(requests.into()),
        };
        Next::Ring(ring.to_string(), requests)
    }
}

impl State {
    fn of(&mut self, waits: bool) -> &mut BTreeSet<(Instant, Arc<str>)> {
        if waits { &mut self.waiting } else { &mut self.resting }
    }

    fn forget(&mut self, ring: &str) {
        if let Some((ring, looked)) = self.rings.remove_entry(ring) {
            self.of(looked.waits).remove(&(looked.at, ring));
            self.requests -= u64::from(looked.requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, sleep_until};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(120);
    const RATE: u16 = 10;

    /// Looks at the rings as they are woken; returns the longest that one was not looked
    /// at, and how many requests there were in each second.
    async fn looks(rings: usize, requests: usize, length: Duration) -> (Duration, Vec<u64>) {
        let rechecks = Rechecks::default();
        let start = Instant::now();
        let mut last = HashMap::new();
        for ring in 0..rings {
            rechecks.looked_at(&ring.to_string(), Instant::now(), requests, ring % 3 == 0);
            last.insert(ring.to_string(), start);
        }
        let mut longest = Duration::ZERO;
        let mut each_second = vec![0; usize::try_from(length.as_secs()).unwrap() + 60];
        while start.elapsed() < length {
            match rechecks.next(INTERVAL) {
                Next::Ring(ring, cost) => {
                    let now = Instant::now();
                    longest = longest.max(now - last.insert(ring.clone(), now).unwrap());
                    let second = usize::try_from(start.elapsed().as_secs()).unwrap();
                    each_second[second] += u64::from(cost);
                    let waits = ring.parse::<usize>().unwrap() % 3 == 0;
                    rechecks.looked_at(&ring, Instant::now(), requests, waits);
                    sleep(Duration::from_secs(1) * cost / u32::from(RATE)).await;
                }
                Next::At(at) => sleep_until(at).await,
                Next::Nobody => unreachable!(),
            }
        }
        assert!(longest <= rechecks.bound(INTERVAL, RATE), "{longest:?}");
        (longest, each_second)
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_looked_at_within_the_bound_by_no_more_requests_than_there_may_be() {
        for (rings, requests, bound) in [(1, 1, 121), (100, 2, 160), (1_000, 2, 520)] {
            let (longest, each_second) = looks(rings, requests, INTERVAL * 10).await;
            assert!(longest <= Duration::from_secs(bound), "{rings}: {longest:?}");
            let most = each_second.into_iter().max().unwrap();
            assert!(most <= u64::from(RATE) + 2, "{rings}: {most} requests in a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_looked_at_for_another_reason_waits_anew_and_who_is_gone_is_forgotten() {
        let rechecks = Rechecks::default();
        rechecks.looked_at("a", Instant::now(), 0, false);
        rechecks.looked_at("b", Instant::now(), 3, false);
        assert_eq!(rechecks.bound(INTERVAL, 1), INTERVAL + Duration::from_secs(4));
        tokio::time::advance(INTERVAL / 2).await;
        rechecks.looked_at("a", Instant::now(), 2, false);
        // By what was seen before.
        rechecks.looked_at("b", Instant::now() - INTERVAL / 2, 3, false);
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(rechecks.next(INTERVAL), Next::Ring("b".to_owned(), 3));
        assert_eq!(rechecks.next(INTERVAL), Next::At(Instant::now() + INTERVAL / 2));
        rechecks.forget("a");
        assert_eq!(rechecks.next(INTERVAL), Next::Nobody);
        rechecks.forget("b");
        assert_eq!(rechecks.bound(INTERVAL, 1), INTERVAL);
    }
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_somebody_is_looked_at_sooner_than_the_many_that_do_not() {
        let rechecks = Rechecks::default();
        (0..1_000).for_each(|ring| rechecks.looked_at(&ring.to_string(), Instant::now(), 2, false));
        tokio::time::advance(INTERVAL).await;
        rechecks.looked_at("waits", Instant::now(), 3, true);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(rechecks.next(INTERVAL), Next::Ring("waits".to_owned(), 3));
        rechecks.looked_at("waits", Instant::now(), 3, true);
        tokio::time::advance(INTERVAL).await;
        // The others have their turn, for as many requests.
        for _ in 0..2 {
            let Next::Ring(ring, 2) = rechecks.next(INTERVAL) else { panic!("nobody") };
            assert_ne!(ring, "waits");
        }
        assert_eq!(rechecks.next(INTERVAL), Next::Ring("waits".to_owned(), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_owes_nothing_for_what_nobody_else_wanted() {
        let rechecks = Rechecks::default();
        for _ in 0..1_000 {
            rechecks.looked_at("waits", Instant::now(), 3, true);
            rechecks.looked_at("rests", Instant::now(), 2, false);
            tokio::time::advance(INTERVAL / 2).await;
            rechecks.looked_at("rests", Instant::now(), 2, false);
            tokio::time::advance(INTERVAL / 2).await;
            assert_eq!(rechecks.next(INTERVAL), Next::Ring("waits".to_owned(), 3));
        }
        rechecks.looked_at("waits", Instant::now(), 3, true);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(rechecks.next(INTERVAL), Next::Ring("waits".to_owned(), 3));
    }
}
