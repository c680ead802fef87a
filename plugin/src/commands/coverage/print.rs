//! How that is shown.

use super::view::{State, View};
use crate::text::{Line, Span, Style, Table};

/// All namespaces; those that nobody has to cover only where all is asked for.
pub fn lines(view: &View, label: &str, wide: bool) -> Vec<Line> {
    let mut table = Table::new(&["NAMESPACE", "PODS", "RING", "STATE"]);
    let is_shown = |state: State| wide || state <= State::Covered;
    for namespace in view.namespaces.iter().filter(|namespace| is_shown(namespace.state)) {
        let (style, text) = said(namespace.state);
        table.row([
            Span::from(&namespace.name),
            namespace.pods.to_string().into(),
            namespace.ring.as_deref().unwrap_or("-").into(),
            Span::new(style, text),
        ]);
    }
    let count = |wanted: fn(State) -> bool| {
        view.namespaces.iter().filter(|namespace| wanted(namespace.state)).count()
    };
    let covered = count(|state| state == State::Covered);
    let all = count(|state| state <= State::Covered);
    let is = if covered == 1 { "is" } else { "are" };
    let mut lines = match table.is_empty() {
        true => vec![format!("No namespace runs pods, and none has the label {label}.").into()],
        false => table.lines(),
    };
    if all > 0 {
        lines.push(Line::empty());
        let mut summary =
            format!("{covered} of {all} namespaces with pods or a label {is} covered.");
        if covered < all {
            summary.push_str(" To enrol one: kubectl signing enroll RING NAMESPACE");
        }
        lines.push(summary.into());
    }
    lines
}

const fn said(state: State) -> (Style, &'static str) {
    match state {
        State::UnknownRing => (Style::Bad, "its label names no ring"),
        State::NoRing => (Style::Warn, "pods run that no ring verifies"),
        State::Covered => (Style::Good, "covered"),
        State::System => (Style::Dim, "the platform's own"),
        State::Empty => (Style::Dim, "runs nothing"),
    }
}
