//! How that is shown.

use jiff::Timestamp;
use signingkeyring_crds::VersionState;

use super::view::View;
use crate::text::{Line, Span, Table, shortened};

/// A ring's versions. What was not recorded at the time is not known.
pub fn lines(view: &View, wide: bool) -> Vec<Line> {
    let headings = [
        "VERSION",
        "STATE",
        "MINTED",
        "CAUSE",
        "ACKNOWLEDGED",
        "SIGNED FROM",
        "ENDED",
        "BY",
        "FINGERPRINT",
        "REASON",
    ];
    let mut table = Table::new(&headings);
    for version in &view.versions {
        let fingerprint = match wide {
            true => version.fingerprint.clone(),
            false => shortened(&version.fingerprint),
        };
        let is_over = matches!(version.state, VersionState::Retired | VersionState::Revoked);
        let is_waiting = version.state == VersionState::Pending;
        let time = |time: Option<Timestamp>, is_due: bool| recorded(time.as_ref(), is_due);
        table.row([
            Span::from(version.version.to_string()),
            format!("{:?}", version.state).into(),
            version.minted.to_string().into(),
            version.cause.map_or_else(unknown, |cause| format!("{cause:?}")).into(),
            time(version.acknowledged, !is_waiting).into(),
            time(version.activated, false).into(),
            time(version.ended, is_over).into(),
            match version.ended_by {
                Some(by) => format!("{by:?}").into(),
                None => recorded::<String>(None, is_over).into(),
            },
            fingerprint.into(),
            version.revoked_because.as_deref().unwrap_or("-").into(),
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

fn recorded<T: ToString>(what: Option<&T>, is_due: bool) -> String {
    match what {
        Some(what) => what.to_string(),
        None if is_due => unknown(),
        None => "-".to_owned(),
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}
