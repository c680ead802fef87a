//! What Kyverno's webhook configurations say of a question that passed without
//! an answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
        },
        core::v1::Namespace,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt,
    core::{Selector, SelectorExt},
};
use signingkeyring_core::{
    names,
    policy_ref::{Action, PolicyKind, PolicyRef},
    snapshot::Silence,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{context::Context, error::brief, gate::Response};

/// How long the API server may take to show them.
const PATIENCE: Duration = Duration::from_secs(10);

/// The names that Kyverno gives them.
const MUTATING: &str = "kyverno-resource-mutating-webhook-cfg";
const VALIDATING: &str = "kyverno-resource-validating-webhook-cfg";

/// Kyverno's webhook configurations as they were seen last, so that many silent
/// policies do not read them each.
#[derive(Debug, Default)]
pub(super) struct Webhooks(Mutex<Option<Look>>);

/// When it was looked, and what was seen, or why nothing was.
type Look = (Instant, Result<Arc<Seen>, String>);

#[derive(Clone, Debug, Default)]
struct Seen {
    mutating: Vec<Hook>,
    validating: Vec<Hook>,
    /// The labels of the operator's namespace.
    labels: BTreeMap<String, String>,
    /// Those of the namespace where policies with a webhook of their own are asked, if
    /// it is labelled so that these select it.
    probe: Option<BTreeMap<String, String>>,
}

/// What both kinds of webhooks have.
#[derive(Clone, Debug, Default)]
struct Hook {
    name: String,
    rules: Vec<RuleWithOperations>,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
    has_conditions: bool,
}

impl Webhooks {
    /// Says what is known when a question to a policy, asked at this time, passed
    /// without an answer.
    pub(super) async fn explain_silence(
        &self,
        context: &Context,
        policy: PolicyRef,
        asked: Instant,
    ) -> Response {
        let mut last = self.0.lock().await;
        let seen = match &*last {
            Some((at, seen)) if *at >= asked => seen.clone(),
            _ => {
                let at = Instant::now();
                // Others wait for this look.
                let seen = match timeout(PATIENCE, look(context)).await {
                    Ok(seen) => seen.map(Arc::new).map_err(|error| brief(&error)),
                    Err(_) => Err(format!("no answer within {}s", PATIENCE.as_secs())),
                };
                *last = Some((at, seen.clone()));
                seen
            }
        };
        match seen {
            Ok(seen) => match policy.kind() {
                PolicyKind::ClusterPolicy => explain(&seen, policy.action()),
                PolicyKind::ImageValidatingPolicy => explain_own(&seen, policy),
            },
            Err(text) => Response::Silent(Silence::NotSeen(text)),
        }
    }
}

async fn look(context: &Context) -> Result<Seen, kube::Error> {
    let client = || context.client.clone();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client());
    let mutating = mutating.get_opt(MUTATING).await?;
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client());
    let validating = validating.get_opt(VALIDATING).await?;
    let namespaces: Api<Namespace> = Api::all(client());
    let settings = &context.settings;
    let namespace = namespaces.get_metadata_opt(&settings.namespace).await?;
    let probe = namespaces.get_metadata_opt(&settings.probe_namespace).await?;
    let probe = probe.map(|namespace| namespace.labels().clone());
    let mutating = mutating.and_then(|found| found.webhooks).unwrap_or_default().into_iter();
    let validating = validating.and_then(|found| found.webhooks).unwrap_or_default().into_iter();
    Ok(Seen {
        mutating: mutating
            .map(|hook| Hook {
                name: hook.name,
                rules: hook.rules.unwrap_or_default(),
                namespaces: hook.namespace_selector,
                objects: hook.object_selector,
                has_conditions: hook.match_conditions.is_some_and(|c| !c.is_empty()),
            })
            .collect(),
        validating: validating
            .map(|hook| Hook {
                name: hook.name,
                rules: hook.rules.unwrap_or_default(),
                namespaces: hook.namespace_selector,
                objects: hook.object_selector,
                has_conditions: hook.match_conditions.is_some_and(|c| !c.is_empty()),
            })
            .collect(),
        labels: namespace.map(|namespace| namespace.labels().clone()).unwrap_or_default(),
        probe: probe.filter(|labels| {
            labels.get(&settings.enrolment_label).is_some_and(|value| value == names::PROBE)
        }),
    })
}

