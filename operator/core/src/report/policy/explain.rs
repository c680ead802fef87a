//! What stands between a ring and Kyverno, in sentences.

use std::collections::BTreeSet;

use super::{
    commands,
    unheard::{silent_message, slow_message, unaskable_message, unreadable_message},
    way_out,
};
use crate::{
    condition::Reason,
    facts::{Enforcement, carrying, carrying_besides},
    policy::NOBODYS_KEY,
    policy_ref::PolicyRef,
    snapshot::{Difference, PolicyFound, Snapshot},
};

/// Why the ring's rule is not known to be enforced, and what helps.
pub(super) fn explain(snapshot: &Snapshot, found: Enforcement<'_>) -> (Reason, String) {
    match found {
        Enforcement::KyvernoMissing(kind) => {
            let found = snapshot.policies.iter().filter(|(policy, _)| policy.kind() == kind);
            let mut ours = found
                .filter(|(_, seen)| matches!(seen.found, PolicyFound::Ours { mark: Some(_), .. }));
            let (crd, comes_with) = (kind.crd(), kind.comes_with());
            let missing = format!("the cluster does not serve {crd} as {comes_with} does");
            let what = match carrying(snapshot).find(|policy| snapshot.executes(policy.kind())) {
                Some(policy) => format!(
                    "{missing}, to which the ring's rule moves: until then its rule stays in \
                     policy {policy}"
                ),
                // An older Kyverno makes something of what stands there.
                None if ours.next().is_some() => {
                    format!("{missing}, so it is not known whether images are verified")
                }
                None => format!("OPEN: {missing}, so no image is verified"),
            };
            let way_out = way_out(snapshot, kind).map_or(String::new(), |way| {
                format!(", or have its rule be in the other kind: {}", commands(snapshot, &way))
            });
            let text = format!("{what}. Install {comes_with}{way_out}");
            (Reason::KyvernoMissing, text)
        }
        Enforcement::Conflict(policy) => (
            Reason::PolicyConflict,
            format!(
                "{} {policy} exists and is not the operator's, so it is left alone. Rename or \
                 delete it: kubectl delete {} {policy}",
                policy.kind().as_str(),
                policy.kind().resource()
            ),
        ),
        Enforcement::Differs { policy, difference: Difference::Unpinned, failure } => (
            Reason::PolicyDiffers,
            format!(
                "what puts the digest behind the tags of pods for policy {policy} is not what it \
                 should be and cannot be written: {failure}. Until then {}",
                what_stands(snapshot, policy, Difference::Unpinned)
            ),
        ),
        Enforcement::Differs { policy, difference, failure } => (
            Reason::PolicyDiffers,
            format!(
                "policy {policy} does not hold what it should and cannot be written: {failure}. \
                 Until then {}",
                what_stands(snapshot, policy, difference)
            ),
        ),
        Enforcement::Rejected(policy, text) => (
            Reason::PolicyRejected,
            format!(
                "Kyverno refused the ring's rule in policy {policy}, what it accepted last stays. \
                 The rule is tried again every minute: take out of spec.policy.exclude, or of the \
                 exclusion lists, what Kyverno names in these words: {text}"
            ),
        ),
        Enforcement::PolicyMissing(policy, Some(text)) => {
            let what = match carrying_besides(snapshot, policy) {
                Some(other) => format!(
                    "policy {policy}, to which the ring's rule moves, does not exist and could not \
                     be created: until then its rule stays in policy {other}"
                ),
                // Its webhook may be there still, and then nobody answers for its pods.
                None if policy.kind().has_own_webhook() => format!(
                    "policy {policy} does not exist and could not be created. Images are not \
                     verified, or pods are refused where Kyverno is down and its webhook for the \
                     policy is still there"
                ),
                None => format!(
                    "OPEN: policy {policy} does not exist and could not be created, so images are \
                     not verified"
                ),
            };
            let text = format!("{what}. Mend what the API server says, it is tried again: {text}");
            (Reason::PolicyMissing, text)
        }
        Enforcement::PolicyMissing(policy, None) => (
            Reason::PolicyPending,
            format!("policy {policy} does not exist yet; it is being created"),
        ),
        Enforcement::NoRule => (
            Reason::PolicyMissing,
            "OPEN: no policy holds a rule of the ring, so images are not verified. It comes back \
             with the ring's ledger, or with a new version"
                .to_owned(),
        ),
        Enforcement::Open(policy) if policy.kind().has_own_webhook() => (
            Reason::GateOpen,
            format!(
                "OPEN: Kyverno has no webhook for policy {policy}, so images in the ring's \
                 namespaces are not verified. Kyverno writes it when it has loaded the policy: \
                 kubectl get validatingwebhookconfigurations; look at the logs of Kyverno's \
                 admission controller, or restart it to have it written again"
            ),
        ),
        Enforcement::Open(policy) => (
            Reason::GateOpen,
            format!(
                "OPEN: Kyverno has no webhook for pods, so images are not verified. Policy {policy} \
                 exists, but Kyverno's webhook configurations are gone or empty: kubectl get \
                 mutatingwebhookconfigurations; restart Kyverno's admission controller to have \
                 them written again"
            ),
        ),
        Enforcement::Unaskable { policy, why, exists } => {
            (Reason::GateNotServed, unaskable_message(snapshot, policy, why, exists))
        }
        Enforcement::Silent(policy, silence, _) => {
            (Reason::GateSilent, silent_message(snapshot, policy, silence))
        }
        Enforcement::Slow(policy, text, _) => (Reason::GateSlow, slow_message(policy, text)),
        Enforcement::Unreachable(policy, text) => {
            (Reason::GateMute, unreachable_message(policy, text))
        }
        Enforcement::Unreadable(policy, text) => {
            (Reason::GateUnreadable, unreadable_message(snapshot, policy, text))
        }
        Enforcement::Behind { policy, failure: Some(failure), .. } => (
            Reason::PolicyBehind,
            format!(
                "policy {policy} could not be written and holds an older key set. Mend what the \
                 API server says, it is tried again: {failure}"
            ),
        ),
        Enforcement::Behind { policy, failure: None, .. } => (
            Reason::PolicyBehind,
            format!(
                "Kyverno does not answer with the key set that policy {policy} holds; look at the \
                 logs of its admission controller"
            ),
        ),
        Enforcement::Acknowledged(_) | Enforcement::NotAsked => {
            (Reason::GateNotAsked, "Kyverno has not been asked yet".to_owned())
        }
    }
}

