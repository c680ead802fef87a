//! Where a ring is in its life.

use super::witness;
use crate::snapshot::{LedgerFound, Snapshot};

/// Where a ring is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The usual one.
    Serving,
    /// Its deletion waits, and until then it is served.
    DeletionBlocked,
    /// It is being taken down.
    Deleting,
    /// Its keys are lost: nothing is changed any more.
    Lost,
}

/// A ring that is deleted may go although its ledger was lost or is an old
/// one: what that would do next does not matter any more.
pub(super) fn of(snapshot: &Snapshot, outdated: bool, evidence: bool) -> Stage {
    let ending = || if is_blocked(snapshot) { Stage::DeletionBlocked } else { Stage::Deleting };
    let deleting = snapshot.ring.deleting;
    match &snapshot.ledger {
        LedgerFound::Foreign => Stage::Lost,
        LedgerFound::Damaged(damage) if deleting && damage.table().is_some() => ending(),
        LedgerFound::Absent | LedgerFound::Damaged(_) if deleting => {
            let in_force = witness::carrying(snapshot).next().is_some();
            if in_force { ending() } else { Stage::Deleting }
        }
        LedgerFound::Damaged(_) => Stage::Lost,
        LedgerFound::Absent if evidence => Stage::Lost,
        LedgerFound::Absent => Stage::Serving,
        LedgerFound::Present(ledger) if ledger.removed => Stage::Deleting,
        LedgerFound::Present(_) if deleting && !is_blocked(snapshot) => Stage::Deleting,
        LedgerFound::Present(_) if outdated => Stage::Lost,
        LedgerFound::Present(_) if deleting => Stage::DeletionBlocked,
        LedgerFound::Present(_) => Stage::Serving,
    }
}

/// Whether a deletion has to wait because namespaces are still enrolled.
fn is_blocked(snapshot: &Snapshot) -> bool {
    !snapshot.enrolled.is_empty() && !snapshot.ring.allow_unenforced
}
