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
    let place = view.only.as_ref().map(|only| format!(" in namespace {only}")).unwrap_or_default();
    let verdict = match view.is_open() {
        false => Line::new(Style::Good, format!("The gate is closed{place}.")),
        true => Line::new(Style::Bad, format!("It is not proven that the gate is closed{place}.")),
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

#[cfg(test)]
mod tests {
    use super::{
        super::{
            find::{Kind, Probe},
            view::Row,
        },
        *,
    };
    use crate::{dry_run::Answer, text::plain};

    #[test]
    fn a_gate_that_lets_some_through_is_told_as_that() {
        let mut view = View::new("checkout", false, 1, 12);
        let row = |kind, starts: bool, refused: u32| {
            let probe = Probe { image: "localhost:5000/x".into(), kind, starts: Some(starts) };
            let mut row = Row::new("checkout-dev", &probe);
            (refused..12).for_each(|_| row.count(Answer::Admitted(None)));
            (0..refused).for_each(|_| row.count(Answer::Refused("a\nno signature".into())));
            row
        };
        view.rows = vec![row(Kind::Unsigned, false, 9), row(Kind::Current, true, 0)];
        view.missing = vec![Kind::NotAccepted];
        insta::assert_snapshot!(plain(&lines(&view)), @r"
        NAMESPACE      IMAGE                       HAS TO BE   ADMITTED   REFUSED   RESULT
        checkout-dev   unsigned                    refused     3 of 12    9 of 12   WRONG
        checkout-dev   of the version that signs   admitted    12 of 12   0 of 12   right

        localhost:5000/x in checkout-dev: no signature
        No image of a version that is not accepted was found: name one with --image.
        It is not proven that the gate is closed.
        ");
    }
}
