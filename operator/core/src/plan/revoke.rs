//! Taking versions out for ever: at once, before anything else, and although
//! the ring is suspended or being deleted.

use super::mint;
use crate::{
    facts::Facts,
    ledger::{Change, Ledger},
    snapshot::Snapshot,
};

/// The revocation that the ledger does not know yet.
pub(super) fn next(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<Change> {
    let versions = &facts.due_revocations;
    if versions.is_empty() {
        return None;
    }
    let signer = ledger.current().is_some_and(|v| versions.contains(&v.number));
    let promote = ledger
        .standby()
        .filter(|v| signer && !versions.contains(&v.number) && !snapshot.ring.suspend)
        .filter(|v| !mint::has_lost_its_key(snapshot, v))
        .map(|v| v.number);
    Some(Change::Revoke { versions: versions.clone(), promote, keep: snapshot.ring.keep })
}
