//! Bounds what keys cost while they are sealed and opened: so many at once, and
//! so much memory, however many rings want one.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use tokio::sync::{Mutex, MutexGuard, Semaphore, oneshot};
use tracing::debug;

use crate::{error::Error, settings::Settings};

/// Where keys are sealed and opened. Who finds no room waits for its turn.
#[derive(Debug)]
pub struct Sealings {
    /// One of each computation at once.
    places: Arc<Semaphore>,
    /// In units of what sealing a key takes.
    memory: Arc<Semaphore>,
    /// Of those that are not urgent one waits for room, and the others for their turn to
    /// do so: who is urgent finds one of them before it at most.
    turn: Mutex<()>,
}

impl Sealings {
    /// With the room that the settings give.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let semaphore = |permits: u32| {
            Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS)))
        };
        Self {
            places: semaphore(settings.sealings.into()),
            memory: semaphore(settings.sealing_units()),
            turn: Mutex::new(()),
        }
    }

    /// Whether a key could be sealed right now without waiting.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.places.available_permits() > 0 && self.memory.available_permits() > 0
    }

    /// Computes something on a thread of its own that takes so many times what
    /// sealing a key takes, once there is room for it.
    ///
    /// # Errors
    /// If it ends in a panic, there is no thread for it, or it was cut off by the shutdown.
    pub async fn compute<T: Send + 'static>(
        &self,
        cost: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.enter(cost, Some(self.turn.lock().await), work).await
    }

    /// The same of what is urgent: before all others that wait but one.
    ///
    /// # Errors
    /// If it ends in a panic, there is no thread for it, or it was cut off by the shutdown.
    pub async fn compute_urgently<T: Send + 'static>(
        &self,
        cost: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.enter(cost, None, work).await
    }

    async fn enter<T: Send + 'static>(
        &self,
        cost: u32,
        turn: Option<MutexGuard<'_, ()>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        if !self.is_free() {
            debug!("waits until a key can be sealed");
        }
        // In this order everywhere: nobody waits for a place who has memory.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let memory = Arc::clone(&self.memory).acquire_many_owned(cost).await;
        drop(turn);
        let room =
            (place.map_err(|_| Error::Interrupted)?, memory.map_err(|_| Error::Interrupted)?);
        let (answer, computed) = oneshot::channel();
        let thread = thread::Builder::new().name("sealing".to_owned()).spawn(move || {
            give_way();
            let result = panic::catch_unwind(AssertUnwindSafe(work));
            // Taken until here even if nobody waits for the result any more.
            drop(room);
            let _ = answer.send(result);
        });
        thread.map_err(Error::NoThread)?;
        match computed.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Error::Panic("while a key was sealed or opened".to_owned())),
            Err(_) => Err(Error::Interrupted),
        }
    }
}

/// By how much those threads are nicer than the rest of the operator: nice(2).
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Lets all others on the core first, in the operator's container and, where no cgroup keeps
/// them apart, on its machine: keys of a wave take each core there is, and what is urgent
/// meanwhile is that policies are written, and that Kyverno answers.
fn give_way() {
    // Linux sets it of the one thread (setpriority(2), Bugs), elsewhere it would be of all.
    // Where it is not allowed a key is sealed all the same.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let nicer =
            getpriority_process(None).and_then(|own| setpriority_process(None, own + NICER));
        if let Err(error) = nicer {
            debug!("keys are sealed as urgently as all else is done: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use clap::Parser;
    use futures::future::join_all;

    use super::*;

    /// The most that was computed at once, and its cost, of so many computations.
    async fn peaks(sealings: u16, costs: impl Iterator<Item = u32>) -> (u32, u32) {
        let flag = format!("--sealings={sealings}");
        let sealings = Sealings::new(&Settings::parse_from(["operator", &flag]));
        let now: Arc<[AtomicU32; 2]> = Arc::default();
        let peaks: Arc<[AtomicU32; 2]> = Arc::default();
        let all = costs.map(|cost| {
            let (now, peaks) = (Arc::clone(&now), Arc::clone(&peaks));
            sealings.compute(cost, move || {
                for ((now, peak), add) in now.iter().zip(&*peaks).zip([1, cost]) {
                    peak.fetch_max(now.fetch_add(add, Ordering::SeqCst) + add, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(5));
                for (now, add) in now.iter().zip([1, cost]) {
                    now.fetch_sub(add, Ordering::SeqCst);
                }
            })
        });
        for done in join_all(all).await {
            done.unwrap();
        }
        assert!(sealings.is_free());
        let [count, cost] = &*peaks;
        (count.load(Ordering::SeqCst), cost.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn so_many_at_once_and_so_much_memory() {
        assert_eq!(peaks(2, [1; 40].into_iter()).await, (2, 2));
        let (count, cost) = peaks(3, [1, 4, 2].into_iter().cycle().take(60)).await;
        assert!((2..=3).contains(&count) && cost == 4, "{count} {cost}");
        let (count, cost) = peaks(16, [1, 4, 2].into_iter().cycle().take(120)).await;
        assert!(count <= 16 && (9..=16).contains(&cost), "{count} {cost}");
    }

    #[tokio::test]
    async fn the_dearest_key_can_be_opened_by_the_least_setting() {
        assert_eq!(peaks(1, [4, 4].into_iter()).await, (1, 4));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_room_taken_until_it_is_free() {
        let sealings = Sealings::new(&Settings::parse_from(["operator", "--sealings=1"]));
        let (free, wait) = std::sync::mpsc::channel::<()>();
        let work = sealings.compute(1, move || wait.recv());
        assert!(tokio::time::timeout(Duration::from_millis(50), work).await.is_err());
        assert!(!sealings.is_free());
        drop(free);
        sealings.compute(1, || ()).await.unwrap();
        assert!(sealings.is_free());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_key_is_sealed_where_nobody_else_wants_the_core() {
        let sealings = Sealings::new(&Settings::parse_from(["operator", "--sealings=1"]));
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let while_sealed = sealings.compute(1, own).await.unwrap();
        assert_eq!((while_sealed, own()), ((before + NICER).min(19), before));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_leaves_the_room_free() {
        let sealings = Sealings::new(&Settings::parse_from(["operator", "--sealings=1"]));
        let panicked = sealings.compute(1, || panic!("as the test wants it")).await;
        let panicked: Result<(), Error> = panicked;
        assert!(matches!(panicked, Err(Error::Panic(_))), "{panicked:?}");
        sealings.compute(1, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_urgent_has_one_before_it_at_most() {
        let sealings = Sealings::new(&Settings::parse_from(["operator", "--sealings=1"]));
        let (free, wait) = std::sync::mpsc::channel::<()>();
        let order: Arc<std::sync::Mutex<Vec<&str>>> = Arc::default();
        let note = |name| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(name)
        };
        let first = sealings.compute(1, move || wait.recv());
        let others = join_all((0..20).map(|_| sealings.compute(1, note("other"))));
        let urgent = async {
            while sealings.is_free() {
                tokio::task::yield_now().await;
            }
            let urgent = sealings.compute_urgently(1, note("urgent"));
            tokio::join!(urgent, async { drop(free) }).0.unwrap();
        };
        let _ = tokio::join!(first, others, urgent);
        let at = order.lock().unwrap().iter().position(|name| *name == "urgent");
        assert!(at.is_some_and(|at| at <= 1), "{at:?}");
    }
}
