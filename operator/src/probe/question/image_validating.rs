//! The question to an ImageValidatingPolicy: a ConfigMap in a namespace of its own,
//! named after the policy and the state that it is in.
//!
//! Kyverno verifies in its validating half here, so the answer is a refusal. Where
//! nothing is to be refused, it is the event that Kyverno writes of a Pod it would
//! have refused; that names the question by the UID that the API server made up for
//! this dry run. The name is compared by the API server's copy of the policy's
//! conditions and by Kyverno's own, so that an answer tells that both have this state.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    core::ObjectMeta,
};
use signingkeyring_core::{
    names,
    policy::image_validating::question,
    policy_ref::{Action, PolicyRef},
};
use tokio::time::sleep;

use super::read_error;
use crate::{
    context::Context,
    error::brief,
    gate::Response,
    kyverno::{is_ours, marks},
};

/// When it is looked for an event after a question passed; mostly it is there at the
/// first time.
const LOOKS: [Duration; 6] = [
    Duration::from_millis(30),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Asks; nothing if the question passed without an answer.
pub(super) async fn ask(context: &Context, policy: PolicyRef) -> Option<Response> {
    let stands = context.cache.policy(policy).filter(|object| is_ours(object));
    // Of one that is gone it is not known what it was; its webhook tells.
    let marks = marks(stands.as_deref()?);
    let name = question(policy, &marks);
    let namespace = &context.settings.probe_namespace;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let asked = ConfigMap { metadata, ..ConfigMap::default() };
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    match api.create(&dry_run, &asked).await {
        Err(error) if is_answer(&brief(&error), policy, &name) => Some(Response::Marks(marks)),
        Err(error) => Some(read_error(&error, |webhook| is_webhook(webhook, policy))),
        Ok(passed) if policy.action() == Action::Audit => {
            let uid = passed.uid().unwrap_or_default();
            match was_reported(context, &uid, &name).await {
                Ok(true) => Some(Response::Marks(marks)),
                Ok(false) => None,
                Err(error) => Some(Response::Unreadable(format!(
                    "Kyverno's events in namespace {namespace} could not be looked at: {}",
                    brief(&error)
                ))),
            }
        }
        Ok(_) => None,
    }
}

/// Whether Kyverno has written an event of a question.
async fn was_reported(context: &Context, uid: &str, name: &str) -> Result<bool, kube::Error> {
    let api: Api<Event> =
        Api::namespaced(context.client.clone(), &context.settings.probe_namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    for pause in LOOKS {
        sleep(pause).await;
        let events = api.list(&about).await?;
        let says = |event: &Event| event.message.as_ref().is_some_and(|text| text.contains(name));
        if events.items.iter().any(says) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a refusal is the policy's answer: by its webhook, in its name.
fn is_answer(text: &str, policy: PolicyRef, name: &str) -> bool {
    let refused = text
        .split_once("admission webhook \"")
        .and_then(|(_, rest)| rest.split_once("\" denied the request: "));
    refused.is_some_and(|(webhook, said)| {
        is_webhook(webhook, policy) && said == format!("Policy {policy} failed: {name}")
    })
}

/// Whether a webhook is the one by which Kyverno is called for this policy.
fn is_webhook(name: &str, policy: PolicyRef) -> bool {
    [false, true]
        .into_iter()
        .any(|is_ignored| policy.own_webhook(is_ignored).as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy_ref::PolicyKind;

    use super::*;

    #[test]
    fn only_this_policys_webhook_answers() {
        let policy = PolicyRef::new(Action::Enforce, 1).of_kind(PolicyKind::ImageValidatingPolicy);
        let answer = |webhook: &str, policy: &str, name: &str| {
            format!(
                "admission webhook \"{webhook}\" denied the request: Policy {policy} failed: {name}"
            )
        };
        let (webhook, own, name) =
            (policy.own_webhook(false).unwrap(), policy.to_string(), "signing.enforce-0001.ab");
        assert!(is_answer(&answer(&webhook, &own, name), policy, name));
        for (other, by, says) in [
            ("ivpol.validate.kyverno.svc-fail-finegrained-theirs", &*own, name),
            (&webhook, "theirs", name),
            (&webhook, &own, "signing.enforce-0001.cd"),
            (&webhook, &own, ""),
        ] {
            assert!(!is_answer(&answer(other, by, says), policy, name), "{other} {by} {says}");
        }
        assert!(!is_answer("configmaps is forbidden: exceeded quota", policy, name));
    }
}
