//! What was last seen of the Secrets of pipelines, of rings that are on their way.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use signingkeyring_core::ledger::PipelineRef;
use tokio::time::Instant;

use crate::lock::Mutex;

/// So long it is kept what was seen, which is as long as it may be gone by.
const KEPT: Duration = Duration::from_secs(60);

/// Room for so many is kept.
const LEAST_ROOM: usize = 256;

/// Of the metadata of a ring's pipeline Secrets what decides, or that there is no such Secret.
pub type Seen = BTreeMap<PipelineRef, Option<ObjectMeta>>;

/// What was last seen of the pipeline Secrets of rings that were looked at a moment ago:
/// who looks again at once need not ask again.
#[derive(Debug, Default)]
pub struct Looks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_ring: HashMap<String, Look>,
    /// When the Secrets of rings at rest were all found to be as the operator writes them.
    /// There may be thousands of those at once, and what they hold is known from
    /// [`Contents`](super::Contents).
    as_written: HashMap<String, Instant>,
    /// When each was taken in, the oldest first.
    order: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Look {
    /// When this was last taken in or added to.
    at: Instant,
    /// When it was looked at them; nothing if it was not: so they were when they were last
    /// seen.
    looked: Option<Instant>,
    seen: Seen,
    /// When this process has written some of them since.
    written: BTreeMap<PipelineRef, Instant>,
}

impl Look {
    /// Since when it has not been looked at one of them, if that is known.
    fn since(&self) -> Option<Instant> {
        let times = self.seen.keys().map(|pipeline| self.written.get(pipeline).copied());
        times.map(|written| written.or(self.looked)).min().unwrap_or(self.looked)
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        while let Some((at, ring)) = self.order.front()
            && now.duration_since(*at) >= KEPT
        {
            if self.by_ring.get(ring).is_some_and(|look| look.at == *at) {
                self.by_ring.remove(ring);
            }
            if self.as_written.get(ring) == Some(at) {
                self.as_written.remove(ring);
            }
            self.order.pop_front();
        }
        // Of a wave nothing stays.
        if self.order.capacity() > LEAST_ROOM.max(4 * self.order.len()) {
            self.order.shrink_to(LEAST_ROOM);
            self.by_ring.shrink_to(LEAST_ROOM);
            self.as_written.shrink_to(LEAST_ROOM);
        }
    }
}

impl Looks {
    /// What was seen of a ring's Secrets no longer ago than this, and how long ago.
    #[must_use]
    pub(crate) fn get(&self, ring: &str, most: Duration) -> Option<(Seen, Duration)> {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.expire(now);
        let look = state.by_ring.get(ring)?;
        let age = now.duration_since(look.since()?);
        (age < most).then(|| (look.seen.clone(), age))
    }

    /// Takes in what was seen of all of a ring's Secrets.
    pub(crate) fn put(&self, ring: &str, at: Instant, seen: Seen) {
        self.insert(ring, Look { at, looked: Some(at), seen, written: BTreeMap::new() });
    }

    /// Takes in what they are taken for: what of them is written from now on is known.
    pub(crate) fn assume(&self, ring: &str, seen: Seen) {
        let at = Instant::now();
        self.insert(ring, Look { at, looked: None, seen, written: BTreeMap::new() });
    }

    /// How long ago all Secrets of a ring at rest were found to be as the operator writes
    /// them, if it is no longer ago than this.
    #[must_use]
    pub(crate) fn as_written(&self, ring: &str, most: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.expire(now);
        let age = now.duration_since(*state.as_written.get(ring)?);
        (age < most).then_some(age)
    }

    /// Takes in that they were, and forgets what was seen of them before.
    pub(crate) fn put_as_written(&self, ring: &str, at: Instant) {
        let mut state = self.0.lock();
        state.expire(Instant::now());
        state.by_ring.remove(ring);
        state.as_written.insert(ring.to_owned(), at);
        state.order.push_back((at, ring.to_owned()));
    }

    fn insert(&self, ring: &str, look: Look) {
        let mut state = self.0.lock();
        state.expire(Instant::now());
        state.as_written.remove(ring);
        state.order.push_back((look.at, ring.to_owned()));
        state.by_ring.insert(ring.to_owned(), look);
    }

    /// Takes in what this process has written, which is as it is by now.
    pub(crate) fn wrote(&self, ring: &str, pipeline: &PipelineRef, stored: ObjectMeta) {
        let (mut state, now) = (self.0.lock(), Instant::now());
        if let Some(look) = state.by_ring.get_mut(ring) {
            look.at = now;
            look.seen.insert(pipeline.clone(), Some(stored));
            look.written.insert(pipeline.clone(), now);
            state.order.push_back((now, ring.to_owned()));
        }
    }

