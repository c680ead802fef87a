//! The guard (`manifests/guard`) as it is installed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::ResourceExt;
use signingkeyring_core::{guard::Found, names};

/// The label by which a namespace is named in a selector.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The parts of the guard, from its policies and from every binding of the cluster: one
/// needs no label to bind.
#[must_use]
pub fn found(
    policies: &[ValidatingAdmissionPolicy],
    bindings: Vec<ValidatingAdmissionPolicyBinding>,
) -> Vec<Found> {
    let mut all = Denied::new();
    for (policy, looked_in) in bindings.into_iter().filter_map(denied) {
        all.entry(policy).or_default().extend(looked_in);
    }
    policies.iter().map(|policy| read(policy, &all)).collect()
}

/// The policies that bindings have deny, each with the namespaces where these have it look
/// for what it goes by.
type Denied = BTreeMap<String, BTreeSet<String>>;

/// The policy that a binding has deny, everywhere, and where it has it look for what it
/// goes by.
fn denied(binding: ValidatingAdmissionPolicyBinding) -> Option<(String, Option<String>)> {
    let spec = binding.spec;
    let denies = spec.validation_actions.iter().any(|action| action == "Deny");
    let is_narrowed = spec.match_resources.is_some_and(|resources| {
        let everything = LabelSelector::default();
        let selectors = [resources.namespace_selector, resources.object_selector];
        let rules = [resources.resource_rules, resources.exclude_resource_rules];
        selectors.into_iter().flatten().any(|selector| selector != everything)
            || rules.into_iter().flatten().any(|rules| !rules.is_empty())
    });
    let looked_in = spec.param_ref.and_then(|params| params.namespace);
    (denies && !is_narrowed).then_some((spec.policy_name, looked_in))
}

fn read(policy: &ValidatingAdmissionPolicy, denied: &Denied) -> Found {
    let name = policy.name_any();
    let part = policy.labels().get(names::LABEL_COMPONENT).cloned().unwrap_or_default();
    let spec = policy.spec.clone().unwrap_or_default();
    let variables = spec.variables.iter().flatten();
    let texts = variables.filter_map(|variable| {
        let text = variable.expression.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        Some((variable.name.clone(), text.to_owned()))
    });
    let matches = spec.match_constraints.as_ref();
    let selector = matches.and_then(|matches| matches.namespace_selector.as_ref());
    let selected = selector.and_then(|selector| selector.match_labels.as_ref());
    let selected = selected.and_then(|labels| labels.get(NAMESPACE_NAME));
    let rules = matches.and_then(|matches| matches.resource_rules.as_ref());
    let named = rules.into_iter().flatten().flat_map(|rule| rule.resource_names.iter().flatten());
    let bound = denied.get(&name);
    let looked_in = bound.into_iter().flatten();
    Found {
        denies: bound.is_some(),
        fails_closed: spec.failure_policy.as_deref().is_none_or(|policy| policy == "Fail"),
        texts: texts.collect(),
        namespaces: selected.into_iter().chain(named).chain(looked_in).cloned().collect(),
        name,
        part,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn policy(name: &str, spec: &Value) -> ValidatingAdmissionPolicy {
        let labels = json!({names::LABEL_COMPONENT: "ledgers"});
        from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).unwrap()
    }

    fn binding(spec: &Value) -> ValidatingAdmissionPolicyBinding {
        from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_a_part_says_is_read_where_it_counts() {
        let spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "one"}},
                "resourceRules": [{"resourceNames": ["two"]}, {}],
            },
            "variables": [
                {"name": "enrolmentLabel", "expression": "'a/b'"},
                {"name": "before", "expression": "oldObject == null"},
                {"name": "odd", "expression": "'"},
            ],
        });
        let bound = [("p".to_owned(), ["three".to_owned()].into())].into();
        let found = read(&policy("p", &spec), &bound);
        assert_eq!(found.part, "ledgers");
        assert_eq!(found.texts, [("enrolmentLabel".to_owned(), "a/b".to_owned())].into());
        assert_eq!(found.namespaces, ["one", "three", "two"].map(str::to_owned).into());
        assert!(found.denies && found.fails_closed);
        let found = read(&policy("p", &json!({"failurePolicy": "Ignore"})), &Denied::new());
        assert!(!found.denies && !found.fails_closed);
    }

    #[test]
    fn a_binding_counts_that_denies_everywhere() {
        let of = |more: Value| {
            let mut spec = json!({"policyName": "p", "validationActions": ["Audit", "Deny"]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            denied(binding(&spec))
        };
        let denies = |looked_in: Option<&str>| Some(("p".to_owned(), looked_in.map(str::to_owned)));
        assert_eq!(of(json!({})), denies(None));
        let params = json!({"name": "c", "namespace": "n", "parameterNotFoundAction": "Allow"});
        assert_eq!(of(json!({"paramRef": params})), denies(Some("n")));
        // As the API server fills it in.
        let whole =
            json!({"namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent"});
        assert_eq!(of(json!({"matchResources": whole})), denies(None));
        assert_eq!(of(json!({"validationActions": ["Warn", "Audit"]})), None);
        let some = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
        assert_eq!(of(json!({"matchResources": some})), None);
        let some = json!({"excludeResourceRules": [{"resources": ["pods"]}]});
        assert_eq!(of(json!({"matchResources": some})), None);
    }
}
