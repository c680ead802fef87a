//! What Kyverno says of an image: a pod that is never stored.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams, core::Status};
use serde_json::json;
use signingkeyring_inspect::Image;

use crate::{
    cluster::Cluster,
    error::{Error, brief},
};

/// The name of the pod's only container.
const CONTAINER: &str = "image";

/// How much of a refusal is shown.
const MOST: usize = 300;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It would run, as this image if something changed it to another one.
    Admitted(Option<String>),
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
                "name": CONTAINER,
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
        Ok(pod) => Ok(Answer::Admitted(changed(image, &pod))),
        Err(kube::Error::Api(status)) => Ok(answer(&status)),
        Err(error) => Err(Error::Failed(format!("{}: {}", what(), brief(&error)))),
    }
}

/// The image that the pod would run, if it is another one than was asked for. That a tag is
/// pinned to its digest makes none, whether the tag stays or goes.
fn changed(asked: &str, pod: &Pod) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.iter().find(|c| c.name == CONTAINER)?;
    let got = container.image.as_deref()?;
    let (before, after) = (Image::parse(asked), Image::parse(got));
    let is_same = match (&before, &after) {
        (Some(before), Some(after)) => {
            let is_same_tag = before.tag().unwrap_or("latest") == after.tag().unwrap_or("latest");
            let is_pinned = after.digest().is_some() && (after.tag().is_none() || is_same_tag);
            (before.registry(), before.repository()) == (after.registry(), after.repository())
                && match before.digest() {
                    Some(digest) => after.digest() == Some(digest),
                    None => is_pinned || (after.digest().is_none() && is_same_tag),
                }
        }
        _ => asked == got,
    };
    (!is_same).then(|| got.to_owned())
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
    fn an_image_that_is_pinned_is_the_same_and_one_from_elsewhere_is_not() {
        let pinned = format!("redis:7@sha256:{}", "1".repeat(64));
        let of = |asked: &str, got: &str| {
            let container = json!({"name": CONTAINER, "image": got});
            let sidecar = json!({"name": "proxy", "image": "mesh/proxy:1"});
            let pod = json!({"metadata": {}, "spec": {"containers": [sidecar, container]}});
            changed(asked, &serde_json::from_value(pod).unwrap())
        };
        for same in ["redis:7", "docker.io/library/redis:7", &pinned] {
            assert_eq!(of("redis:7", same), None, "{same}");
        }
        for other in ["redis:8", "redis", "mirror.example/redis:7"] {
            assert_eq!(of("redis:7", other).as_deref(), Some(other));
        }
        let untagged = format!("redis@sha256:{}", "1".repeat(64));
        assert_eq!(of("redis:7", &untagged), None);
        assert_eq!(of(&untagged, &pinned), None);
        assert_eq!(of("redis", "redis:latest"), None);
        assert_eq!(of("redis", "redis:8").as_deref(), Some("redis:8"));
        assert_eq!(of(&pinned, "redis:7").as_deref(), Some("redis:7"));
        assert_eq!(of("UPPER/x", "UPPER/x"), None);
    }

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
