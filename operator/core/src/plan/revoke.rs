//! Taking versions out for ever: at once, before anything else, and although
//! the ring is suspended or being deleted.

use std::collections::BTreeSet;

use super::mint;
use crate::{
    ledger::{Change, Ledger, State},
    snapshot::{Revoked, Snapshot},
};

/// The revocation that the ledger does not know yet.
pub(super) fn next(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let revoked = &snapshot.ring.revoked;
    let versions: BTreeSet<u32> = ledger
        .versions
        .iter()
        .filter(|v| v.state != State::Revoked && revoked.iter().any(|r| r.names(v)))
        .map(|v| v.number)
        .collect();
    if versions.is_empty() {
        return None;
    }
    let signer = ledger.current().is_some_and(|v| versions.contains(&v.number));
    let promote = ledger
        .standby()
        .filter(|v| signer && !versions.contains(&v.number) && !snapshot.ring.suspend)
        .filter(|v| !mint::has_lost_its_key(snapshot, v))
        .map(|v| v.number);
    Some(Change::Revoke { versions, promote, keep: snapshot.ring.keep })
}

/// The revocations that name no version that this ring ever had.
pub fn unknown<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
) -> impl Iterator<Item = &'a Revoked> {
    let newest = ledger.newest().map_or(0, |v| v.number);
    snapshot.ring.revoked.iter().filter(move |revoked| match revoked {
        // A number that is not in the table any more was given out once.
        Revoked::Version(number) => *number > newest,
        Revoked::Fingerprint(fingerprint) => {
            ledger.by_fingerprint(fingerprint).is_none()
                && !ledger.revoked.contains(&crate::high_water::short(fingerprint.as_str()))
        }
        Revoked::Unreadable(_) => true,
    })
}