    /// Forgets what was seen of a ring's Secrets: it is not so any more.
    pub(crate) fn forget(&self, ring: &str) {
        let mut state = self.0.lock();
        state.by_ring.remove(ring);
        state.as_written.remove(ring);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_counts_for_a_while() {
        let looks = Looks::default();
        let pipeline = PipelineRef { namespace: "ci".to_owned(), name: "signing".to_owned() };
        let get =
            |most| looks.get("shop", most * SECOND).map(|(seen, _)| seen[&pipeline].is_some());
        assert_eq!(get(30), None);
        looks.put("shop", Instant::now(), [(pipeline.clone(), None)].into());
        assert_eq!(get(30), Some(false));
        looks.wrote("shop", &pipeline, ObjectMeta::default());
        assert_eq!(get(30), Some(true));
        tokio::time::advance(2 * SECOND).await;
        assert_eq!((get(2), get(3)), (None, Some(true)));
        // Of one that was looked at since the older look does not end the newer.
        looks.put("shop", Instant::now(), [(pipeline.clone(), None)].into());
        tokio::time::advance(KEPT - SECOND).await;
        assert_eq!(get(60), Some(false));
        tokio::time::advance(SECOND).await;
        assert_eq!(get(90), None);
        assert!(looks.0.lock().by_ring.is_empty() && looks.0.lock().order.is_empty());
        looks.put("shop", Instant::now(), [(pipeline.clone(), None)].into());
        looks.forget("shop");
        assert_eq!(get(30), None);
        looks.wrote("shop", &pipeline, ObjectMeta::default());
        assert_eq!(get(30), None, "what is known of one Secret says nothing of the others");
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_rest_it_is_known_for_a_while_when_they_were_looked_at() {
        let looks = Looks::default();
        let age = |ring: usize, most| looks.as_written(&ring.to_string(), most * SECOND);
        for ring in 0..10 * LEAST_ROOM {
            looks.put_as_written(&ring.to_string(), Instant::now());
        }
        tokio::time::advance(10 * SECOND).await;
        assert_eq!((age(7, 10), age(7, 11)), (None, Some(10 * SECOND)));
        looks.put("7", Instant::now(), Seen::new());
        assert_eq!(age(7, 30), None, "what was seen since counts");
        looks.forget("8");
        assert_eq!(age(8, 30), None);
        looks.put_as_written("9", Instant::now());
        tokio::time::advance(KEPT - 10 * SECOND).await;
        assert_eq!((age(9, 60), age(10, 90)), (Some(KEPT - 10 * SECOND), None));
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(age(9, 90), None);
        let state = looks.0.lock();
        assert!(state.as_written.is_empty() && state.by_ring.is_empty());
        assert!(state.order.capacity() <= 2 * LEAST_ROOM, "{}", state.order.capacity());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_since_is_as_it_is_by_now() {
        let looks = Looks::default();
        let [a, b] =
            ["a", "b"].map(|n| PipelineRef { namespace: n.to_owned(), name: "signing".to_owned() });
        let age = || looks.get("shop", 2 * KEPT).map(|(_, age)| age);
        looks.put("shop", Instant::now(), [(a.clone(), None), (b.clone(), None)].into());
        tokio::time::advance(10 * SECOND).await;
        looks.wrote("shop", &a, ObjectMeta::default());
        assert_eq!(age(), Some(10 * SECOND), "of the other one");
        tokio::time::advance(SECOND).await;
        looks.wrote("shop", &b, ObjectMeta::default());
        assert_eq!(age(), Some(SECOND));
        // Of what is only assumed nothing is known until it is written.
        looks.assume("shop", [(a.clone(), None), (b.clone(), None)].into());
        looks.wrote("shop", &a, ObjectMeta::default());
        assert_eq!(age(), None);
        looks.wrote("shop", &b, ObjectMeta::default());
        assert_eq!(age(), Some(Duration::ZERO));
        // It is kept from then on.
        tokio::time::advance(KEPT - SECOND).await;
        assert_eq!(age(), Some(KEPT - SECOND));
        tokio::time::advance(SECOND).await;
        assert_eq!(age(), None);
        assert!(looks.0.lock().by_ring.is_empty() && looks.0.lock().order.is_empty());
    }
}
