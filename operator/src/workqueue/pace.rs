//! How soon a name may be worked on again that makes no progress.
//!
//! A pass that says nothing new costs a credit of at most twelve, which time
//! gives back, one a second. Without credit the name waits out a pause when it
//! is wanted again, and the pause doubles as long as that goes on. It ends with
//! news, or once nobody wants the name for as long as it takes to have all credit
//! back: who wants it once a second and not more often is never slowed.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Key;

/// What a pass costs, in the time that gives it back.
const COST: Duration = Duration::from_secs(1);
const FULL: Duration = Duration::from_secs(12);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of a name of which nothing was to be done.
const LONGEST_IDLE: Duration = Duration::from_secs(2);

/// How many keys are remembered: passes that take turns in what they come to
/// (written, up to date, written) make no progress either.
const REMEMBERED: usize = 4;

/// How a name has been worked on lately.
#[derive(Debug)]
pub(super) struct Pace {
    /// The last keys that were new.
    keys: VecDeque<u64>,
    /// What there was of it when the last pass ended.
    credit: Duration,
    ended: Instant,
    /// How long it has to wait if it is wanted at once; zero with credit left.
    pause: Duration,
    /// It was wanted at once.
    held_until: Option<Instant>,
    /// How many passes in a row had nothing to do.
    idle: u32,
}

impl Pace {
    /// Of a name that was not worked on before.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            keys: VecDeque::new(),
            credit: FULL,
            ended: now,
            pause: Duration::ZERO,
            held_until: None,
            idle: 0,
        }
    }

    /// A pass has ended.
    pub(super) fn pass(&mut self, key: Option<Key>, now: Instant) {
        let is_idle = key.is_some_and(|key| key.is_idle);
        if self.pause.is_zero() {
            self.credit = FULL.min(self.credit + now.duration_since(self.ended));
        }
        if let Some(key) = key
            && !self.keys.contains(&key.value)
        {
            self.keys.truncate(REMEMBERED - 1);
            self.keys.push_front(key.value);
            self.credit = FULL;
            self.pause = Duration::ZERO;
        }
        self.credit = self.credit.saturating_sub(COST);
        self.ended = now;
        self.held_until = None;
        self.idle = if is_idle { self.idle.saturating_add(1) } else { 0 };
        // Between two writes in vain there may be one look that finds it well.
        if self.idle > 1 {
            self.pause = self.pause.min(LONGEST_IDLE);
        }
        if self.credit < COST {
            let longest = if is_idle { self.pause.max(LONGEST_IDLE) } else { LONGEST_PAUSE };
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, longest);
        }
    }

    /// A pass has ended that does not count.
    pub(super) fn looked_at(&mut self) {
        self.held_until = None;
    }

    /// The name is wanted, with news or without. Returns when it may be worked
    /// on, if not now.
    pub(super) fn want(&mut self, news: bool, now: Instant) -> Option<Instant> {
        if self.pause.is_zero() {
            return None;
        }
        if self.held_until.is_none() {
            let rested = now.duration_since(self.ended);
            if rested >= FULL {
                self.pause = Duration::ZERO;
            }
            if rested >= self.pause {
                return None;
            }
        }
        let until = self.held_until.get_or_insert(self.ended + self.pause);
        if news {
            *until = (*until).min(self.ended + FIRST_PAUSE);
        }
        (*until > now).then_some(*until)
    }

    /// Whether the name waits out a pause, or is worked on after one.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_until.is_some()
    }

    /// Whether nothing has to be remembered of the name.
    pub(super) fn has_rested(&self, now: Instant) -> bool {
        let credit = if self.pause.is_zero() { self.credit } else { Duration::ZERO };
        self.held_until.is_none() && credit + now.duration_since(self.ended) >= FULL
    }
}
