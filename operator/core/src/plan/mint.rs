//! Whether a new version is due: because there is none, because somebody
//! asked, because of the schedule, because the one that signed was revoked, or
//! to stand by.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::place;
use crate::{
    ledger::{Change, Ledger, Version, token_hash},
    snapshot::{ImportFound, Revoked, Snapshot},
};

/// The longest rotation token, in characters: that of a Kubernetes annotation
/// key's name would be shorter, that of a label value far shorter.
pub const MAX_TOKEN: usize = 253;

/// The first version. The token present now belongs to it and asks for nothing.
pub(super) fn first(snapshot: &Snapshot) -> Option<Change> {
    if snapshot.ring.suspend {
        return None;
    }
    let token = token(snapshot).map(token_hash);
    let rule = place::first(snapshot);
    match (&snapshot.import, &snapshot.ring.import) {
        (ImportFound::Present, Some(from)) => {
            Some(Change::Import { from: from.clone(), token, rule })
        }
        (_, Some(_)) => None,
        (_, None) => {
            Some(Change::Mint { version: free_number(snapshot, 0), token, standby: false, rule })
        }
    }
}

/// The next version, if one is due. What is asked while a version is pending
/// waits until that one is current, and is answered by one more; what is asked
/// while one stands by is answered by that one.
pub(super) fn next(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let waiting = ledger.pending().is_some() || ledger.standby().is_some();
    if waiting || snapshot.ring.deleting || snapshot.ring.suspend {
        return None;
    }
    let due = is_due(snapshot, ledger) || ledger.current().is_none();
    (due || snapshot.ring.standby).then(|| Change::Mint {
        version: free_number(snapshot, ledger.newest().map_or(0, |v| v.number)),
        token: asked(snapshot, ledger).map(token_hash),
        standby: !due,
        rule: ledger.rule.settings.clone(),
    })
}

/// Has the version that was to stand by, or does, answer what was asked, or
/// replace a version that was revoked.
pub(super) fn promote(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let waiting = standing_by(ledger).filter(|_| !snapshot.ring.suspend)?;
    let due = is_due(snapshot, ledger) || ledger.current().is_none();
    due.then(|| Change::Promote {
        version: waiting.number,
        token: asked(snapshot, ledger).map(token_hash),
    })
}

/// Gives up a version that was to stand by, where none is wanted any more or
/// its private key is gone. It never reached a pipeline.
pub(super) fn discard(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let waiting = standing_by(ledger).filter(|_| !snapshot.ring.suspend)?;
    (has_lost_its_key(snapshot, waiting) || !snapshot.ring.standby)
        .then_some(Change::Discard { version: waiting.number })
}

/// Whether the Secret of its own that holds a version's private key is gone.
pub(super) fn has_lost_its_key(snapshot: &Snapshot, version: &Version) -> bool {
    let secret = version.private_key.as_ref().and_then(|key| key.secret.as_ref());
    secret.is_some_and(|secret| !snapshot.key_secrets.contains_key(secret))
}

fn standing_by(ledger: &Ledger) -> Option<&Version> {
    ledger.standby().or_else(|| ledger.pending().filter(|v| v.standby))
}

/// Whether a rotation was asked for, or the schedule calls for one.
#[must_use]
pub(super) fn is_due(snapshot: &Snapshot, ledger: &Ledger) -> bool {
    let scheduled = due_at(snapshot, ledger).is_some_and(|due| due <= snapshot.now);
    !snapshot.ring.deleting && (scheduled || asked(snapshot, ledger).is_some())
}

/// The rotation token, if it has not been answered yet.
pub(super) fn asked<'a>(snapshot: &'a Snapshot, ledger: &Ledger) -> Option<&'a str> {
    token(snapshot).filter(|token| ledger.handled(token).is_none())
}

/// When the schedule rotates next: a period after the newest version began to
/// sign, or was minted to do so, less up to a tenth of it.
#[must_use]
pub fn due_at(snapshot: &Snapshot, ledger: &Ledger) -> Option<Timestamp> {
    let every = snapshot.ring.every?;
    let newest = ledger.versions.iter().rev().find(|v| !v.standby || v.has_signed())?;
    let began = newest.activated_at.unwrap_or(newest.created_at);
    let period = every.saturating_sub(early(snapshot.name.as_str(), every));
    let period = SignedDuration::try_from(period).ok()?;
    began.checked_add(period).ok()
}

/// How much earlier than its period a ring is due: a point of its own between
/// nothing and a tenth, so that a fleet does not rotate at once.
fn early(ring: &str, every: Duration) -> Duration {
    let digest = Sha256::digest(ring.as_bytes());
    let point = u16::from_be_bytes([digest[0], digest[1]]);
    Duration::from_secs(every.as_secs() / 10 * u64::from(point) / u64::from(u16::MAX))
}

/// The rotation token, if it asks for something.
pub(super) fn token(snapshot: &Snapshot) -> Option<&str> {
    let token = snapshot.ring.token.as_deref()?;
    (!token.is_empty() && is_token(token)).then_some(token)
}

/// Whether a rotation token can be handled. One with a control character could
/// not be reported: the API server reads an applied status as YAML, which has
/// no place for some of them, and the ring would never show a condition again.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let unreadable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().count() <= MAX_TOKEN && !text.contains(unreadable)
}

/// The lowest number after `last` that no revocation names: a version that
/// is revoked before it exists is not to be born.
pub(super) fn free_number(snapshot: &Snapshot, last: u32) -> u32 {
    let mut number = last.saturating_add(1);
    while snapshot.ring.revoked.contains(&Revoked::Version(number)) {
        number = number.saturating_add(1);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_can_be_reported() {
        for good in ["2026-11-24", "ä {{x}} 🦀", "\u{feff}", &"t".repeat(MAX_TOKEN)] {
            assert!(is_token(good), "{good:?}");
        }
        for bad in ["a\u{7f}", "\u{0}", "a\n", "\u{85}", "\u{fffe}", &"t".repeat(MAX_TOKEN + 1)] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }
}
