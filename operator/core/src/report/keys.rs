//! The condition `KeysAvailable`, and what is said when keys are lost.

use super::{Condition, Kind, Reason, Stage, Status};
use crate::{
    ledger::Ledger,
    names, plan,
    snapshot::{LedgerFound, Snapshot},
};

pub(super) fn condition(snapshot: &Snapshot, ledger: Option<&Ledger>, stage: Stage) -> Condition {
    let (status, reason, message) = match (stage, ledger.and_then(Ledger::current)) {
        (Stage::Lost, _) => {
            let (reason, message) = lost(snapshot);
            (Status::False, reason, message)
        }
        (_, Some(current)) => {
            let message = format!("version {} signs", current.number);
            (Status::True, Reason::Available, message)
        }
        (_, None) => {
            let message = "no version signs yet".to_owned();
            (Status::False, Reason::FirstVersionPending, message)
        }
    };
    Condition { kind: Kind::KeysAvailable, status, reason, message }
}

/// What happened to the keys, and what to do.
pub(super) fn lost(snapshot: &Snapshot) -> (Reason, String) {
    let secret =
        format!("Secret {}/{}", snapshot.operator.namespace, names::ledger(&snapshot.name));
    let what = match &snapshot.ledger {
        LedgerFound::Foreign => {
            let message = format!(
                "{secret} has the name of the ring's ledger and is not one, so it is left alone. \
                 Delete it, or name the ring otherwise"
            );
            return (Reason::SecretConflict, message);
        }
        LedgerFound::Damaged(why) => format!("{secret}, the ring's ledger, is damaged: {why}"),
        LedgerFound::Absent | LedgerFound::Present(_) => {
            let evidence = plan::evidence(snapshot).unwrap_or_default();
            format!("{secret}, the ring's ledger, is gone although {evidence}")
        }
    };
    let message = format!(
        "{what}. What is in force stays in force and nothing is minted. Restore the Secret from \
         a backup; or delete the ring and apply it anew, which makes every image signed so far \
         invalid"
    );
    (Reason::KeyMaterialLost, message)
}