/// Where each policy has a webhook of its own: without it nothing is verified in the
/// policy's namespaces. Kyverno writes it when it has loaded the policy.
fn explain_own(seen: &Seen, policy: PolicyRef) -> Response {
    let names = [false, true].map(|ignored| policy.own_webhook(ignored));
    match seen.validating.iter().find(|hook| names.iter().flatten().any(|name| *name == hook.name))
    {
        None if seen.validating.is_empty() => Response::Open,
        None => Response::Silent(Silence::NoWebhook),
        Some(hook) => Response::Silent(match &seen.probe {
            None => Silence::Unlabelled,
            // Kyverno adds what its ConfigMap says to what the policy selects.
            Some(probe) if !selects(hook.namespaces.as_ref(), probe) => {
                Silence::LeftOut("namespaceSelector")
            }
            Some(_) if !selects(hook.objects.as_ref(), &BTreeMap::new()) => {
                Silence::LeftOut("objectSelector")
            }
            Some(_) => Silence::Passed,
        }),
    }
}

/// Open is said only where Kyverno sees no pod at all. Where it sees pods and let
/// the question pass, it may have verified them all the same.
fn explain(seen: &Seen, action: Action) -> Response {
    let sees_pods = |hook: &Hook| hook.rules.iter().any(|rule| covers(rule, "", "pods"));
    if !seen.mutating.iter().chain(&seen.validating).any(sees_pods) {
        return Response::Open;
    }
    let name = match action {
        Action::Enforce => "mutate.kyverno.svc-fail",
        Action::Audit => "mutate.kyverno.svc-ignore",
    };
    let asks = |rule: &RuleWithOperations| covers(rule, names::GROUP, names::QUESTION_PLURAL);
    let hook = seen.mutating.iter().find(|hook| hook.name == name && hook.rules.iter().any(asks));
    let nothing = BTreeMap::new();
    Response::Silent(match hook {
        None => Silence::NoWebhook,
        Some(hook) if !selects(hook.namespaces.as_ref(), &seen.labels) => {
            Silence::LeftOut("namespaceSelector")
        }
        Some(hook) if !selects(hook.objects.as_ref(), &nothing) => {
            Silence::LeftOut("objectSelector")
        }
        Some(hook) if hook.has_conditions => Silence::LeftOut("matchConditions"),
        Some(_) => Silence::Passed,
    })
}

/// Whether a rule covers the creation of objects of a resource.
fn covers(rule: &RuleWithOperations, group: &str, resource: &str) -> bool {
    let has = |list: &Option<Vec<String>>, words: &[&str]| {
        list.iter().flatten().any(|word| words.contains(&word.as_str()))
    };
    has(&rule.api_groups, &[group, "*"])
        && has(&rule.resources, &[resource, "*", "*/*"])
        && has(&rule.operations, &["CREATE", "*"])
}

