//! A work queue of names. A name is worked on once at a time, however often it
//! is woken, in an order of classes (`order.rs`), and after a failure again
//! with exponential backoff. One whose passes come to the same again and again is
//! worked on more and more seldom (`pace.rs`), whatever they are taken for: an
//! object that somebody puts back each time it is written is written with success.
//!
//! kube's `Controller` drops a name that its store does not hold. Here those
//! are work too: a policy that has yet to be created, a ledger whose ring was
//! taken away by force.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::Hash,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::lock::Mutex;

mod order;
mod pace;

use order::Order;
use pace::Pace;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// So many names that are urgent are worked on beside as many others as may be.
const ROOM_FOR_URGENT: usize = 4;

/// With fewer paces than this none is looked for that can go.
const LEAST_SWEEP: usize = 256;

/// After this long it is looked again, so that little is kept after a wave.
const SWEEP_PAUSE: Duration = Duration::from_secs(30);

/// How soon it is looked whether there is room for more again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done until woken.
    Done,
    /// It waits for what was ordered for it, with which it is woken. That it is looked at
    /// meanwhile, and comes to the same, says nothing of whether it makes progress.
    Awaits,
    /// Done; work on it again after this long.
    RequeueAfter(Duration),
    /// Work on it again at once: something was written.
    Requeue,
    /// Failed: try again after a backoff that doubles with every failure in a row.
    Failed,
}

/// A piece of work that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// How it ended.
    pub outcome: Outcome,
    /// Tells what it stood before and decided from what other passes over the
    /// name did; none if it ended before it had decided anything. One that says
    /// nothing new has made no progress.
    pub key: Option<Key>,
    /// It has left something begun, which is finished before others begin.
    pub under_way: bool,
}

/// What tells passes over a name from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of two that say the same, the second has made no progress.
    pub value: u64,
    /// Nothing was to be done. Who is wanted in vain is looked at less often,
    /// and not as seldom as who writes in vain.
    pub is_idle: bool,
}

/// The queue.
#[derive(Debug)]
pub struct WorkQueue<N> {
    /// No code that holds it can panic.
    state: Mutex<State<N>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<N> {
    ready: Order<N>,
    /// With whether they were urgent when they were taken.
    running: HashMap<N, bool>,
    /// Woken while running: to be worked on once more. With news or without.
    dirty: HashMap<N, bool>,
    /// To be woken later, at most once each.
    delayed: BTreeSet<(Instant, N)>,
    delayed_until: HashMap<N, Instant>,
    failures: HashMap<N, u32>,
    /// Of the names that were worked on lately.
    paces: HashMap<N, Pace>,
    /// At so many paces it is looked which can go.
    sweep_at: usize,
    /// When that was done last.
    swept: Instant,
}

impl<N> Default for WorkQueue<N> {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }
}

impl<N> Default for State<N> {
    fn default() -> Self {
        Self {
            ready: Order::default(),
            running: HashMap::new(),
            dirty: HashMap::new(),
            delayed: BTreeSet::new(),
            delayed_until: HashMap::new(),
            failures: HashMap::new(),
            paces: HashMap::new(),
            sweep_at: LEAST_SWEEP,
            swept: Instant::now(),
        }
    }
}

impl<N: Clone + Ord + Hash> WorkQueue<N> {
    /// Forgets all names, as if none had ever been woken. None may be worked on.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// Wakes a name: it is worked on as soon as there is room, unless it is
    /// held back.
    pub fn wake<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) {
        self.state.lock().wake(name.to_owned(), false, Instant::now());
        self.changed.notify_one();
    }

    /// Wakes a name because something is known to be new: if it is held back,
    /// then for no longer than the shortest pause.
    pub fn wake_with_news<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) {
        self.state.lock().wake(name.to_owned(), true, Instant::now());
        self.changed.notify_one();
    }

    /// Wakes a name with news that wait for nobody: it goes before all others until a
    /// pass over it has succeeded.
    pub fn wake_urgently<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) {
        let mut state = self.state.lock();
        let name = name.to_owned();
        state.ready.make_urgent(&name);
        state.wake(name, true, Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Wakes a name with news that go before what is under way, though not all of it: until
    /// a pass over it has succeeded, every other place is for such names.
    pub fn wake_soon<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) {
        let mut state = self.state.lock();
        let name = name.to_owned();
        state.ready.make_soon(&name);
        state.wake(name, true, Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Whether a name waits to be worked on, or is worked on.
    #[must_use]
    pub fn is_wanted<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) -> bool {
        let (state, name) = (self.state.lock(), name.to_owned());
        state.ready.contains(&name) || state.running.contains_key(&name)
    }

    /// Whether a name is worked on right now.
    #[must_use]
    pub fn is_running<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.state.lock().running.contains_key(name)
    }

    /// Whether a name was woken urgently, and no pass over it has succeeded since.
    #[must_use]
    pub fn is_urgent<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.state.lock().ready.is_urgent(name)
    }

    /// Whether a name's work is to be soon, and no pass over it has succeeded since.
    #[must_use]
    pub fn is_soon<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.state.lock().ready.is_soon(name)
    }

    /// Whether a name was wanted again at once after passes that all came to the
    /// same, and for that waits out a pause, or is worked on after one.
    #[must_use]
    pub fn is_held_back<Q: ?Sized + Hash + Eq>(&self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        self.state.lock().paces.get(name).is_some_and(Pace::is_held_back)
    }

    /// How many names wait or are worked on.
    #[must_use]
    pub fn depth(&self) -> usize {
        let state = self.state.lock();
        state.ready.len() + state.running.len()
    }

    /// Works on what is woken, at most `concurrency` names at once and a few urgent ones
    /// beside them, for ever; of those that are not urgent, at most `others`, which is asked
    /// before each that is begun.
    pub async fn run<F, W>(&self, concurrency: usize, others: impl Fn() -> usize, work: W)
    where
        W: Fn(N) -> F,
        F: Future<Output = Pass>,
    {
        let mut running = FuturesUnordered::new();
        loop {
            let (others, now) = (others().min(concurrency), Instant::now());
            let (started, mut next_due) = self.state.lock().start(concurrency, others, now);
            if others < concurrency {
                // There may be room for more without anybody who says so.
                next_due = next_due.into_iter().chain([now + LOOK_AGAIN]).min();
            }
            for name in started {
                let pass = work(name.clone());
                running.push(async move { (name, pass.await) });
            }
            let timer = async {
                match next_due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = timer => {}
                Some((name, pass)) = running.next() => {
                    self.state.lock().finish(&name, pass, Instant::now());
                }
            }
        }
    }
}

