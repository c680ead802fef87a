//! Wakes every ring now and then although nothing changed, by so many requests a second.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{context::Context, rechecks::Next};

/// How often it is looked whether there are rings by now.
const IDLE: Duration = Duration::from_secs(1);

/// Wakes the rings in turn, for ever.
pub async fn run(context: &Context) {
    let interval = context.settings.recheck_interval;
    let rate = context.settings.recheck_rate;
    loop {
        match context.rechecks.next(interval) {
            Next::Ring(ring, requests) => {
                context.rings.wake(&ring);
                sleep(Duration::from_secs(1) * requests / u32::from(rate)).await;
            }
            Next::At(at) => sleep_until(at.min(Instant::now() + IDLE)).await,
            Next::Nobody => sleep(IDLE).await,
        }
        context.metrics.recheck_bound(context.rechecks.bound(interval, rate));
    }
}
