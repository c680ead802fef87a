//! How long things took, one by one and in sum.

use std::time::Duration;

/// Times that were measured.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// The one in the middle, and the longest.
    pub fn summary(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        format!("p50 {}, max {} of {}", seconds(middle), seconds(self.max()), sorted.len())
    }
}

/// A time as tables show it.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
