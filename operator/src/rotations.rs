//! Which rings rotate, and which wait for them: no more than `--max-rotations` at once.
//! Who waits takes its turn in the order in which it came.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::Mutex;

/// A rotation that has not come through after this and its soak does not count any more:
/// one whose pipeline cannot be reached would hold up all others.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The rings that rotate, and those that wait.
#[derive(Debug)]
pub struct Rotations {
    limit: Option<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: HashMap<String, UnderWay>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, String>,
    tickets: HashMap<String, u64>,
    next_ticket: u64,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    since: Instant,
    soak: Duration,
}

impl UnderWay {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < PATIENCE + self.soak
    }
}

/// What a pass has come to for one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It rotates, with a soak of this length.
    UnderWay(Duration),
    /// A rotation is due and waits for others.
    Waiting,
    /// Neither.
    Neither,
}

impl Rotations {
    /// Of no more than so many at once, if there is a limit.
    #[must_use]
    pub fn new(limit: Option<u16>) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// The limit, if it leaves no room for a rotation of a ring.
    #[must_use]
    pub fn full_for(&self, ring: &str) -> Option<u16> {
        let limit = self.limit?;
        (!self.state.lock().has_room(ring, limit, Instant::now())).then_some(limit)
    }

    /// Takes up room for a rotation that is about to be committed; the end of the pass
    /// gives it back if nothing came of it. Returns whether there was any.
    pub fn begin(&self, ring: &str, soak: Duration) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let has_room = self.limit.is_none_or(|limit| state.has_room(ring, limit, now));
        if has_room {
            state.stand(ring, Standing::UnderWay(soak), now);
        }
        has_room
    }

    /// Takes in what a pass has come to. Returns the rings that have room by now.
    pub fn note(&self, ring: &str, standing: Standing) -> Vec<String> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let changed = state.stand(ring, standing, now);
        match self.limit {
            Some(limit) if changed || standing == Standing::Waiting => state.next(limit, now),
            _ => Vec::new(),
        }
    }

    /// Whether a ring has taken up room.
    #[must_use]
    pub fn is_under_way(&self, ring: &str) -> bool {
        self.state.lock().under_way.contains_key(ring)
    }

    /// How many rings rotate, and how many wait for them.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.under_way.len(), state.waiting.len())
    }
}

impl State {
    /// Returns whether that is news.
    fn stand(&mut self, ring: &str, standing: Standing, now: Instant) -> bool {
        let mut changed = false;
        if standing != Standing::Waiting
            && let Some(ticket) = self.tickets.remove(ring)
        {
            self.waiting.remove(&ticket);
            changed = true;
        }
        match standing {
            Standing::UnderWay(soak) => {
                let before = self.under_way.get_mut(ring);
                match before {
                    // Others have room once it does not count any more.
                    Some(before) => {
                        before.soak = soak;
                        return changed || !before.counts(now);
                    }
                    None => {
                        let since = UnderWay { since: now, soak };
                        self.under_way.insert(ring.to_owned(), since);
                    }
                }
            }
            Standing::Waiting => {
                self.under_way.remove(ring);
                if !self.tickets.contains_key(ring) {
                    self.next_ticket += 1;
                    self.tickets.insert(ring.to_owned(), self.next_ticket);
                    self.waiting.insert(self.next_ticket, ring.to_owned());
                }
            }
            Standing::Neither => changed |= self.under_way.remove(ring).is_some(),
        }
        changed
    }

    fn free(&self, limit: u16, now: Instant) -> usize {
        let counting = self.under_way.values().filter(|rotation| rotation.counts(now)).count();
        usize::from(limit).saturating_sub(counting)
    }

    fn has_room(&self, ring: &str, limit: u16, now: Instant) -> bool {
        if self.under_way.contains_key(ring) {
            return true;
        }
        let free = self.free(limit, now);
        match self.tickets.get(ring) {
            Some(ticket) => self.waiting.range(..ticket).take(free).count() < free,
            None => self.waiting.len() < free,
        }
    }

    /// The first of those that wait, as many as have room.
    fn next(&self, limit: u16, now: Instant) -> Vec<String> {
        self.waiting.values().take(self.free(limit, now)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOAK: Duration = Duration::from_secs(10);
    const UNDER_WAY: Standing = Standing::UnderWay(SOAK);

    fn named(rings: &[&str]) -> Vec<String> {
        rings.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_rotate_at_once_and_the_others_follow_in_their_order() {
        let rotations = Rotations::new(Some(2));
        for ring in ["a", "b"] {
            assert_eq!(rotations.full_for(ring), None);
            assert!(rotations.begin(ring, SOAK));
        }
        for ring in ["d", "c"] {
            assert_eq!(rotations.full_for(ring), Some(2));
            assert!(!rotations.begin(ring, SOAK));
            assert_eq!(rotations.note(ring, Standing::Waiting), [""; 0]);
        }
        assert_eq!(rotations.counts(), (2, 2));
        assert_eq!(rotations.full_for("a"), None, "it rotates");
        assert_eq!(rotations.note("b", UNDER_WAY), [""; 0]);
        assert_eq!(rotations.note("b", Standing::Neither), named(&["d"]));
        // Nobody overtakes who waits.
        for ring in ["c", "e"] {
            assert!(!rotations.begin(ring, SOAK), "{ring}");
        }
        assert!(rotations.begin("d", SOAK));
        assert_eq!(rotations.note("a", Standing::Neither), named(&["c"]));
        assert!(rotations.begin("c", SOAK));
        assert_eq!(rotations.counts(), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_want_to_any_more_holds_up_nobody() {
        let rotations = Rotations::new(Some(1));
        assert!(rotations.begin("a", SOAK));
        rotations.note("b", Standing::Waiting);
        rotations.note("c", Standing::Waiting);
        assert_eq!(rotations.note("b", Standing::Neither), [""; 0]);
        assert_eq!(rotations.note("a", Standing::Neither), named(&["c"]));
        // What was begun and came to nothing.
        assert!(rotations.begin("c", SOAK));
        rotations.note("d", Standing::Waiting);
        assert_eq!(rotations.note("c", Standing::Waiting), named(&["d"]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_to_wait_as_room_is_made_is_told_at_once() {
        let rotations = Rotations::new(Some(1));
        assert!(rotations.begin("a", SOAK));
        assert_eq!(rotations.full_for("b"), Some(1));
        assert_eq!(rotations.note("a", Standing::Neither), [""; 0]);
        assert_eq!(rotations.note("b", Standing::Waiting), named(&["b"]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_through_holds_up_the_others_for_a_while() {
        let rotations = Rotations::new(Some(1));
        assert!(rotations.begin("stuck", SOAK));
        rotations.note("a", Standing::Waiting);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(rotations.note("stuck", UNDER_WAY), [""; 0]);
        tokio::time::advance(SOAK).await;
        assert_eq!(rotations.note("stuck", UNDER_WAY), named(&["a"]));
        assert!(rotations.begin("a", SOAK));
        assert_eq!(rotations.full_for("stuck"), None);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let rotations = Rotations::new(None);
        for ring in 0..1_000 {
            assert_eq!(rotations.full_for(&ring.to_string()), None);
            assert!(rotations.begin(&ring.to_string(), SOAK));
        }
    }
}
