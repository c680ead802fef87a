//! How that is shown.

use super::view::{Row, View};
use crate::text::{Line, Span, Style, Table};

/// Each image in each namespace, and what it comes to.
pub fn lines(view: &View) -> Vec<Line> {
    let mut lines = Vec::new();
    if view.namespaces == 0 {
        let text =
            format!("Ring {0} has no namespace: kubectl signing enroll {0} NAMESPACE", view.ring);
        lines.push(Line::new(Style::Warn, text));
    }
    if view.audits {
        let text = "The ring only audits, so all is admitted and nothing is proven.";
        lines.push(Line::new(Style::Warn, text));
    }
    let mut table =
        Table::new(&["NAMESPACE", "IMAGE", "HAS TO BE", "ADMITTED", "REFUSED", "RESULT"]);
    for row in &view.rows {
        let has_to_be = match row.starts {
            Some(true) => "admitted",
            Some(false) => "refused",
            None => "?",
        };
        table.row([
            Span::from(&row.namespace),
            row.kind.as_str().into(),
            has_to_be.into(),
            format!("{} of {}", row.admitted, view.times).into(),
            format!("{} of {}", row.refused, view.times).into(),
            result(row),
        ]);
    }
    if !table.is_empty() {
        lines.extend(table.lines());
        lines.push(Line::empty());
        for row in view.rows.iter().filter(|row| !row.is_right()) {
            if let Some(says) = &row.says {
                lines.push(format!("{} in {}: {says}", row.image, row.namespace).into());
            }
        }
    }
    for kind in &view.missing {
        let text = format!("No image {} was found: name one with --image.", kind.as_str());
        lines.push(Line::new(Style::Warn, text));
    }
    let verdict = match view.is_open() {
        false => Line::new(Style::Good, "The gate is closed."),
        true => Line::new(Style::Bad, "It is not proven that the gate is closed."),
    };
    lines.push(verdict);
    lines
}

fn result(row: &Row) -> Span {
    match (row.is_right(), row.unheard) {
        (true, _) => Span::new(Style::Good, "right"),
        (false, 0) => Span::new(Style::Bad, "WRONG"),
        (false, _) => Span::new(Style::Warn, "not heard of"),
    }
}
