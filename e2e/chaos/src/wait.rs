//! Waiting for something to come true, and how long that took.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// Waits until something holds, for as long as that may take; returns how
/// long it took, or nothing if it did not come to hold in time.
pub async fn wait<F: Future<Output = bool>>(
    patience: Duration,
    holds: impl Fn() -> F,
) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if holds().await {
            return Some(start.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
    None
}

/// The same for what is known without asking anybody.
pub async fn wait_to_know(patience: Duration, holds: impl Fn() -> bool) -> Option<Duration> {
    wait(patience, || std::future::ready(holds())).await
}
