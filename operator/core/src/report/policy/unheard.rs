//! What is said where Kyverno gave no answer, and it is not known what pods meet.

use super::unfit_probe;
use crate::{
    facts::carrying_besides,
    names,
    policy_ref::{Action, PolicyRef},
    promise::Act,
    snapshot::{Silence, Snapshot},
};

pub(super) fn unreadable_message(snapshot: &Snapshot, policy: PolicyRef, text: &str) -> String {
    let namespace = asked_in(snapshot, policy);
    if let Some(text) = nowhere_to_ask(snapshot, policy) {
        return format!("it is not known whether images are verified by policy {policy}: {text}");
    }
    let (kind, resource, comes_with) = if policy.kind().has_question_kind() {
        (names::QUESTION_KIND, names::QUESTION_CRD, "")
    } else {
        let comes_with = ". The right to ask there comes with the operator's manifests: kubectl \
                          apply -k manifests/probe";
        ("ConfigMap", "configmaps", comes_with)
    };
    format!(
        "it is not known whether images are verified by policy {policy}: something else than \
         Kyverno answered the operator's question to it, the dry run of a {kind} in namespace \
         {namespace}, or nothing did: {text}. Have that leave out {resource} there{comes_with}"
    )
}

/// Why a policy cannot be asked, if the namespace for that is not fit.
fn nowhere_to_ask(snapshot: &Snapshot, policy: PolicyRef) -> Option<String> {
    let why = unfit_probe(snapshot, policy.kind())?;
    let install = Act::InstallProbe.command(&snapshot.operator, &snapshot.name)?;
    Some(format!(
        "Kyverno is asked in namespace {}, and {why}. It comes with the operator's manifests: \
         {install}. Until then no new key is handed out",
        snapshot.operator.probe_namespace
    ))
}

/// The namespace in which a policy is asked.
fn asked_in(snapshot: &Snapshot, policy: PolicyRef) -> &str {
    if policy.kind().has_question_kind() {
        &snapshot.operator.namespace
    } else {
        &snapshot.operator.probe_namespace
    }
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

/// What is known where Kyverno's webhook took longer than it may.
pub(super) fn slow_message(policy: PolicyRef, text: &str) -> String {
    let meets = match policy.action() {
        Action::Enforce => "is refused",
        Action::Audit => "is not reported",
    };
    format!(
        "it is not known whether Kyverno answers for policy {policy} in time: it did not answer \
         the operator's question to it in the time that its webhook has. A pod whose check takes \
         as long {meets}. Give Kyverno's admission controller more CPU, or more replicas, or see \
         what its registries take so long for: {text}"
    )
}

/// What is known, and nothing more, when a question passed without an answer.
pub(super) fn silent_message(snapshot: &Snapshot, policy: PolicyRef, silence: &Silence) -> String {
    let namespace = asked_in(snapshot, policy);
    let (unknown, or_down) = match policy.action() {
        Action::Enforce => ("it is not known whether images are verified", ""),
        Action::Audit if policy.kind().has_own_webhook() => (
            "it is not known whether images are reported (this policy refuses none)",
            "it does not answer, or writes no events (omitEvents, or too many at once), ",
        ),
        Action::Audit => (
            "it is not known whether images are reported (this policy refuses none)",
            "it does not answer, ",
        ),
    };
    if let Some(text) = nowhere_to_ask(snapshot, policy) {
        return format!("{unknown} by policy {policy}: {text}");
    }
    // It writes all webhooks at once, or none.
    let not_loaded = match policy.kind().has_own_webhook() {
        true => "has not loaded the policy, or cannot write its webhook anew for a fault in others",
        false => "has not loaded the policy",
    };
    let why = match silence {
        Silence::Passed => format!(
            "Kyverno let the operator's question to it pass without an answer. Either {or_down}it \
             {not_loaded} (look at the logs of its admission controller, or restart it), or it was \
             told to leave out what the operator asks: by resourceFilters, \
             excludeUsernames, excludeGroups, excludeRoles or excludeClusterRoles in its ConfigMap, \
             or by a PolicyException. The operator asks in namespace {namespace} as \
             {}",
            snapshot.operator.account.user_name()
        ),
        Silence::NoWebhook if policy.kind().has_own_webhook() => {
            "Kyverno has yet to write the webhook by which it is called for it".to_owned()
        }
        Silence::NoWebhook => format!(
            "Kyverno's mutating webhook for such policies does not take {}, by which it is asked, \
             or is gone. Kyverno writes it when it has loaded the policy: look at the logs of its \
             admission controller, or restart it",
            names::QUESTION_CRD
        ),
        Silence::Unlabelled => format!(
            "namespace {namespace} had not the label by which such policies take questions there \
             when Kyverno was asked last; it is asked again within seconds"
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
