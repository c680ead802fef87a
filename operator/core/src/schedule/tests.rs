//! When windows open and close, by tables and by a clock that is read minute by minute.

use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;

use super::*;

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

fn window(days: &[Weekday], start: &str, end: &str, zone: &str) -> Window {
    Window::parse(days.to_vec(), start, end, zone).unwrap()
}

/// When a rotation that is due now may begin, and until when, as clocks in UTC show it.
fn opening(windows: &[Window], due: &str) -> (String, String) {
    let due = due.parse().unwrap();
    let opening = Windows::only(windows.to_vec()).opening(due, due).unwrap();
    (opening.begins.to_string(), opening.ends.unwrap().to_string())
}

#[test]
fn windows_open_by_the_clock_of_their_zone() {
    let berlin = |start, end| window(&[], start, end, "Europe/Berlin");
    for (what, windows, due, begins, ends) in [
        (
            "before it opens",
            vec![window(&[], "22:00", "23:00", "UTC")],
            "2026-11-24T10:00:00Z",
            "2026-11-24T22:00:00Z",
            "2026-11-24T23:00:00Z",
        ),
        (
            "while it is open",
            vec![window(&[], "09:00", "23:00", "UTC")],
            "2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00Z",
            "2026-11-24T23:00:00Z",
        ),
        (
            "as it closes",
            vec![window(&[], "09:00", "10:00", "UTC")],
            "2026-11-24T10:00:00Z",
            "2026-11-25T09:00:00Z",
            "2026-11-25T10:00:00Z",
        ),
        (
            "overnight, before midnight",
            vec![window(&[], "22:00", "04:00", "UTC")],
            "2026-11-24T23:00:00Z",
            "2026-11-24T23:00:00Z",
            "2026-11-25T04:00:00Z",
        ),
        (
            "overnight, after midnight",
            vec![window(&[], "22:00", "04:00", "UTC")],
            "2026-11-25T03:59:59Z",
            "2026-11-25T03:59:59Z",
            "2026-11-25T04:00:00Z",
        ),
        (
            "the night of a Monday ends on the Tuesday, and that of a Tuesday does not open",
            vec![window(&[Weekday::Monday], "22:00", "04:00", "UTC")],
            "2026-11-24T05:00:00Z",
            "2026-11-30T22:00:00Z",
            "2026-12-01T04:00:00Z",
        ),
        (
            "the first of several",
            vec![
                window(&[Weekday::Sunday], "00:00", "24:00", "UTC"),
                window(&[Weekday::Thursday], "06:00", "07:00", "UTC"),
            ],
            "2026-11-24T05:00:00Z",
            "2026-11-26T06:00:00Z",
            "2026-11-26T07:00:00Z",
        ),
        (
            "a whole day",
            vec![window(&[Weekday::Wednesday], "00:00", "24:00", "UTC")],
            "2026-11-24T05:00:00Z",
            "2026-11-25T00:00:00Z",
            "2026-11-26T00:00:00Z",
        ),
        (
            "a day from noon to noon",
            vec![window(&[Weekday::Wednesday], "12:00", "12:00", "UTC")],
            "2026-11-24T05:00:00Z",
            "2026-11-25T12:00:00Z",
            "2026-11-26T12:00:00Z",
        ),
        (
            "another zone's day",
            vec![window(&[Weekday::Wednesday], "01:00", "02:00", "Asia/Tokyo")],
            "2026-11-24T05:00:00Z",
            "2026-11-24T16:00:00Z",
            "2026-11-24T17:00:00Z",
        ),
        (
            "summer",
            vec![berlin("22:00", "23:00")],
            "2026-07-01T10:00:00Z",
            "2026-07-01T20:00:00Z",
            "2026-07-01T21:00:00Z",
        ),
        (
            "winter",
            vec![berlin("22:00", "23:00")],
            "2026-12-01T10:00:00Z",
            "2026-12-01T21:00:00Z",
            "2026-12-01T22:00:00Z",
        ),
        // On 2026-03-29 a clock in Berlin goes from 02:00 to 03:00, which is 01:00 in UTC.
        (
            "all of it is skipped",
            vec![berlin("02:15", "02:45")],
            "2026-03-28T12:00:00Z",
            "2026-03-30T00:15:00Z",
            "2026-03-30T00:45:00Z",
        ),
        (
            "its beginning is skipped",
            vec![berlin("02:30", "03:30")],
            "2026-03-28T12:00:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z",
        ),
        (
            "its end is skipped",
            vec![berlin("01:30", "02:30")],
            "2026-03-28T12:00:00Z",
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "an hour is skipped within",
            vec![berlin("22:00", "06:00")],
            "2026-03-28T12:00:00Z",
            "2026-03-28T21:00:00Z",
            "2026-03-29T04:00:00Z",
        ),
        // On 2026-10-25 it goes from 03:00 back to 02:00, which is 01:00 in UTC.
        (
            "it comes twice, and counts once",
            vec![berlin("02:15", "02:45")],
            "2026-10-24T12:00:00Z",
            "2026-10-25T00:15:00Z",
            "2026-10-25T00:45:00Z",
        ),
        (
            "an hour comes twice within",
            vec![berlin("01:00", "04:00")],
            "2026-10-24T12:00:00Z",
            "2026-10-24T23:00:00Z",
            "2026-10-25T03:00:00Z",
        ),
        (
            "a day that was skipped as a whole",
            vec![window(&[Weekday::Friday], "01:00", "02:00", "Pacific/Apia")],
            "2011-12-29T12:00:00Z",
            "2012-01-05T11:00:00Z",
            "2012-01-05T12:00:00Z",
        ),
    ] {
        let expected = (begins.to_owned(), ends.to_owned());
        assert_eq!(opening(&windows, due), expected, "{what}");
    }
}

