//! The question to a policy's gate, and what its answer means.

use std::time::Duration;

use kube::{Api, ResourceExt, api::PostParams};
use signingkeyring_core::{names, policy_ref::PolicyRef};
use signingkeyring_crds::{GateQuestion, GateQuestionSpec};
use tokio::time::{Instant, timeout};

use super::webhooks::Webhooks;
use crate::{
    context::Context,
    error::{brief, is_code},
    gate::Response,
};

/// After this long without an answer nothing is known. Kyverno's own webhook may
/// take 30 seconds and the API server then says so itself.
const PATIENCE: Duration = Duration::from_secs(45);

/// What the API server says before the name of a webhook that it cannot reach.
const FAILED_CALLING: &str = "failed calling webhook \"";

/// Kyverno's webhooks for the policies that are not alone in one: with those,
/// pods fail too.
const KYVERNOS: [&str; 4] = [
    "mutate.kyverno.svc-fail",
    "mutate.kyverno.svc-ignore",
    "validate.kyverno.svc-fail",
    "validate.kyverno.svc-ignore",
];

/// Asks a policy's gate.
pub(super) async fn ask(context: &Context, webhooks: &Webhooks, policy: PolicyRef) -> Response {
    let api: Api<GateQuestion> =
        Api::namespaced(context.client.clone(), &context.settings.namespace);
    let question = GateQuestion::new(&policy.to_string(), GateQuestionSpec::default());
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    let asked = Instant::now();
    match timeout(PATIENCE, api.create(&dry_run, &question)).await {
        Err(_) => Response::Unreadable(format!("no answer within {}s", PATIENCE.as_secs())),
        Ok(Err(error)) if is_code(&error, 409) => Response::Unreadable(format!(
            "{}. Somebody has stored a question, which nobody needs: kubectl delete {} --all \
             --namespace {}",
            brief(&error),
            names::QUESTION_CRD,
            context.settings.namespace
        )),
        Ok(Err(error)) => read_error(&error),
        Ok(Ok(answered)) => match answered.annotations().get(names::ANNOTATION_GATE_ANSWER) {
            Some(text) => read_answer(text),
            None => webhooks.explain_silence(context, policy, asked).await,
        },
    }
}

fn read_answer(text: &str) -> Response {
    match text.parse() {
        Ok(marks) => Response::Marks(marks),
        Err(error) => Response::Unreadable(format!("{error}")),
    }
}

/// What a failed dry run says. Only when Kyverno's own webhook fails is the gate
/// unreachable; what anybody else says is nothing about Kyverno.
fn read_error(error: &kube::Error) -> Response {
    let text = brief(error);
    let webhook = text.split_once(FAILED_CALLING).and_then(|(_, rest)| rest.split_once('"'));
    if webhook.is_some_and(|(name, _)| KYVERNOS.contains(&name)) {
        Response::Unreachable(without_volatile_words(&text))
    } else {
        Response::Unreadable(without_volatile_words(&text))
    }
}

/// The text without what differs from one call to the next (source ports), so
/// that the same fault is told once.
fn without_volatile_words(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains("->") { "..." } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str) -> kube::Error {
        let status = kube::core::Status::failure(message, "InternalError").with_code(500);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn only_kyvernos_webhooks_make_the_gate_unreachable() {
        for (name, why) in [
            ("mutate.kyverno.svc-fail", "dial tcp 127.0.0.1:9443: connect: connection refused"),
            ("mutate.kyverno.svc-fail", "context deadline exceeded"),
            ("validate.kyverno.svc-fail", "no endpoints available for service"),
        ] {
            let text = format!("Internal error occurred: failed calling webhook \"{name}\": {why}");
            assert!(matches!(read_error(&error(&text)), Response::Unreachable(_)), "{text}");
        }
        for other in [
            "Internal error occurred: failed calling webhook \"sidecar.istio.io\": timeout",
            "Internal error occurred: failed calling webhook \"x.example\": Post \
             \"https://mutate.kyverno.svc-fail\": timeout",
            "Internal error occurred: failed calling webhook \"mutate.kyverno.svc.example\": EOF",
            "Internal error occurred: failed calling webhook \
             \"mutate.kyverno.svc-fail-finegrained-theirs\": context deadline exceeded",
            "admission webhook \"mutate.kyverno.svc-fail\" denied the request: theirs",
            "gatequestions.signing.odj.cloud is forbidden: exceeded quota: count",
        ] {
            assert!(matches!(read_error(&error(other)), Response::Unreadable(_)), "{other}");
        }
    }
}
