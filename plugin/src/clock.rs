//! The only reader of the system's clock.

use jiff::{Timestamp, Unit};

/// The time, in whole seconds as the Kubernetes API keeps it.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    let now = Timestamp::now();
    // Rounding down to a unit below the day cannot fail.
    now.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc))
        .unwrap_or(now)
}
