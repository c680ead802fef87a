//! Bounds what keys cost while they are sealed and opened: so many at once, and
//! so much memory, however many rings want one.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, Semaphore};
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
    /// If it was cut off by the shutdown.
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
    /// If it was cut off by the shutdown.
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
        let computed = tokio::task::spawn_blocking(move || {
            let result = work();
            // Taken until here even if nobody waits for the result any more.
            drop(room);
            result
        });
        computed.await.map_err(|error| match error.is_panic() {
            true => Error::Panic("while a key was sealed or opened".to_owned()),
            false => Error::Interrupted,
        })
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
