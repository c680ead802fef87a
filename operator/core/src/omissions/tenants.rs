//! Policies and exceptions of others that bear on what is verified, read from
//! their specs as they stand in the cluster.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Accepted, Concerned, Omission,
    settings::{fits_pods, parse_kind},
    wildcard::fits,
};
use crate::policy_ref::PolicyRef;

/// A policy of a namespace that may change pods, or what Kyverno sees of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicy {
    namespace: String,
    name: String,
    /// Whether Kyverno verifies after it all the same, for all that is known.
    is_followed: bool,
}

impl TenantPolicy {
    /// Reads a Policy of Kyverno's; nothing if it bears on no pod's images. One that
    /// mutates pods can run after Kyverno has verified them, in its other webhook.
    #[must_use]
    pub fn of_policy(namespace: &str, name: &str, spec: &Value) -> Option<Self> {
        if spec.get("admission") == Some(&Value::Bool(false)) {
            return None;
        }
        let rules = spec.get("rules").and_then(Value::as_array);
        rules.into_iter().flatten().any(bears_on_images).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_followed: false,
        })
    }

    /// Reads a NamespacedMutatingPolicy; nothing if it changes no pods.
    #[must_use]
    pub fn of_mutating_policy(namespace: &str, name: &str, spec: &Value) -> Option<Self> {
        let rules = spec.pointer("/matchConstraints/resourceRules").and_then(Value::as_array);
        let mut resources =
            rules.into_iter().flatten().filter_map(|rule| rule.get("resources")?.as_array());
        let is_pods = |resource: &Value| {
            let name = resource.as_str().unwrap_or("*");
            name == "*" || name == "*/*" || name == "pods" || name.starts_with("pods/")
        };
        resources.any(|names| names.iter().any(is_pods)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_followed: true,
        })
    }

    fn omission(&self, accepted: &Accepted) -> Option<Omission> {
        let policy = format!("policy:{}/{}", self.namespace, self.name);
        if accepted.has(&policy) {
            return None;
        }
        Some(match self.is_followed {
            true => Omission::MayChange { policy },
            false => Omission::Changed { policy },
        })
    }
}

/// Such policies by their namespace: a cluster may have many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPolicies(Arc<BTreeMap<String, Vec<TenantPolicy>>>);

impl TenantPolicies {
    pub(super) fn omissions(&self, accepted: &Accepted, ring: &Concerned) -> Vec<Omission> {
        let here = ring.namespaces.keys().filter_map(|namespace| self.0.get(namespace)).flatten();
        here.filter_map(|policy| policy.omission(accepted)).collect()
    }
}

impl FromIterator<TenantPolicy> for TenantPolicies {
    fn from_iter<I: IntoIterator<Item = TenantPolicy>>(policies: I) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<TenantPolicy>> = BTreeMap::new();
        for policy in policies {
            by_namespace.entry(policy.namespace.clone()).or_default().push(policy);
        }
        Self(Arc::new(by_namespace))
    }
}

/// Whether a rule may change pods, or which of their images Kyverno shows to
/// policies that it asks later.
fn bears_on_images(rule: &Value) -> bool {
    let is_there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let mutate = rule.get("mutate").filter(|mutate| !mutate.is_null());
    // One with targets changes what is in the cluster, and that is verified.
    let mutates = mutate.is_some_and(|mutate| {
        mutate.get("targets").and_then(Value::as_array).is_none_or(Vec::is_empty)
    });
    let extracts = is_there(rule.get("verifyImages")) && is_there(rule.get("imageExtractors"));
    (mutates || extracts) && may_match_pods(rule.get("match"))
}

fn may_match_pods(matches: Option<&Value>) -> bool {
    let Some(matches) = matches else { return true };
    let list = |key: &str| matches.get(key).and_then(Value::as_array).filter(|l| !l.is_empty());
    match (list("any"), list("all")) {
        (Some(any), _) => any.iter().any(names_pods),
        (None, Some(all)) => all.iter().all(names_pods),
        (None, None) => names_pods(matches),
    }
}

/// Whether a filter names pods, or no kinds at all.
fn names_pods(filter: &Value) -> bool {
    let kinds = filter.pointer("/resources/kinds").and_then(Value::as_array);
    kinds.is_none_or(|kinds| {
        let mut kinds = kinds.iter();
        kinds.any(|kind| kind.as_str().is_none_or(|kind| fits_pods(kind) || is_of_pods(kind)))
    })
}

/// Another subresource of pods.
fn is_of_pods(kind: &str) -> bool {
    parse_kind(kind).is_none_or(|[_, _, kind, _]| fits(kind, "Pod"))
}

/// A PolicyException that names policies of this operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyException {
    namespace: String,
    name: String,
    /// Policies, and the patterns of their rules.
    names: Vec<(PolicyRef, Vec<String>)>,
}

impl PolicyException {
    /// Reads one of `kyverno.io`; nothing if it names no policy of this operator's.
    /// Those of `policies.kyverno.io` do not reach ClusterPolicies.
    #[must_use]
    pub fn read(namespace: &str, name: &str, spec: &Value) -> Option<Self> {
        let entries = spec.get("exceptions").and_then(Value::as_array)?.iter();
        let entries = entries.filter_map(|entry| {
            let policy = entry.get("policyName")?.as_str()?.parse().ok()?;
            let rules = entry.get("ruleNames").and_then(Value::as_array);
            let rules = rules.into_iter().flatten().filter_map(Value::as_str);
            Some((policy, rules.map(str::to_owned).collect()))
        });
        let names: Vec<(PolicyRef, Vec<String>)> = entries.collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        (!names.is_empty()).then_some(Self { namespace, name, names })
    }

    pub(super) fn omission(&self, accepted: &Accepted, ring: &Concerned) -> Option<Omission> {
        let exception = format!("exception:{}/{}", self.namespace, self.name);
        if accepted.has(&exception) {
            return None;
        }
        let (policy, _) = self.names.iter().find(|(policy, patterns)| {
            let rules = ring.rules.get(policy).into_iter().flatten();
            let mut pairs = rules.flat_map(|rule| patterns.iter().map(move |p| (p, rule)));
            pairs.any(|(pattern, rule)| fits(pattern, rule))
        })?;
        Some(Omission::Excepted { exception, policy: *policy })
    }
}
