//! Has rings say what their gate says by now, so many a second: when Kyverno as a whole
//! stops answering, or starts to, that is true of all rings at once.

use std::{
    collections::{HashSet, VecDeque},
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
    /// With whether pods pass unverified.
    waiting: VecDeque<(String, bool)>,
    known: HashSet<String>,
    next: Instant,
}

impl Herald {
    pub(super) fn new(now: Instant) -> Self {
        Self { waiting: VecDeque::new(), known: HashSet::new(), next: now }
    }

    /// Has a ring told, unless it waits for that already.
    pub(super) fn tell(&mut self, ring: String, is_open: bool) {
        if self.known.insert(ring.clone()) {
            self.waiting.push_back((ring, is_open));
        }
    }

    /// The ring that is told now, if there is one, and whether pods pass unverified.
    pub(super) fn next(&mut self, now: Instant) -> Option<(String, bool)> {
        let earliest = now.checked_sub(GAP * MOST_AT_ONCE).unwrap_or(now);
        self.next = self.next.max(earliest);
        if self.next > now {
            return None;
        }
        let (ring, is_open) = self.waiting.pop_front()?;
        self.known.remove(&ring);
        self.next += GAP;
        Some((ring, is_open))
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
}
