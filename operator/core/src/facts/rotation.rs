//! What asks for a rotation: the token, and the schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::{ledger::Ledger, schedule::Opening, snapshot::Snapshot, token::is_token};

pub(super) fn token(snapshot: &Snapshot) -> Option<&str> {
    let token = snapshot.ring.token.as_deref()?;
    (!token.is_empty() && is_token(token)).then_some(token)
}

/// When the schedule rotates next: a period after the newest version began to
/// sign, or was minted to do so, less up to a tenth of it; where it has windows, in the
/// first that is open then or opens later.
pub(super) fn next(snapshot: &Snapshot, ledger: &Ledger) -> Option<Opening> {
    let due = due(snapshot, ledger)?;
    snapshot.ring.windows.opening(due, snapshot.now)
}

fn due(snapshot: &Snapshot, ledger: &Ledger) -> Option<Timestamp> {
    let every = snapshot.ring.every?;
    let newest = ledger.versions.iter().rev().find(|v| !v.is_spare() || v.has_signed())?;
    let began = newest.activated_at().unwrap_or(newest.created_at);
    let period = every.saturating_sub(early(snapshot.name.as_str(), every));
    let period = SignedDuration::try_from(period).ok()?;
    began.checked_add(period).ok()
}

/// How much earlier than its period a ring is due: a point of its own between
/// nothing and a tenth, so that a fleet does not rotate at once.
fn early(ring: &str, every: Duration) -> Duration {
    let digest: [u8; 32] = Sha256::digest(ring.as_bytes()).into();
    let point = u16::from_be_bytes([digest[0], digest[1]]);
    Duration::from_secs(every.as_secs() / 10 * u64::from(point) / u64::from(u16::MAX))
}
