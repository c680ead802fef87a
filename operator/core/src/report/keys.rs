//! The condition `KeysAvailable`, and what is said when keys are lost.

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Facts, Stage},
    grant,
    ledger::{Ledger, Version},
    names,
    snapshot::{Import, ImportFound, LedgerFound, Snapshot, Witness, known_to},
};

pub(super) fn condition(snapshot: &Snapshot, facts: &Facts<'_>) -> Condition {
    let current = facts.ledger.and_then(Ledger::current);
    let (status, reason, message) = match (facts.stage, current) {
        (Stage::Lost, _) => {
            let (reason, message) = lost(snapshot, facts);
            (Status::False, reason, message)
        }
        (Stage::DeletionBlocked, None) if facts.ledger.is_none() => {
            let message = "the ring's ledger is gone or damaged, and the ring is being deleted, so \
                           no version is minted; its last rule stays in force until it goes";
            (Status::False, Reason::KeyMaterialLost, message.to_owned())
        }
        (_, Some(current)) => {
            let message = format!("version {} signs", current.number);
            (Status::True, Reason::Available, message)
        }
        (_, None) => {
            let (reason, message) = no_signer(snapshot, facts);
            (Status::False, reason, message)
        }
    };
    Condition { kind: Kind::KeysAvailable, status, reason, message }
}

/// Why no version signs although nothing is lost.
fn no_signer(snapshot: &Snapshot, facts: &Facts<'_>) -> (Reason, String) {
    let ledger = facts.ledger;
    // One that is revoked on its way gets nowhere.
    let stays = |pending: &&Version| !facts.due_revocations.contains(&pending.number);
    let next = match ledger.and_then(Ledger::pending).filter(stays) {
        Some(pending) => format!("version {} is on its way", pending.number),
        None if snapshot.ring.suspend => {
            "spec.suspend is true, so none is minted; take it out".to_owned()
        }
        None if snapshot.ring.deleting => "the ring is being deleted, so none is minted".to_owned(),
        None => "another one is about to be minted".to_owned(),
    };
    if let Some(ledger) = ledger
        && ledger.lost_its_signer()
    {
        // One that is on its way has signed nothing, and Kyverno may not know it yet.
        let signed = ledger.accepted().filter(|v| v.has_signed());
        let accepted: Vec<String> = signed.map(|v| v.number.to_string()).collect();
        return if accepted.is_empty() {
            let message = format!(
                "every version is revoked. The rule stays in force and admits nothing but \
                 excluded images; {next}"
            );
            (Reason::AllRevoked, message)
        } else {
            let message = format!(
                "the version that signed is revoked, images of the versions {} are admitted; {next}",
                accepted.join(", ")
            );
            (Reason::CurrentRevoked, message)
        };
    }
    if let Some(message) = import(snapshot) {
        return (Reason::ImportFailed, message);
    }
    let reason =
        if snapshot.ring.suspend { Reason::Suspended } else { Reason::FirstVersionPending };
    (reason, format!("no version signs yet; {next}"))
}

/// Why the key pair of `spec.importFrom` was not taken over, if it was not.
pub(super) fn import(snapshot: &Snapshot) -> Option<String> {
    if let Some(ring) = &snapshot.shares_key_with {
        let why = known_to(ring);
        return Some(format!(
            "the key pair of spec.importFrom cannot be taken over, and none is minted: {why}"
        ));
    }
    let Import { from, found } = snapshot.import.as_ref()?;
    let why = match found {
        ImportFound::Present => return None,
        ImportFound::Absent => {
            "the Secret does not exist. Create it; or take spec.importFrom out, and one is \
             generated"
                .to_owned()
        }
        ImportFound::Forbidden => {
            let grant = grant::import(&snapshot.operator, from);
            format!("its namespace's owner has to grant access: {grant}")
        }
        ImportFound::Failed(why) if why.contains("take it out") => why.clone(),
        ImportFound::Failed(why) => format!(
            "{why}. Have spec.importFrom name another key pair, or take it out, and one is \
             generated"
        ),
    };
    Some(format!("the key pair in Secret {from} cannot be taken over, and none is minted: {why}"))
}

/// What is said where nothing but a policy's mark is ahead of the ledger: an
/// older ledger looks so, and so does a mark that somebody raised.
pub(super) fn mark_above(
    snapshot: &Snapshot,
    ledger: &Ledger,
    witness: Option<&Witness>,
) -> Option<String> {
    let Witness { who, policy, high_water, sequence } = witness?;
    let (policy, sequence) = ((*policy)?, (*sequence)?);
    if !ledger.knows(high_water) {
        return None;
    }
    let (name, known) = (&snapshot.name, ledger.rule.sequence);
    let secret = names::ledger(name);
    Some(format!(
        "{who} says that its rule is of sequence {sequence}, and Secret {}/{secret}, the ring's \
         ledger, ends with {known}: a backup of the ledger was restored over a newer one, or \
         somebody edited the policy's annotation {marks}. The rule keeps the ring's own keys, and \
         nothing is minted. Restore the newest backup of the Secret; or, if the annotation is to \
         blame or there is none, have it written anew: kubectl annotate {} {policy} \
         {marks}-",
        snapshot.operator.namespace,
        policy.kind().resource(),
        marks = names::ANNOTATION_MARKS,
    ))
}

/// What happened to the keys, and what to do.
pub(super) fn lost(snapshot: &Snapshot, facts: &Facts<'_>) -> (Reason, String) {
    let secret =
        format!("Secret {}/{}", snapshot.operator.namespace, names::ledger(&snapshot.name));
    let (reason, what) = match &snapshot.ledger {
        LedgerFound::Foreign => {
            let message = format!(
                "{secret} has the name of the ring's ledger and is not one, so it is left alone. \
                 Delete it (kubectl delete secret {} --namespace={}), or name the ring otherwise",
                names::ledger(&snapshot.name),
                snapshot.operator.namespace
            );
            return (Reason::SecretConflict, message);
        }
        LedgerFound::Damaged(damage) => {
            let what = format!("{secret}, the ring's ledger, is damaged: {}", damage.why());
            (Reason::KeyMaterialLost, what)
        }
        LedgerFound::Present(ledger) => {
            if let Some(message) = mark_above(snapshot, ledger, facts.knows_more) {
                return (Reason::LedgerOutdated, message);
            }
            let known = ledger.newest().map_or(0, |v| v.number);
            let who = facts.knows_more.map_or("a witness", |witness| witness.who.as_str());
            let what = format!(
                "{secret}, the ring's ledger, is older than what {who} remembers of it (it ends \
                 with version {known}): a backup was restored over a newer state"
            );
            (Reason::LedgerOutdated, what)
        }
        LedgerFound::Absent => {
            let evidence = facts.evidence.map(|evidence| evidence.to_string()).unwrap_or_default();
            let what = format!("{secret}, the ring's ledger, is gone although {evidence}");
            (Reason::KeyMaterialLost, what)
        }
    };
    let last = facts.last_version;
    let suspended = if snapshot.ring.suspend { ", once spec.suspend is taken out" } else { "" };
    let message = format!(
        "{what}. What is in force stays in force and nothing is minted. Restore the newest backup \
         of the Secret; or go on without it: kubectl annotate --overwrite skr {} {}={last}. That has \
         a version after {last} minted{suspended}, and keeps accepting only the versions that both \
         the ring's status and its policy name",
        snapshot.name,
        names::ANNOTATION_RECOVER,
    );
    (reason, message)
}