/// What pods meet while a policy cannot be written.
fn what_stands(snapshot: &Snapshot, policy: PolicyRef, difference: Difference) -> String {
    let accepts = || match snapshot.policies.get(&policy).map(|seen| &seen.found) {
        Some(PolicyFound::Ours { keys, .. }) => accepted_keys(snapshot, keys),
        _ => "no key".to_owned(),
    };
    match difference {
        Difference::NoRule => {
            "it holds no rule of the ring, so by this policy no image of the ring's namespaces is \
             verified"
                .to_owned()
        }
        Difference::Keys => format!("the ring's rule there accepts {}", accepts()),
        Difference::Unpinned => {
            "pods that name each image by its digest are verified as they should be, and one that \
             names an image by a tag is refused where nothing puts the digest behind it"
                .to_owned()
        }
        Difference::Other => format!(
            "pods meet what stands there, which may admit images that should be refused, or refuse \
             those that should be admitted. The ring's rule there accepts {}. Look at it: kubectl \
             get {} {policy} -o yaml",
            accepts(),
            policy.kind().resource()
        ),
    }
}

/// Keys in a rule for a sentence: versions by their numbers, others counted.
fn accepted_keys(snapshot: &Snapshot, keys: &BTreeSet<String>) -> String {
    let versions = snapshot.ledger.table().map_or(&[][..], |table| &table.versions);
    let row = |key: &String| versions.iter().find(|row| row.public_key == **key);
    let numbers: BTreeSet<u32> = keys.iter().filter_map(row).map(|row| row.number).collect();
    let numbers: Vec<String> = numbers.iter().rev().map(u32::to_string).collect();
    let others = keys.iter().filter(|key| *key != NOBODYS_KEY && row(key).is_none()).count();
    match (numbers.is_empty(), others) {
        (true, 0) => "no key that anybody has".to_owned(),
        (false, 0) => format!("the versions {}", numbers.join(", ")),
        (true, others) => format!("{others} keys that are not the ring's"),
        (false, others) => {
            format!("the versions {} and {others} keys that are not the ring's", numbers.join(", "))
        }
    }
}

pub(super) fn unreachable_message(policy: PolicyRef, text: &str) -> String {
    format!(
        "CLOSED: Kyverno does not answer for policy {policy}, so pods are refused: {text}. Bring \
         Kyverno's admission controller back; a rotation waits and goes on by itself"
    )
}
