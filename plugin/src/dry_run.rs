//! What Kyverno says of an image: a pod that is never stored.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams, core::Status};
use serde_json::json;

use crate::{
    cluster::Cluster,
    error::{Error, brief},
};

/// How much of a refusal is shown.
const MOST: usize = 300;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It would run.
    Admitted,
    /// One of the operator's policies refused it, in these words.
    Refused(String),
    /// A webhook that has to be asked did not answer.
    Unanswered(String),
    /// Somebody else refused it, which says nothing of its image.
    Other(String),
}

/// Asks whether a pod of an image may run in a namespace.
///
/// # Errors
/// If the API server does not answer.
pub async fn ask(cluster: &Cluster, namespace: &str, image: &str) -> Result<Answer, Error> {
    // As the restricted Pod Security profile wants it, so that this does not refuse it.
    let pod = json!({
        "metadata": {"generateName": "kubectl-signing-"},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "image",
                "image": image,
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
    });
    let what = || format!("the dry run of a pod in namespace {namespace}");
    let pod: Pod = serde_json::from_value(pod)
        .map_err(|error| Error::Failed(format!("{}: {error}", what())))?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let params = PostParams { dry_run: true, field_manager: None };
    match pods.create(&params, &pod).await {
        Ok(_) => Ok(Answer::Admitted),
        Err(kube::Error::Api(status)) => Ok(answer(&status)),
        Err(error) => Err(Error::Failed(format!("{}: {}", what(), brief(&error)))),
    }
}

fn answer(status: &Status) -> Answer {
    let message = status.message.clone();
    match (status.code, status.reason.as_str()) {
        // The API server gives every refusal of its own a reason.
        (400, "") if message.contains("admission webhook") && is_ours(&message) => {
            Answer::Refused(message)
        }
        (500, "InternalError") if message.contains("failed calling webhook") => {
            Answer::Unanswered(message)
        }
        _ => Answer::Other(message),
    }
}

/// Whether a refusal names a policy of the operator's: other webhooks, and other policies
/// of Kyverno's, refuse pods for other reasons.
fn is_ours(message: &str) -> bool {
    ["signing-enforce-", "signing.enforce-", "signing.pin-"].iter().any(|n| message.contains(n))
}

/// The part of a refusal that says why, on one line.
pub fn reason(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.next_back().unwrap_or(message);
    // One of the kinds says it behind the names of its webhook and policy.
    let last = last.split_once(" failed: ").map_or(last, |(_, reason)| reason);
    let start: String = last.chars().take(MOST).collect();
    if start.len() < last.len() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_webhooks_refusal_is_kyvernos() {
        let of = |code, reason: &str, message: &str| {
            answer(&Status::failure(message, reason).with_code(code))
        };
        let refused = "admission webhook \"mutate.kyverno.svc-fail\" denied the request: \n\n\
                       policy x fail: \n\nsigning-enforce-0001:\n  checkout: 'failed'\n";
        assert_eq!(of(400, "", refused), Answer::Refused(refused.to_owned()));
        assert_eq!(reason(refused), "checkout: 'failed'");
        let failed = "Internal error occurred: failed calling webhook \"x\": refused";
        assert!(matches!(of(500, "InternalError", failed), Answer::Unanswered(_)));
        let others = "admission webhook \"validate.kyverno.svc-fail\" denied the request: \n\n\
                      require-labels:\n  check: 'failed'\n";
        assert_eq!(of(400, "", others), Answer::Other(others.to_owned()));
        for (code, reason) in [(403, "Forbidden"), (422, "Invalid"), (404, "NotFound")] {
            assert!(matches!(of(code, reason, "quota"), Answer::Other(_)), "{reason}");
        }
    }
}