#[test]
fn what_was_due_in_a_window_that_is_over_waits_for_the_next() {
    let windows = Windows::only(vec![window(&[], "22:00", "23:00", "UTC")]);
    let begins = |due: &str, now: &str| {
        let opening = windows.opening(due.parse().unwrap(), now.parse().unwrap()).unwrap();
        opening.begins.to_string()
    };
    let due = "2026-11-24T22:30:00Z";
    assert_eq!(begins(due, "2026-11-24T08:00:00Z"), due);
    assert_eq!(begins(due, "2026-11-24T22:45:00Z"), due);
    assert_eq!(begins(due, "2026-11-24T23:00:00Z"), "2026-11-25T22:00:00Z");
    // As long as a window is open it does not move.
    assert_eq!(begins(due, "2026-11-25T22:10:00Z"), "2026-11-25T22:00:00Z");
    assert_eq!(begins(due, "2026-11-25T22:59:59Z"), "2026-11-25T22:00:00Z");
}

#[test]
fn without_windows_it_is_always_and_with_none_that_can_be_read_never() {
    let time: Timestamp = "2026-11-24T22:30:00Z".parse().unwrap();
    let always = Some(Opening { begins: time, ends: None });
    assert_eq!(Windows::default().opening(time, time + 1.hour()), always);
    assert_eq!(Windows::only(Vec::new()).opening(time, time), None);
}

#[test]
fn what_cannot_be_read_is_named() {
    for (start, end, zone, why) in [
        ("24:00", "04:00", "UTC", "\"24:00\" is no time of day"),
        ("9:00", "10:00", "UTC", "\"9:00\" is no time of day"),
        ("09:00", "10", "UTC", "\"10\" is no time of day"),
        ("09:60", "10:00", "UTC", "\"09:60\" is no time of day"),
        ("+9:00", "10:00", "UTC", "\"+9:00\" is no time of day"),
        ("٠٩:00", "10:00", "UTC", "\"٠٩:00\" is no time of day"),
        ("09:00", "10:00", "Europe/Bärlin", "\"Europe/Bärlin\" is no time zone"),
        ("09:00", "10:00", "../etc/passwd", "\"../etc/passwd\" is no time zone"),
        ("09:00", "10:00", "", "\"\" is no time zone"),
    ] {
        let error = Window::parse(Vec::new(), start, end, zone).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn the_ends_of_time_are_no_reason_to_panic() {
    let windows = Windows::only(vec![window(&[], "22:00", "04:00", "Europe/Berlin")]);
    for due in [Timestamp::MIN, Timestamp::MAX] {
        for now in [Timestamp::MIN, Timestamp::MAX] {
            let _ = windows.opening(due, now);
        }
    }
}

/// Whether a clock of the window's zone shows at this time that it is open, on a day on
/// which it is not set.
fn is_open(window: &Window, at: Timestamp) -> bool {
    let shown = window.zone.to_datetime(at);
    let opens = |day: Date| window.days.is_empty() || window.days.contains(&day.weekday());
    let (today, yesterday) = (shown.date(), shown.date().yesterday().unwrap());
    let time = shown.time();
    match window.end {
        End::SameDay(end) => opens(today) && (window.start..end).contains(&time),
        End::NextDay(end) => opens(today) && time >= window.start || opens(yesterday) && time < end,
    }
}

fn any_window() -> impl Strategy<Value = Window> {
    const ZONES: [&str; 5] =
        ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"];
    let time = || (0..24, 0..60).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    let days = proptest::sample::subsequence(DAYS.to_vec(), 0..7);
    (days, time(), time(), proptest::sample::select(&ZONES[..]))
        .prop_map(|(days, start, end, zone)| Window::parse(days, &start, &end, zone).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn it_may_begin_at_the_first_minute_that_a_clock_shows_as_open(
        windows in proptest::collection::vec(any_window(), 1..3),
        minute in 0..525_600_i64,
    ) {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let due = start + SignedDuration::from_mins(minute);
        // Where clocks are set within the next eight days, the tables above say what is so.
        let is_set = |window: &Window| {
            let next = window.zone.following(due - 26.hours()).next();
            next.is_some_and(|set| set.timestamp() < due + 200.hours())
        };
        prop_assume!(!windows.iter().any(is_set));
        let minutes = (0..=8 * 24 * 60).map(|minutes| due + SignedDuration::from_mins(minutes));
        let open = |at: Timestamp| windows.iter().any(|window| is_open(window, at));
        let expected = minutes.clone().find(|at| open(*at));
        let opening = Windows::only(windows.clone()).opening(due, due);
        prop_assert_eq!(opening.map(|opening| opening.begins), expected);
        let ends = opening.unwrap().ends.unwrap();
        prop_assert!(open(ends - SignedDuration::from_mins(1)));
    }
}
