//! How that is shown.

use jiff::Timestamp;

use super::view::{Entry, State, View};
use crate::text::{Line, Span, Style, Table};

/// All exclusions.
pub fn lines(view: &View, now: Timestamp, wide: bool) -> Vec<Line> {
    let mut headings = vec!["IMAGE", "FROM", "PODS", "USED BY", "EXPIRES", "NOTE"];
    if wide {
        headings.extend(["OWNER", "REASON"]);
    }
    let mut table = Table::new(&headings);
    for entry in &view.exclusions {
        let mut cells = vec![
            Span::from(&entry.image),
            Span::from(entry.from.to_string()),
            Span::from(entry.pods.to_string()),
            Span::from(users(entry, if wide { WIDE } else { BRIEF })),
            Span::from(entry.expires.as_deref().unwrap_or("-")),
            note(entry, now),
        ];
        if wide {
            cells.push(Span::from(entry.owner.as_deref().unwrap_or("-")));
            cells.push(Span::from(&entry.reason));
        }
        table.row(cells);
    }
    let mut lines = match table.is_empty() {
        true => vec!["Nothing is excluded.".into()],
        false => table.lines(),
    };
    for text in &view.unreadable {
        lines.push(Line::new(Style::Bad, format!("It cannot be read: {text}")));
    }
    lines
}

/// The most workloads that a line names.
const BRIEF: usize = 2;
const WIDE: usize = 8;

/// Who uses it, and how many more do.
fn users(entry: &Entry, most: usize) -> String {
    let named: Vec<&str> = entry.used_by.iter().take(most).map(String::as_str).collect();
    let more = entry.used_by.len() + entry.used_by_more - named.len();
    match (&*named, more) {
        ([], _) => "-".to_owned(),
        (named, 0) => named.join(", "),
        (named, more) => format!("{} and {more} more", named.join(", ")),
    }
}

fn note(entry: &Entry, now: Timestamp) -> Span {
    let redundant = entry.redundant_by.as_ref().map(|by| format!("redundant: {by} has it all"));
    match entry.state {
        State::Unreadable => {
            Span::new(Style::Bad, entry.problem.as_deref().unwrap_or("cannot be read"))
        }
        State::Expired => Span::new(Style::Bad, "expired: take it out, or give it another date"),
        State::Expiring => {
            let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
            let last = entry.expires.as_deref().and_then(|text| text.parse().ok()).unwrap_or(today);
            let days = today.until(last).map_or(0, |span| span.get_days());
            let when = match days {
                ..=0 => "after today".to_owned(),
                1 => "in 1 day".to_owned(),
                days => format!("in {days} days"),
            };
            Span::new(Style::Warn, format!("expires {when}"))
        }
        State::Counts => match (redundant, entry.pods) {
            (Some(text), _) => Span::new(Style::Warn, text),
            (None, 0) => Span::new(Style::Dim, "no running pod has such an image"),
            (None, _) => "".into(),
        },
    }
}
