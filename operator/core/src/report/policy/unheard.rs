//! What is said where Kyverno gave no answer, and it is not known what pods meet.

use crate::{
    facts::carrying_besides,
    names,
    policy_ref::{Action, PolicyRef},
    snapshot::{Silence, Snapshot},
};

pub(super) fn unreadable_message(snapshot: &Snapshot, policy: PolicyRef, text: &str) -> String {
    let namespace = &snapshot.operator.namespace;
    format!(
        "it is not known whether images are verified by policy {policy}: something else than \
         Kyverno answered the operator's question to it, the dry run of a {} in namespace {namespace}, \
         or nothing did: {text}. Have that leave out {} there",
        names::QUESTION_KIND,
        names::QUESTION_CRD,
    )
}

pub(super) fn unaskable_message(
    snapshot: &Snapshot,
    policy: PolicyRef,
    why: &str,
    exists: bool,
) -> String {
    let kind = names::QUESTION_CRD;
    let install = "That CRD and the right to look at it come with the operator's manifests";
    if exists {
        format!(
            "it is not known whether images are verified by policy {policy}: Kyverno is asked by \
             {kind}, and {why}. Until then the policy stays as it stands, but for revoked keys and \
             somebody's edits. {install}"
        )
    } else {
        let until_then = match carrying_besides(snapshot, policy) {
            Some(other) => format!("until then its rule stays in policy {other}"),
            None => "no rule of the ring is in force".to_owned(),
        };
        format!(
            "{until_then}: policy {policy} is created once the cluster serves {kind}, by which \
             Kyverno is asked, and {why}. {install}"
        )
    }
}

/// What is known, and nothing more, when a question passed without an answer.
pub(super) fn silent_message(snapshot: &Snapshot, policy: PolicyRef, silence: &Silence) -> String {
    let namespace = &snapshot.operator.namespace;
    let (unknown, or_down) = match policy.action() {
        Action::Enforce => ("it is not known whether images are verified", ""),
        Action::Audit => (
            "it is not known whether images are reported (this policy refuses none)",
            "it does not answer, ",
        ),
    };
    let why = match silence {
        Silence::Passed => format!(
            "Kyverno let the operator's question to it pass without an answer. Either {or_down}it \
             has not loaded the policy (look at the logs of its admission controller, or restart \
             it), or it was told to leave out what the operator asks: by resourceFilters, \
             excludeUsernames, excludeGroups, excludeRoles or excludeClusterRoles in its ConfigMap, \
             or by a PolicyException. The operator asks in namespace {namespace} as \
             {}",
            snapshot.operator.account.user_name()
        ),
        Silence::NoWebhook => format!(
            "Kyverno's mutating webhook for such policies does not take {}, by which it is asked, \
             or is gone. Kyverno writes it when it has loaded the policy: look at the logs of its \
             admission controller, or restart it",
            names::QUESTION_CRD
        ),
        Silence::LeftOut(field) => format!(
            "Kyverno cannot be asked here, because the {field} of its webhook configurations \
             leaves out, or may leave out, what the operator asks in namespace {namespace}. Kyverno \
             takes it from its ConfigMap: have that include the namespace"
        ),
        Silence::NotSeen(text) => format!(
            "the operator's question to Kyverno passed without an answer, and Kyverno's webhook \
             configurations could not be looked at: {text}"
        ),
    };
    format!("{unknown} by policy {policy}: {why}")
}
