//! From the API's webhooks to what of them decides which pods Kyverno sees.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhookConfiguration, RuleWithOperations,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use signingkeyring_core::omissions::{Condition, Hook, Requirement, Rule, Selector};

/// Those of a mutating configuration by which pods come to the operator's policies.
#[must_use]
pub fn mutating(configuration: MutatingWebhookConfiguration) -> Vec<Hook> {
    let hooks = configuration.webhooks.unwrap_or_default().into_iter();
    hooks
        .filter(|hook| Hook::bears_on_pods(&hook.name))
        .map(|hook| Hook {
            name: hook.name,
            service_namespace: service(hook.client_config),
            is_ignored: hook.failure_policy.as_deref() == Some("Ignore"),
            rules: rules(hook.rules),
            namespaces: selector(hook.namespace_selector),
            objects: selector(hook.object_selector),
            conditions: conditions(hook.match_conditions),
        })
        .collect()
}

/// Those of a validating one.
#[must_use]
pub fn validating(configuration: ValidatingWebhookConfiguration) -> Vec<Hook> {
    let hooks = configuration.webhooks.unwrap_or_default().into_iter();
    hooks
        .filter(|hook| Hook::bears_on_pods(&hook.name))
        .map(|hook| Hook {
            name: hook.name,
            service_namespace: service(hook.client_config),
            is_ignored: hook.failure_policy.as_deref() == Some("Ignore"),
            rules: rules(hook.rules),
            namespaces: selector(hook.namespace_selector),
            objects: selector(hook.object_selector),
            conditions: conditions(hook.match_conditions),
        })
        .collect()
}

fn service(config: WebhookClientConfig) -> Option<String> {
    config.service.map(|service| service.namespace)
}

fn rules(rules: Option<Vec<RuleWithOperations>>) -> Vec<Rule> {
    let rules = rules.unwrap_or_default().into_iter();
    rules
        .map(|rule| Rule {
            groups: rule.api_groups.unwrap_or_default(),
            versions: rule.api_versions.unwrap_or_default(),
            operations: rule.operations.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            is_cluster_scoped: rule.scope.as_deref() == Some("Cluster"),
        })
        .collect()
}

fn selector(selector: Option<LabelSelector>) -> Selector {
    let LabelSelector { match_labels, match_expressions } = selector.unwrap_or_default();
    let labels = match_labels.unwrap_or_default().into_iter().map(|(key, value)| Requirement {
        key,
        operator: "In".to_owned(),
        values: vec![value],
    });
    let expressions = match_expressions.unwrap_or_default().into_iter();
    let expressions = expressions.map(|wanted| Requirement {
        key: wanted.key,
        operator: wanted.operator,
        values: wanted.values.unwrap_or_default(),
    });
    Selector(labels.chain(expressions).collect())
}

fn conditions(conditions: Option<Vec<MatchCondition>>) -> Vec<Condition> {
    let conditions = conditions.unwrap_or_default().into_iter();
    conditions
        .map(|condition| Condition { name: condition.name, expression: condition.expression })
        .collect()
}
