//! A work queue of names. A name is worked on once at a time, however often it
//! is woken, and after a failure again with exponential backoff.
//!
//! kube's `Controller` drops a name that its store does not hold. Here those
//! are work too: a policy that has yet to be created, a ledger whose ring was
//! taken away by force.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::Future,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done until woken.
    Done,
    /// Done; work on it again after this long.
    RequeueAfter(Duration),
    /// Work on it again at once: something was written.
    Requeue,
    /// Failed: try again after a backoff that doubles with every failure in a row.
    Failed,
}

/// The queue.
#[derive(Debug)]
pub struct WorkQueue<N> {
    state: Mutex<State<N>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<N> {
    ready: VecDeque<N>,
    queued: HashSet<N>,
    running: HashSet<N>,
    /// Woken while running: to be worked on once more.
    dirty: HashSet<N>,
    /// To be woken later, at most once each.
    delayed: BTreeSet<(Instant, N)>,
    delayed_until: HashMap<N, Instant>,
    failures: HashMap<N, u32>,
}

impl<N> Default for WorkQueue<N> {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }
}

impl<N> Default for State<N> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            dirty: HashSet::new(),
            delayed: BTreeSet::new(),
            delayed_until: HashMap::new(),
            failures: HashMap::new(),
        }
    }
}

impl<N: Clone + Ord + Hash> WorkQueue<N> {
    /// Wakes a name: it is worked on as soon as there is room.
    pub fn wake<Q: ?Sized + ToOwned<Owned = N>>(&self, name: &Q) {
        self.lock().wake(name.to_owned());
        self.changed.notify_one();
    }

    /// How many names wait or are worked on.
    #[must_use]
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.queued.len() + state.running.len()
    }

    /// Works on what is woken, at most `concurrency` names at once, for ever.
    pub async fn run<F, W>(&self, concurrency: usize, work: W)
    where
        W: Fn(N) -> F,
        F: Future<Output = Outcome>,
    {
        let mut running = FuturesUnordered::new();
        loop {
            let (started, next_due) = self.lock().start(concurrency, Instant::now());
            for name in started {
                let outcome = work(name.clone());
                running.push(async move { (name, outcome.await) });
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
                Some((name, outcome)) = running.next() => {
                    self.lock().finish(&name, outcome, Instant::now());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<N>> {
        // No code that holds the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Clone + Ord + Hash> State<N> {
    fn wake(&mut self, name: N) {
        if self.running.contains(&name) {
            self.dirty.insert(name);
        } else if self.queued.insert(name.clone()) {
            self.ready.push_back(name);
        }
    }

    /// Moves what is due into `running`; returns it, and when the next one is.
    fn start(&mut self, concurrency: usize, now: Instant) -> (Vec<N>, Option<Instant>) {
        while let Some((at, name)) = self.delayed.first().cloned() {
            if at > now {
                break;
            }
            self.clear_delay(&name);
            self.wake(name);
        }
        let room = concurrency.saturating_sub(self.running.len());
        let count = room.min(self.ready.len());
        let started: Vec<N> = self.ready.drain(..count).collect();
        for name in &started {
            self.queued.remove(name);
            self.running.insert(name.clone());
        }
        (started, self.delayed.first().map(|(at, _)| *at))
    }

    fn finish(&mut self, name: &N, outcome: Outcome, now: Instant) {
        self.running.remove(name);
        let failures = match outcome {
            Outcome::Failed => self.failures.get(name).copied().unwrap_or(0) + 1,
            _ => 0,
        };
        if failures == 0 {
            self.failures.remove(name);
        } else {
            self.failures.insert(name.clone(), failures);
        }
        self.clear_delay(name);
        let woken = self.dirty.remove(name);
        match outcome {
            // Being woken does not shorten the backoff: what fails at every
            // event would otherwise be tried without any.
            Outcome::Failed => self.delay(name, now + backoff(failures)),
            Outcome::Requeue => self.wake(name.clone()),
            _ if woken => self.wake(name.clone()),
            Outcome::RequeueAfter(delay) => self.delay(name, now + delay),
            Outcome::Done => {}
        }
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
mod tests {
    use std::sync::Arc;

    use super::*;

    type Log = Arc<Mutex<Vec<(String, Duration)>>>;

    /// Runs the queue for `time` and returns who was worked on, and when.
    async fn run(
        queue: &WorkQueue<String>,
        time: Duration,
        concurrency: usize,
        work: impl Fn(usize) -> (Duration, Outcome),
    ) -> Vec<(String, Duration)> {
        let log: Log = Arc::default();
        let start = Instant::now();
        let job = queue.run(concurrency, |name| {
            let count = log.lock().unwrap().iter().filter(|(n, _)| *n == name).count();
            log.lock().unwrap().push((name, start.elapsed()));
            let (takes, outcome) = work(count);
            async move {
                tokio::time::sleep(takes).await;
                outcome
            }
        });
        let _ = tokio::time::timeout(time, job).await;
        Arc::try_unwrap(log).unwrap().into_inner().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_name_woken_twice_runs_once() {
        let queue = WorkQueue::<String>::default();
        queue.wake("a");
        queue.wake("a");
        let log = run(&queue, SECOND, 4, |_| (Duration::ZERO, Outcome::Done)).await;
        assert_eq!(log.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_woken_while_it_runs_runs_again_and_never_twice_at_once() {
        let queue = WorkQueue::<String>::default();
        queue.wake("a");
        let waker = async {
            tokio::time::sleep(SECOND / 2).await;
            queue.wake("a");
            std::future::pending::<()>().await;
        };
        let job = run(&queue, SECOND * 10, 4, |_| (SECOND, Outcome::Done));
        let log = tokio::select! { log = job => log, () = waker => unreachable!() };
        assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_is_bounded() {
        let queue = WorkQueue::<String>::default();
        for name in ["a", "b", "c", "d"] {
            queue.wake(name);
        }
        let log = run(&queue, SECOND * 10, 2, |_| (SECOND, Outcome::Done)).await;
        assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_pause_longer_and_longer_and_success_forgets_them() {
        let queue = WorkQueue::<String>::default();
        queue.wake("a");
        let log = run(&queue, Duration::from_secs(3), 1, |count| {
            (Duration::ZERO, if count < 3 { Outcome::Failed } else { Outcome::Done })
        })
        .await;
        let at: Vec<u128> = log.iter().map(|(_, at)| at.as_millis()).collect();
        assert_eq!(at, [0, 250, 750, 1750]);
        assert_eq!(backoff(40), LONGEST_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_pass_replaces_the_delay() {
        let queue = WorkQueue::<String>::default();
        queue.wake("a");
        let log = run(&queue, SECOND * 7, 1, |count| {
            let next = if count == 0 { SECOND } else { SECOND * 5 };
            (Duration::ZERO, Outcome::RequeueAfter(next))
        })
        .await;
        assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 1, 6]);
    }
}
