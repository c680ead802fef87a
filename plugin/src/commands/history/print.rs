//! How that is shown.

use super::view::View;
use crate::text::{Line, Span, Table, shortened};

/// A ring's versions.
pub fn lines(view: &View, wide: bool) -> Vec<Line> {
    let headings = ["VERSION", "STATE", "MINTED", "SIGNED FROM", "FINGERPRINT", "REVOKED BECAUSE"];
    let mut table = Table::new(&headings);
    for version in &view.versions {
        let fingerprint = match wide {
            true => version.fingerprint.clone(),
            false => shortened(&version.fingerprint),
        };
        table.row([
            Span::from(version.version.to_string()),
            format!("{:?}", version.state).into(),
            version.minted.to_string().into(),
            version.activated.map_or_else(|| "never".to_owned(), |time| time.to_string()).into(),
            fingerprint.into(),
            version.revoked_because.as_deref().unwrap_or_default().into(),
        ]);
    }
    let mut lines = match table.is_empty() {
        true => vec![format!("Ring {} has no version yet.", view.ring).into()],
        false => table.lines(),
    };
    if view.forgotten > 0 {
        lines.push(Line::empty());
        let (versions, are) =
            if view.forgotten == 1 { ("version", "is") } else { ("versions", "are") };
        lines.push(format!("{} older {versions} {are} not remembered.", view.forgotten).into());
    }
    lines
}
