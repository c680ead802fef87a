//! How that is shown.

use super::view::{Asked, Verdict, View};
use crate::text::{Line, Span, Style, Table};

/// Each image, with both verdicts.
pub fn lines(view: &View) -> Vec<Line> {
    let mut lines = vec![namespace(view)];
    lines.extend(view.remarks.iter().map(|text| Line::new(Style::Bad, text)));
    lines
        .extend(view.unseen.iter().map(|text| Line::new(Style::Warn, format!("Not seen: {text}"))));
    for image in &view.images {
        lines.push(Line::empty());
        let mut table = Table::new(&[]);
        let bold = |text: &str| Span::new(Style::Bold, text);
        table.row([bold("Image"), Span::from(&image.image)]);
        table.row([bold("Signed by"), Span::from(&image.signed_by)]);
        table.row([bold("Here"), verdict(image.here, &image.because)]);
        table.row([bold("Kyverno"), verdict(image.kyverno, kyverno(image))]);
        lines.extend(table.lines().into_iter().skip(1));
        if let Some(other) = &image.changed_to {
            let text = format!("Something changes the image: the pod would run {other}");
            lines.push(Line::new(Style::Warn, text));
        }
        if view.differs(image) {
            lines.push(Line::new(Style::Bad, "The two differ, perhaps because:"));
            lines.extend(image.perhaps_because.iter().map(|cause| format!("  - {cause}").into()));
        }
    }
    lines
}

fn namespace(view: &View) -> Line {
    let name = &view.namespace;
    match (&view.ring, &view.no_such_ring, &view.policy) {
        (None, ..) => Line::new(
            Style::Warn,
            format!("Namespace {name} is enrolled in no ring: kubectl signing enroll RING {name}"),
        ),
        (Some(ring), Some(why), _) => {
            Line::new(Style::Bad, format!("Namespace {name} has the label of {ring}, but {why}"))
        }
        (Some(ring), None, policy) => {
            let policy = policy.as_deref().unwrap_or("-");
            Line::from(format!("Namespace {name} is enrolled in ring {ring} ({policy})"))
        }
    }
}

fn verdict(verdict: Verdict, because: &str) -> Span {
    let (style, word) = match verdict {
        Verdict::Admitted => (Style::Good, "admitted"),
        Verdict::Refused => (Style::Bad, "refused"),
        Verdict::Unknown => (Style::Warn, "unknown"),
    };
    Span::new(style, format!("{word}: {because}"))
}

fn kyverno(image: &Asked) -> &str {
    if image.kyverno_says.is_empty() { "a dry run passed" } else { &image.kyverno_says }
}