impl<N: Clone + Ord + Hash> State<N> {
    fn wake(&mut self, name: N, news: bool, now: Instant) {
        if self.running.contains_key(&name) {
            *self.dirty.entry(name).or_default() |= news;
        } else if !self.ready.contains(&name) {
            match self.paces.get_mut(&name).and_then(|pace| pace.want(news, now)) {
                Some(at) => {
                    self.clear_delay(&name);
                    self.delay(&name, at);
                }
                None => self.ready.push(name, now),
            }
        }
    }

    /// Moves what is due into `running`; returns it, and when the next one is.
    fn start(
        &mut self,
        concurrency: usize,
        most_others: usize,
        now: Instant,
    ) -> (Vec<N>, Option<Instant>) {
        while let Some((at, name)) = self.delayed.first().cloned() {
            if at > now {
                break;
            }
            self.clear_delay(&name);
            self.wake(name, false, now);
        }
        let mut started = Vec::new();
        while self.running.len() < concurrency + ROOM_FOR_URGENT {
            let others = self.running.values().filter(|urgent| !**urgent).count();
            let Some(name) = self.ready.pop(others >= most_others, now) else { break };
            self.running.insert(name.clone(), self.ready.is_urgent(&name));
            started.push(name);
        }
        self.sweep(now);
        let due = self.delayed.first().map(|(at, _)| *at);
        (started, due.into_iter().chain(self.sweeps_at()).min())
    }

    fn finish(&mut self, name: &N, pass: Pass, now: Instant) {
        let outcome = pass.outcome;
        self.running.remove(name);
        if outcome != Outcome::Awaits {
            self.pace(name, pass.key, now);
        } else if let Some(pace) = self.paces.get_mut(name) {
            pace.looked_at();
        }
        let before = self.failures.get(name).copied().unwrap_or(0);
        let failures = match outcome {
            Outcome::Failed => before + 1,
            Outcome::Awaits => before,
            _ => 0,
        };
        if failures == 0 {
            self.failures.remove(name);
        } else {
            self.failures.insert(name.clone(), failures);
        }
        self.clear_delay(name);
        let woken = self.dirty.remove(name);
        // What was urgent stays so until there is nothing left to do for it.
        let succeeded =
            matches!(outcome, Outcome::Done | Outcome::Awaits | Outcome::RequeueAfter(_));
        self.ready.passed(name, succeeded && woken != Some(true), pass.under_way);
        match outcome {
            // Being woken does not shorten the backoff: what fails at every
            // event would otherwise be tried without any. News do.
            Outcome::Failed if woken == Some(true) => self.delay(name, now + FIRST_BACKOFF),
            Outcome::Failed => self.delay(name, now + backoff(failures)),
            Outcome::Requeue => self.wake(name.clone(), woken.unwrap_or(false), now),
            Outcome::RequeueAfter(_) | Outcome::Done | Outcome::Awaits if woken.is_some() => {
                self.wake(name.clone(), woken.unwrap_or(false), now);
            }
            Outcome::RequeueAfter(delay) => self.delay(name, now + delay),
            Outcome::Done | Outcome::Awaits => {}
        }
    }

    /// Notes a pass. A name that has rested is as one never worked on: that the
    /// memory of them does not grow, they are taken out now and then.
    fn pace(&mut self, name: &N, key: Option<Key>, now: Instant) {
        match self.paces.get_mut(name) {
            Some(pace) => pace.pass(key, now),
            None => {
                let mut pace = Pace::new(now);
                pace.pass(key, now);
                self.paces.insert(name.clone(), pace);
            }
        }
        self.sweep(now);
    }

    /// Takes out what has not to be remembered any more, if it is time to.
    fn sweep(&mut self, now: Instant) {
        if self.paces.len() >= self.sweep_at || self.sweeps_at().is_some_and(|at| at <= now) {
            self.paces.retain(|_, pace| !pace.has_rested(now));
            self.paces.shrink_to(LEAST_SWEEP);
            self.ready.shrink_to(LEAST_SWEEP);
            self.sweep_at = LEAST_SWEEP.max(self.paces.len() * 2);
            self.swept = now;
        }
    }

    /// When that is, if there is much.
    fn sweeps_at(&self) -> Option<Instant> {
        (self.paces.len() >= LEAST_SWEEP).then(|| self.swept + SWEEP_PAUSE)
    }

    fn delay(&mut self, name: &N, at: Instant) {
        self.delayed.insert((at, name.clone()));
        self.delayed_until.insert(name.clone(), at);
    }

    fn clear_delay(&mut self, name: &N) {
        if let Some(at) = self.delayed_until.remove(name) {
            self.delayed.remove(&(at, name.clone()));
        }
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests;
