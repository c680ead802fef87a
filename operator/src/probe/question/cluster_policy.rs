//! The question to a ClusterPolicy: a `GateQuestion` in the operator's own namespace
//! that has the policy's name. The policy's gate rule stamps its answer on it.

use kube::{Api, ResourceExt, api::PostParams};
use signingkeyring_core::{names, policy_ref::PolicyRef};
use signingkeyring_crds::{GateQuestion, GateQuestionSpec};

use super::read_error;
use crate::{
    context::Context,
    error::{brief, is_code},
    gate::Response,
};

/// Kyverno's webhooks for the policies that are not alone in one: with those,
/// pods fail too.
const KYVERNOS: [&str; 4] = [
    "mutate.kyverno.svc-fail",
    "mutate.kyverno.svc-ignore",
    "validate.kyverno.svc-fail",
    "validate.kyverno.svc-ignore",
];

/// Asks; nothing if the question passed without an answer.
pub(super) async fn ask(context: &Context, policy: PolicyRef) -> Option<Response> {
    let api: Api<GateQuestion> =
        Api::namespaced(context.client.clone(), &context.settings.namespace);
    let question = GateQuestion::new(&policy.to_string(), GateQuestionSpec::default());
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    match api.create(&dry_run, &question).await {
        Err(error) if is_code(&error, 409) => Some(Response::Unreadable(format!(
            "{}. Somebody has stored a question, which nobody needs: kubectl delete {} --all \
             --namespace {}",
            brief(&error),
            names::QUESTION_CRD,
            context.settings.namespace
        ))),
        Err(error) => Some(read_error(&error, |name| KYVERNOS.contains(&name))),
        Ok(answered) => {
            answered.annotations().get(names::ANNOTATION_GATE_ANSWER).map(|text| read_answer(text))
        }
    }
}

fn read_answer(text: &str) -> Response {
    match text.parse() {
        Ok(marks) => Response::Marks(marks),
        Err(error) => Response::Unreadable(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kyvernos(name: &str) -> bool {
        KYVERNOS.contains(&name)
    }

    fn error(message: &str) -> kube::Error {
        let status = kube::core::Status::failure(message, "InternalError").with_code(500);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn only_kyvernos_webhooks_make_the_gate_unreachable() {
        for (name, why) in [
            ("mutate.kyverno.svc-fail", "dial tcp 127.0.0.1:9443: connect: connection refused"),
            ("validate.kyverno.svc-fail", "no endpoints available for service"),
        ] {
            let text = format!("Internal error occurred: failed calling webhook \"{name}\": {why}");
            assert!(
                matches!(read_error(&error(&text), is_kyvernos), Response::Unreachable(_)),
                "{text}"
            );
        }
        for why in [
            "failed to call webhook: Post \"https://kyverno\": context deadline exceeded",
            "dial tcp 10.0.0.1:443: i/o timeout",
            "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
        ] {
            let name = "mutate.kyverno.svc-fail";
            let text = format!("Internal error occurred: failed calling webhook \"{name}\": {why}");
            assert!(matches!(read_error(&error(&text), is_kyvernos), Response::Slow(_)), "{text}");
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
            assert!(
                matches!(read_error(&error(other), is_kyvernos), Response::Unreadable(_)),
                "{other}"
            );
        }
    }
}
