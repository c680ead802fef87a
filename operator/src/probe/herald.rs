//! Has rings say what their gate says by now, so many a second: when Kyverno as a whole
//! stops answering, or starts to, that is true of all rings at once.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Each of these has a status and an event written: fifty a second.
const GAP: Duration = Duration::from_millis(20);

/// After a pause so many are told at once.
const MOST_AT_ONCE: u32 = 12;

/// The rings that have yet to be told.
#[derive(Debug)]
pub(super) struct Herald {
    /// With whether pods pass unverified, for all that was heard last.
    waiting: HashMap<String, bool>,
    /// Those of which that was so when they came. They are told before the others.
    open: VecDeque<String>,
    others: VecDeque<String>,
    next: Instant,
}

impl Herald {
    pub(super) fn new(now: Instant) -> Self {
        let (open, others) = (VecDeque::new(), VecDeque::new());
        Self { waiting: HashMap::new(), open, others, next: now }
    }

    /// Has a ring told. One that waits for that already learns what is so by now.
    pub(super) fn tell(&mut self, ring: String, is_open: bool) {
        match self.waiting.insert(ring.clone(), is_open) {
            None if is_open => self.open.push_back(ring),
            None => self.others.push_back(ring),
            // It stays in both lines, and is told once.
            Some(false) if is_open => self.open.push_back(ring),
            Some(_) => {}
        }
    }

    /// The ring that is told now, if there is one, and whether pods pass unverified.
    pub(super) fn next(&mut self, now: Instant) -> Option<(String, bool)> {
        let earliest = now.checked_sub(GAP * MOST_AT_ONCE).unwrap_or(now);
        self.next = self.next.max(earliest);
        if self.next > now {
            return None;
        }
        let told = loop {
            let ring = self.open.pop_front().or_else(|| self.others.pop_front())?;
            if let Some(told) = self.waiting.remove_entry(&ring) {
                break told;
            }
        };
        self.next += GAP;
        Some(told)
    }

    /// Within this time so many rings are told.
    pub(super) fn bound(rings: usize) -> Duration {
        GAP * u32::try_from(rings).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_are_told_within_the_bound_and_no_more_than_fifty_a_second() {
        let start = Instant::now();
        let mut herald = Herald::new(start);
        let rings = 10_000;
        for ring in 0..2 * rings {
            herald.tell((ring % rings).to_string(), false);
        }
        let (mut told, mut now) = (0, start);
        while told < rings {
            now += Duration::from_millis(100);
            told += std::iter::from_fn(|| herald.next(now)).count();
            let since = usize::try_from((now - start).as_secs()).unwrap();
            assert!(told <= (since + 1) * 50 + 12, "{told} in {since} s");
        }
        assert_eq!(Herald::bound(rings), Duration::from_secs(200));
        assert!(now - start <= Herald::bound(rings), "{:?}", now - start);
    }
    #[tokio::test(start_paused = true)]
    async fn a_ring_that_waits_learns_that_its_gate_opens_and_is_told_first() {
        let now = Instant::now();
        let mut herald = Herald::new(now);
        let tell = |herald: &mut Herald, ring: &str, is_open| herald.tell(ring.to_owned(), is_open);
        for ring in ["a", "b", "c"] {
            tell(&mut herald, ring, false);
        }
        tell(&mut herald, "c", true);
        tell(&mut herald, "b", true);
        // It verifies again.
        tell(&mut herald, "b", false);
        let later = now + GAP * MOST_AT_ONCE;
        let told: Vec<_> = std::iter::from_fn(|| herald.next(later)).collect();
        let wanted = [("c", true), ("b", false), ("a", false)];
        assert_eq!(told, wanted.map(|(ring, is_open)| (ring.to_owned(), is_open)));
        assert!(herald.open.is_empty() && herald.others.is_empty() && herald.waiting.is_empty());
    }
}