/// Whether a selector selects an object with these labels; one that cannot be
/// read does not for all that is known.
fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const NAME: &str = "mutate.kyverno.svc-fail";

    fn hook(name: &str, groups: &[&str], resources: &[&str], more: &Value) -> Hook {
        let rules = groups.iter().zip(resources).map(|(group, resource)| RuleWithOperations {
            api_groups: Some(vec![(*group).to_owned()]),
            operations: Some(vec!["CREATE".to_owned()]),
            resources: Some(vec![(*resource).to_owned()]),
            ..RuleWithOperations::default()
        });
        Hook {
            name: name.to_owned(),
            rules: rules.collect(),
            namespaces: from_value(more["namespaces"].clone()).unwrap(),
            objects: from_value(more["objects"].clone()).unwrap(),
            has_conditions: more["conditions"] == true,
        }
    }

    /// With which pods and questions come to Kyverno.
    fn whole(more: &Value) -> Hook {
        hook(NAME, &["", names::GROUP], &["pods", names::QUESTION_PLURAL], more)
    }

    fn said(mutating: Vec<Hook>, validating: Vec<Hook>) -> Response {
        let name = "kubernetes.io/metadata.name";
        let labels = [(name.to_owned(), "signing-system".to_owned())].into();
        explain(&Seen { mutating, validating, labels, ..Seen::default() }, Action::Enforce)
    }

    #[test]
    fn the_gate_is_open_only_if_kyverno_sees_no_pods() {
        assert_eq!(said(vec![], vec![]), Response::Open);
        let others = || hook(NAME, &[""], &["configmaps"], &Value::Null);
        assert_eq!(said(vec![others()], vec![others()]), Response::Open);
        let pods = || hook("validate.kyverno.svc-fail", &[""], &["pods"], &Value::Null);
        let silent = Response::Silent(Silence::NoWebhook);
        assert_eq!(said(vec![], vec![pods()]), silent);
        assert_eq!(said(vec![others()], vec![pods()]), silent);
        let all = hook("validate.kyverno.svc-fail", &["*"], &["*/*"], &Value::Null);
        assert_eq!(said(vec![], vec![all]), silent);
    }

    #[test]
    fn a_question_that_should_have_come_to_kyverno_tells_nothing() {
        let silent = Response::Silent(Silence::Passed);
        assert_eq!(said(vec![whole(&Value::Null)], vec![]), silent);
        let chart = json!({"namespaces": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kyverno"]},
        ]}, "objects": {}});
        assert_eq!(said(vec![whole(&chart)], vec![]), silent);
    }

    #[test]
    fn what_leaves_the_question_out_is_named() {
        for (more, field) in [
            (
                json!({"namespaces": {"matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "NotIn",
                    "values": ["signing-system"],
                }]}}),
                "namespaceSelector",
            ),
            (json!({"namespaces": {"matchLabels": {"verified": "yes"}}}), "namespaceSelector"),
            (
                json!({"namespaces": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
                "namespaceSelector",
            ),
            (json!({"objects": {"matchLabels": {"verified": "yes"}}}), "objectSelector"),
            (json!({"conditions": true}), "matchConditions"),
        ] {
            let silent = Response::Silent(Silence::LeftOut(field));
            assert_eq!(said(vec![whole(&more)], vec![]), silent, "{more}");
        }
    }

    #[test]
    fn the_webhook_of_the_other_action_is_another() {
        let ignoring = Hook { name: "mutate.kyverno.svc-ignore".to_owned(), ..whole(&Value::Null) };
        let seen = Seen { mutating: vec![ignoring], ..Seen::default() };
        assert_eq!(explain(&seen, Action::Enforce), Response::Silent(Silence::NoWebhook));
        assert_eq!(explain(&seen, Action::Audit), Response::Silent(Silence::Passed));
    }

    #[test]
    fn what_keeps_questions_from_a_policys_own_webhook_is_named() {
        let policy = PolicyRef::new(Action::Enforce, 1).of_kind(PolicyKind::ImageValidatingPolicy);
        let name = ("kubernetes.io/metadata.name".to_owned(), "probe".to_owned());
        let probe = || Some(BTreeMap::from([name.clone()]));
        let selector = |operator: &str| {
            let all = json!([{"key": name.0, "operator": operator, "values": ["probe"]}]);
            Some(from_value(json!({"matchExpressions": all})).unwrap())
        };
        let silence = |operator: &str, probe| {
            let name = policy.own_webhook(false).unwrap();
            let hook = Hook { name, namespaces: selector(operator), ..Hook::default() };
            explain_own(&Seen { validating: vec![hook], probe, ..Seen::default() }, policy)
        };
        let left_out = Response::Silent(Silence::LeftOut("namespaceSelector"));
        assert_eq!(silence("NotIn", probe()), left_out);
        assert_eq!(silence("In", probe()), Response::Silent(Silence::Passed));
        // Then it is the namespace that is not fit, and nothing is said of Kyverno.
        let unlabelled = Response::Silent(Silence::Unlabelled);
        assert_eq!(silence("NotIn", None), unlabelled);
        assert_eq!(silence("In", None), unlabelled);
    }
}
