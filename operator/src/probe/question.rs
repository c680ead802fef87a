//! The question to a policy's gate, and what its answer means.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;
use signingkeyring_core::{names, policy_ref::PolicyRef};
use tokio::time::timeout;

use crate::{context::Context, error::brief, gate::Heard};

/// After this long without an answer Kyverno counts as mute.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a policy's gate.
pub(super) async fn ask(context: &Context, policy: PolicyRef) -> Heard {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let pod = match serde_json::from_value(question(policy)) {
        Ok(pod) => pod,
        Err(error) => return Heard::Unreadable(error.to_string()),
    };
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    match timeout(PATIENCE, pods.create(&dry_run, &pod)).await {
        Err(_) => Heard::Mute(format!("no answer within {}s", PATIENCE.as_secs())),
        Ok(Ok(pod)) => understand(&pod),
        Ok(Err(error)) => misunderstand(&error),
    }
}

/// A Pod that every Pod Security level admits. Its image is never fetched.
fn question(policy: PolicyRef) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "signing-gate-", "labels": {names::LABEL_GATE: policy.to_string()}},
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "gate",
                "image": "gate.invalid/gate",
                "resources": {
                    "requests": {"cpu": "1m", "memory": "1Mi"},
                    "limits": {"cpu": "1m", "memory": "1Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

fn understand(pod: &Pod) -> Heard {
    let annotations = pod.metadata.annotations.as_ref();
    match annotations.and_then(|a| a.get(names::ANNOTATION_GATE_ANSWER)) {
        None => Heard::Open,
        Some(text) => match text.parse() {
            Ok(marks) => Heard::Marks(marks),
            Err(error) => Heard::Unreadable(error.to_string()),
        },
    }
}

/// What a failed dry run means. Only Kyverno's own webhooks failing is a mute
/// gate; a quota, Pod Security or another webhook says nothing of Kyverno.
fn misunderstand(error: &kube::Error) -> Heard {
    let text = brief(error);
    if text.contains("failed calling webhook") && text.contains("kyverno") {
        Heard::Mute(stable(&text))
    } else {
        Heard::Unreadable(stable(&text))
    }
}

/// The text without what differs from one call to the next (generated names,
/// source ports), so that the same fault is told once.
fn stable(text: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let volatile = word.contains("signing-gate-") || word.contains("->");
        words.push(if volatile { "..." } else { word });
    }
    let text = words.join(" ");
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kyvernos_webhooks_make_the_gate_mute() {
        let error = |message: &str| {
            let status = kube::core::Status::failure(message, "InternalError").with_code(500);
            kube::Error::Api(status.boxed())
        };
        let mute = error(
            "Internal error occurred: failed calling webhook \"mutate.kyverno.svc-fail\": dial \
             tcp 127.0.0.1:9443: connect: connection refused",
        );
        assert!(matches!(misunderstand(&mute), Heard::Mute(_)));
        for other in [
            "Internal error occurred: failed calling webhook \"sidecar.istio.io\": timeout",
            "pods \"signing-gate-x\" is forbidden: exceeded quota: pods",
        ] {
            assert!(matches!(misunderstand(&error(other)), Heard::Unreadable(_)), "{other}");
        }
    }
}
