//! The operator's locks: those of the standard library, for whom a panic changes nothing. A
//! pass that panics has failed, and no other with it (`controllers/panics.rs`); a lock that
//! stayed poisoned would have every later one fail as well. What it left behind is taken as
//! it is: whatever a pass leaves half done is a start state like any other.
//!
//! For who measures, it is counted how often they are taken, and how long they are held:
//! what walks over all there is under a lock holds up everybody else.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        self, MutexGuard, OnceLock, PoisonError, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

static TALLY: Tally = Tally::new();

/// Has the locks of this process counted from now on, and their holds timed by a clock. Where
/// nobody asks for it, as in the operator itself, each costs one look whether there is one.
pub fn count_by(clock: fn() -> Duration) {
    TALLY.start(clock);
}

/// What was counted since this was last asked.
pub fn holds() -> Holds {
    TALLY.take()
}

/// How often locks were taken, and how long they were held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// How often one was taken and given back.
    pub taken: u64,
    /// For how long, all together.
    pub held: Duration,
    /// For how long at most.
    pub longest: Duration,
}

/// A value for one at a time.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits until nobody has it.
    pub fn lock(&self) -> Held<MutexGuard<'_, T>> {
        Held::new(self.0.lock().unwrap_or_else(PoisonError::into_inner), &TALLY)
    }
}

/// A value for many who read, or one who writes.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> Held<RwLockReadGuard<'_, T>> {
        Held::new(self.0.read().unwrap_or_else(PoisonError::into_inner), &TALLY)
    }

    /// Waits until nobody has it.
    pub fn write(&self) -> Held<RwLockWriteGuard<'_, T>> {
        Held::new(self.0.write().unwrap_or_else(PoisonError::into_inner), &TALLY)
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub struct Held<G> {
    /// Goes before the guard, so that to give that back is not timed.
    _counted: Option<Counted>,
    guard: G,
}

impl<G> Held<G> {
    fn new(guard: G, tally: &'static Tally) -> Self {
        let _counted = tally.clock.get().map(|&clock| Counted { tally, clock, since: clock() });
        Self { _counted, guard }
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// A hold that is counted when it ends.
#[derive(Debug)]
struct Counted {
    tally: &'static Tally,
    clock: fn() -> Duration,
    since: Duration,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.add((self.clock)().saturating_sub(self.since));
    }
}

#[derive(Debug)]
struct Tally {
    clock: OnceLock<fn() -> Duration>,
    taken: AtomicU64,
    /// In nanoseconds.
    held: AtomicU64,
    longest: AtomicU64,
}

impl Tally {
    const fn new() -> Self {
        Self {
            clock: OnceLock::new(),
            taken: AtomicU64::new(0),
            held: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    fn start(&self, clock: fn() -> Duration) {
        self.clock.get_or_init(|| clock);
    }

    fn add(&self, held: Duration) {
        let nanoseconds = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        self.taken.fetch_add(1, Relaxed);
        self.held.fetch_add(nanoseconds, Relaxed);
        self.longest.fetch_max(nanoseconds, Relaxed);
    }

    fn take(&self) -> Holds {
        Holds {
            taken: self.taken.swap(0, Relaxed),
            held: Duration::from_nanos(self.held.swap(0, Relaxed)),
            longest: Duration::from_nanos(self.longest.swap(0, Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Stands still, but where a test moves it on: in its own thread.
    fn clock() -> Duration {
        NOW.get()
    }

    fn wait(seconds: u64) {
        NOW.set(NOW.get() + Duration::from_secs(seconds));
    }

    #[test]
    fn a_lock_is_taken_although_its_holder_panicked() {
        let (mutex, shared) = (Mutex::new(0), RwLock::new(0));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let (mut one, mut other) = (mutex.lock(), shared.write());
            (*one, *other) = (1, 1);
            panic!("while both are held");
        }));
        assert!(panicked.is_err());
        assert!(mutex.0.is_poisoned() && shared.0.is_poisoned());
        assert_eq!((*mutex.lock(), *shared.read()), (1, 1));
        *shared.write() = 2;
        assert_eq!(*shared.read(), 2);
    }

    #[test]
    fn holds_are_counted_and_timed_once_somebody_wants_it() {
        static OWN: Tally = Tally::new();
        let before = Held::new((), &OWN);
        OWN.start(clock);
        drop(before);
        assert_eq!(OWN.take(), Holds::default());
        let outer = Held::new((), &OWN);
        wait(1);
        let inner = Held::new((), &OWN);
        wait(2);
        drop(inner);
        let (held, longest) = (Duration::from_secs(2), Duration::from_secs(2));
        assert_eq!(OWN.take(), Holds { taken: 1, held, longest });
        drop(outer);
        let (held, longest) = (Duration::from_secs(3), Duration::from_secs(3));
        assert_eq!(OWN.take(), Holds { taken: 1, held, longest });
        assert_eq!(OWN.take(), Holds::default());
    }

    #[test]
    fn locks_of_each_kind_are_counted_and_timed() {
        let (mutex, shared) = (Mutex::new(()), RwLock::new(()));
        count_by(clock);
        holds();
        for held in [1, 2, 4] {
            let _one = (held == 1).then(|| mutex.lock());
            let _two = (held == 2).then(|| shared.read());
            let _four = (held == 4).then(|| shared.write());
            wait(held);
        }
        // Other tests take locks, too, by clocks that stand still.
        let holds = holds();
        assert!(holds.taken >= 3, "{holds:?}");
        assert_eq!((holds.held, holds.longest), (Duration::from_secs(7), Duration::from_secs(4)));
    }
}
