//! Whether a new version is due: because there is none, because somebody
//! asked, or because of the schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::place;
use crate::{
    ledger::{Change, Ledger, token_hash},
    snapshot::Snapshot,
};

/// The longest rotation token, in characters: that of a Kubernetes annotation
/// key's name would be shorter, that of a label value far shorter.
pub const MAX_TOKEN: usize = 253;

/// The first version. The token present now belongs to it and asks for nothing.
pub(super) fn first(snapshot: &Snapshot) -> Change {
    Change::Mint {
        version: 1,
        token: token(snapshot).map(token_hash),
        rule: place::first(snapshot),
    }
}

/// The next version, if one is due. What is asked while a version is pending
/// waits until that one is current, and is answered by one more.
pub(super) fn next(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    if ledger.pending().is_some() || snapshot.ring.deleting {
        return None;
    }
    let version = ledger.newest()?.number + 1;
    let asked = token(snapshot).filter(|token| ledger.handled(token).is_none());
    let scheduled = due_at(snapshot, ledger).is_some_and(|due| due <= snapshot.now);
    (asked.is_some() || scheduled).then(|| Change::Mint {
        version,
        token: asked.map(token_hash),
        rule: ledger.rule.settings.clone(),
    })
}

/// When the schedule rotates next: a period after the newest version was
/// minted, less up to a tenth of it.
#[must_use]
pub fn due_at(snapshot: &Snapshot, ledger: &Ledger) -> Option<Timestamp> {
    let every = snapshot.ring.every?;
    let newest = ledger.newest()?;
    let period = every.saturating_sub(early(&snapshot.name, every));
    let period = SignedDuration::try_from(period).ok()?;
    newest.created_at.checked_add(period).ok()
}

/// How much earlier than its period a ring is due: a point of its own between
/// nothing and a tenth, so that a fleet does not rotate at once.
fn early(ring: &str, every: Duration) -> Duration {
    let digest = Sha256::digest(ring.as_bytes());
    let point = u16::from_be_bytes([digest[0], digest[1]]);
    Duration::from_secs(every.as_secs() / 10 * u64::from(point) / u64::from(u16::MAX))
}

/// The rotation token, if it asks for something.
fn token(snapshot: &Snapshot) -> Option<&str> {
    let token = snapshot.ring.token.as_deref()?;
    (!token.is_empty() && token.chars().count() <= MAX_TOKEN).then_some(token)
}
