//! The question to a policy's gate, and what its answer means.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;
use signingkeyring_core::{names, policy_ref::PolicyRef};
use tokio::time::timeout;

use crate::{context::Context, error::brief, gate::Response};

/// After this long without an answer Kyverno counts as unreachable.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a policy's gate.
pub(super) async fn ask(context: &Context, policy: PolicyRef) -> Response {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let pod = match serde_json::from_value(question(policy)) {
        Ok(pod) => pod,
        Err(error) => return Response::Unreadable(error.to_string()),
    };
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    match timeout(TIMEOUT, pods.create(&dry_run, &pod)).await {
        Err(_) => Response::Unreachable(format!("no answer within {}s", TIMEOUT.as_secs())),
        Ok(Ok(pod)) => read_answer(&pod),
        Ok(Err(error)) => read_error(&error),
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

fn read_answer(pod: &Pod) -> Response {
    let annotations = pod.metadata.annotations.as_ref();
    match annotations.and_then(|a| a.get(names::ANNOTATION_GATE_ANSWER)) {
        None => Response::Open,
        Some(text) => match text.parse() {
            Ok(marks) => Response::Marks(marks),
            Err(error) => Response::Unreadable(error.to_string()),
        },
    }
}

/// What a failed dry run says. Only when Kyverno's own webhooks fail is the gate
/// unreachable; a quota, Pod Security or another webhook says nothing of Kyverno.
fn read_error(error: &kube::Error) -> Response {
    let text = brief(error);
    if text.contains("failed calling webhook") && text.contains("kyverno") {
        Response::Unreachable(without_volatile_words(&text))
    } else {
        Response::Unreadable(without_volatile_words(&text))
    }
}

/// The text without what differs from one call to the next (generated names,
/// source ports), so that the same fault is told once.
fn without_volatile_words(text: &str) -> String {
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
    fn only_kyvernos_webhooks_make_the_gate_unreachable() {
        let error = |message: &str| {
            let status = kube::core::Status::failure(message, "InternalError").with_code(500);
            kube::Error::Api(status.boxed())
        };
        let unreachable = error(
            "Internal error occurred: failed calling webhook \"mutate.kyverno.svc-fail\": dial \
             tcp 127.0.0.1:9443: connect: connection refused",
        );
        assert!(matches!(read_error(&unreachable), Response::Unreachable(_)));
        for other in [
            "Internal error occurred: failed calling webhook \"sidecar.istio.io\": timeout",
            "pods \"signing-gate-x\" is forbidden: exceeded quota: pods",
        ] {
            assert!(matches!(read_error(&error(other)), Response::Unreadable(_)), "{other}");
        }
    }
}
