//! The hours in which the schedule may rotate.
//!
//! A window is open while a clock on the wall of its time zone shows a time from its
//! start up to its end. So where clocks skip an hour, what lies in that hour does not
//! come, and where they show one twice, a window begins and ends with the first time.
//! The zones are those that are built in: no system decides what an hour is.

use std::sync::LazyLock;

use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// In so many days each window opens again, even if clocks skip it once.
const HORIZON: i32 = 15;

/// Hours of some days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it opens.
    days: Vec<Weekday>,
    start: Time,
    end: End,
    zone: TimeZone,
}

/// When a window closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// On the day on which it opened.
    SameDay(Time),
    /// On the next one.
    NextDay(Time),
}

/// Why a window cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The text is no time of day.
    #[error("{0:?} is no time of day: write hours and minutes, for example 22:00")]
    Time(String),
    /// No time zone has this name.
    #[error(
        "{0:?} is no time zone: write a name of the IANA time zone database, for example \
         Europe/Berlin"
    )]
    Zone(String),
}

/// When a rotation that is due may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// From then on.
    pub begins: Timestamp,
    /// Until then, if it ever ends.
    pub ends: Option<Timestamp>,
}

/// When the schedule may rotate: always, or in windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Option<Vec<Window>>);

impl Window {
    /// Reads a window: from `start` to `end`, both written `HH:MM`, on the given days
    /// or, if none is given, on every day. An end that is not after the start is on the
    /// next day; `24:00` is the end of the day.
    ///
    /// # Errors
    /// If a time or the zone cannot be read.
    pub fn parse(
        days: Vec<Weekday>,
        start: &str,
        end: &str,
        zone: &str,
    ) -> Result<Self, WindowError> {
        let start = time(start)?;
        let end = match end {
            "24:00" => End::NextDay(Time::midnight()),
            end => match time(end)? {
                end if end > start => End::SameDay(end),
                end => End::NextDay(end),
            },
        };
        let zone = ZONES.get(zone).map_err(|_| WindowError::Zone(zone.to_owned()))?;
        Ok(Self { days, start, end, zone })
    }

    /// The first time that it is open and that is not over at `at`: from when to when.
    fn open(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let today = self.zone.to_datetime(at).date();
        // One that opened yesterday may be open still.
        (-1..=HORIZON).find_map(|days| {
            let day = today.checked_add(jiff::Span::new().days(days)).ok()?;
            let (start, end) = self.on(day)?;
            (start < end && at < end).then_some((start, end))
        })
    }

    /// When it opens and closes that opens on this day, if one does.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
            return None;
        }
        let end = match self.end {
            End::SameDay(end) => self.first(day, end)?,
            End::NextDay(end) => self.first(day.tomorrow().ok()?, end)?,
        };
        Some((self.first(day, self.start)?, end))
    }

    /// When a clock there first shows this time of this day, or a later one.
    fn first(&self, day: Date, time: Time) -> Option<Timestamp> {
        let shown = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
        match shown.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // The hour that is skipped ends where the clocks are set.
                let before = after.to_timestamp(shown.datetime()).ok()?;
                self.zone.following(before).next().map(|set| set.timestamp())
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                shown.earlier().ok()
            }
        }
    }
}

impl Windows {
    /// In these, and if there are none then never.
    #[must_use]
    pub const fn only(windows: Vec<Window>) -> Self {
        Self(Some(windows))
    }

    /// When a rotation that is due at this time may begin, of what is not over by now;
    /// nothing if it never may.
    #[must_use]
    pub fn opening(&self, due: Timestamp, now: Timestamp) -> Option<Opening> {
        let Some(windows) = &self.0 else { return Some(Opening { begins: due, ends: None }) };
        let open = windows.iter().filter_map(|window| window.open(due.max(now)));
        let (start, end) = open.min()?;
        Some(Opening { begins: due.max(start), ends: Some(end) })
    }
}

fn time(text: &str) -> Result<Time, WindowError> {
    let error = || WindowError::Time(text.to_owned());
    let is_digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes) = text.split_once(':').ok_or_else(error)?;
    if !is_digits(hours) || !is_digits(minutes) {
        return Err(error());
    }
    let (hours, minutes) = (hours.parse().map_err(|_| error())?, minutes.parse());
    Time::new(hours, minutes.map_err(|_| error())?, 0, 0).map_err(|_| error())
}

#[cfg(test)]
mod tests;
