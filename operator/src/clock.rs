//! The only reader of the system's clock.

use std::{fmt, sync::Arc};

use jiff::{Timestamp, Unit};

/// Where the operator takes the time from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
            Timestamp::now()
        }))
    }

    /// A clock that reads another one, such as one that jumps.
    #[must_use]
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time as exactly as it is known: events of a second have an order.
    #[must_use]
    pub fn exactly(&self) -> Timestamp {
        (self.0)()
    }

    /// The time, in whole seconds as the Kubernetes API keeps it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.0)();
        // Rounding down to a unit below the day cannot fail.
        now.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc))
            .unwrap_or(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
