//! Policies and exceptions of others that bear on what is verified, read from
//! their specs as they stand in the cluster.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Accepted, Concerned, Omission, TenantKind,
    settings::{fits_pods, parse_kind},
    wildcard::fits,
};
use crate::policy_ref::{PolicyKind, PolicyRef};

/// A policy of a namespace that may change pods, what Kyverno sees of them, or what
/// else there is to bear on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicy {
    namespace: String,
    name: String,
    kind: TenantKind,
    effect: Effect,
}

/// What a policy may do to the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It changes pods after Kyverno has verified them, in its other webhook.
    Changes,
    /// It changes pods, and Kyverno verifies after it, for all that is known.
    MayChange,
    /// It has Kyverno create objects, by Kyverno's rights.
    MayCreate,
    /// It verifies images as well, and both verdicts have to be good.
    Adds,
    /// The API server takes no webhook that is written for it, and Kyverno writes all of
    /// them or none.
    Unwritable,
}

impl TenantPolicy {
    /// Reads one by its kind and spec; nothing if it bears on no pod's images.
    #[must_use]
    pub fn read(kind: TenantKind, namespace: &str, name: &str, spec: &Value) -> Option<Self> {
        let effect = match kind {
            TenantKind::Policy => effect_of_rules(spec)?,
            TenantKind::NamespacedMutatingPolicy => {
                takes_pods(spec).then_some(Effect::MayChange)?
            }
            TenantKind::NamespacedGeneratingPolicy => Effect::MayCreate,
            TenantKind::NamespacedImageValidatingPolicy if is_unwritable(spec) => {
                Effect::Unwritable
            }
            TenantKind::NamespacedImageValidatingPolicy => Effect::Adds,
            TenantKind::NamespacedValidatingPolicy => {
                is_unwritable(spec).then_some(Effect::Unwritable)?
            }
        };
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), kind, effect })
    }

    fn omission(&self, accepted: &Accepted, ring: &Concerned) -> Option<Omission> {
        let policy = format!("policy:{}/{}", self.namespace, self.name);
        let kind = self.kind;
        let changes = matches!(self.effect, Effect::Changes | Effect::MayChange);
        if changes && ring.policy.kind().verifies_last() {
            return None;
        }
        (!accepted.has(&policy)).then_some(match self.effect {
            Effect::Changes => Omission::Changed { policy },
            Effect::MayChange => Omission::MayChange { policy },
            Effect::MayCreate => Omission::MayCreate { kind, policy },
            Effect::Adds => Omission::Adds { kind, policy },
            Effect::Unwritable => Omission::Unwritable { kind, policy },
        })
    }
}

/// What a Policy does, by its rules.
fn effect_of_rules(spec: &Value) -> Option<Effect> {
    let rules = || spec.get("rules").and_then(Value::as_array).into_iter().flatten();
    // Without admission it works on what is there already.
    let admits = spec.get("admission") != Some(&Value::Bool(false));
    if admits && rules().any(bears_on_images) {
        return Some(Effect::Changes);
    }
    rules().any(may_create_policies).then_some(Effect::MayCreate)
}

/// Whether a policy of the newer kinds is asked about pods.
fn takes_pods(spec: &Value) -> bool {
    let rules = spec.pointer("/matchConstraints/resourceRules").and_then(Value::as_array);
    let mut resources =
        rules.into_iter().flatten().filter_map(|rule| rule.get("resources")?.as_array());
    let is_pods = |resource: &Value| {
        let name = resource.as_str().unwrap_or("*");
        name == "*" || name == "*/*" || name == "pods" || name.starts_with("pods/")
    };
    resources.any(|names| names.iter().any(is_pods))
}

/// Whether a policy of the newer kinds asks for what Kyverno accepts, and the API server
/// does not accept of a webhook: `*` beside others, nothing at all, or a time-out of no
/// second or of more than thirty.
fn is_unwritable(spec: &Value) -> bool {
    let rules = spec.pointer("/matchConstraints/resourceRules").and_then(Value::as_array);
    let is_bad = |rule: &Value| {
        let mut all_but_resources = ["apiGroups", "apiVersions", "operations"].into_iter();
        all_but_resources.any(|key| words(rule, key).is_some_and(|words| is_mixed(&words)))
            || words(rule, "resources").is_some_and(|resources| are_mixed_resources(&resources))
    };
    let has_bad_rule = rules.into_iter().flatten().any(is_bad);
    let timeout = spec.pointer("/webhookConfiguration/timeoutSeconds").and_then(Value::as_i64);
    has_bad_rule || timeout.is_some_and(|seconds| !(1..=30).contains(&seconds))
}

/// The texts of a rule's list.
fn words<'a>(rule: &'a Value, key: &str) -> Option<Vec<&'a str>> {
    Some(rule.get(key)?.as_array()?.iter().filter_map(Value::as_str).collect())
}

/// Whether there are none, or others beside a `*`.
fn is_mixed(words: &[&str]) -> bool {
    words.is_empty() || (words.len() > 1 && words.contains(&"*"))
}

/// Whether resources are named beside a `*` that includes them.
fn are_mixed_resources(resources: &[&str]) -> bool {
    let has = |name: &str| resources.contains(&name);
    let is_covered = |name: &&str| {
        let (resource, subresource) = name.split_once('/').unwrap_or((*name, ""));
        match (resource, subresource) {
            ("*", "") | (_, "*") => false,
            (_, "") => has("*"),
            (resource, subresource) => {
                let of_all = format!("*/{subresource}");
                has(&format!("{resource}/*")) || (resource != "*" && has(&of_all))
            }
        }
    };
    let all = has("*/*") && resources.len() > 1;
    resources.is_empty() || all || resources.iter().any(is_covered)
}

/// Such policies by their namespace: a cluster may have many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPolicies {
    by_namespace: Arc<BTreeMap<String, Vec<TenantPolicy>>>,
    /// Those that bear on every ring, wherever they are.
    everywhere: Arc<Vec<TenantPolicy>>,
}

impl TenantPolicies {
    pub(super) fn omissions(&self, accepted: &Accepted, ring: &Concerned) -> Vec<Omission> {
        let here = ring.namespaces.keys().filter_map(|name| self.by_namespace.get(name)).flatten();
        let all = here.chain(self.everywhere.iter());
        all.filter_map(|policy| policy.omission(accepted, ring)).collect()
    }
}

impl FromIterator<TenantPolicy> for TenantPolicies {
    fn from_iter<I: IntoIterator<Item = TenantPolicy>>(policies: I) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<TenantPolicy>> = BTreeMap::new();
        let mut everywhere = Vec::new();
        for policy in policies {
            match policy.effect {
                Effect::Unwritable => everywhere.push(policy),
                _ => by_namespace.entry(policy.namespace.clone()).or_default().push(policy),
            }
        }
        Self { by_namespace: Arc::new(by_namespace), everywhere: Arc::new(everywhere) }
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

/// Whether a rule generates what may be policies or exceptions of Kyverno's: of its
/// own namespace, but by Kyverno's own rights.
fn may_create_policies(rule: &Value) -> bool {
    let generate = rule.get("generate");
    let each = generate.and_then(|generate| generate.get("foreach")?.as_array());
    let mut sources = generate.into_iter().chain(each.into_iter().flatten());
    sources.any(|source| {
        let cloned = source.pointer("/cloneList/kinds").and_then(Value::as_array);
        let mut kinds = source.get("kind").into_iter().chain(cloned.into_iter().flatten());
        // A variable may be any kind.
        kinds.any(|kind| {
            kind.as_str().is_none_or(|kind| kind.contains("Policy") || kind.contains("{{"))
        })
    })
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

/// A PolicyException of `policies.kyverno.io`: it excepts from kinds of that group, in
/// every namespace, and does not reach ClusterPolicies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherException {
    namespace: String,
    name: String,
    /// The policies of this operator's that it names, each with the kind that it says.
    names: Vec<(PolicyRef, String)>,
}

impl OtherException {
    /// Reads one.
    #[must_use]
    pub fn read(namespace: &str, name: &str, spec: &Value) -> Self {
        let entries = spec.get("policyRefs").and_then(Value::as_array);
        let names = entries.into_iter().flatten().filter_map(|entry| {
            let policy = entry.get("name")?.as_str()?.parse().ok()?;
            Some((policy, entry.get("kind")?.as_str()?.to_owned()))
        });
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { namespace, name, names: names.collect() }
    }

    pub(super) fn omission(&self, accepted: &Accepted, ring: &Concerned) -> Option<Omission> {
        let exception = format!("exception:{}/{}", self.namespace, self.name);
        let reaches = ring.policy.kind() == PolicyKind::ImageValidatingPolicy;
        if reaches {
            let kind = ring.policy.kind().as_str();
            let mut names = self.names.iter();
            // Kyverno goes by both.
            let is_named = names.any(|(policy, of)| *policy == ring.policy && of == kind);
            return (is_named && !accepted.has(&exception))
                .then_some(Omission::Excepted { exception, policy: ring.policy });
        }
        let concerns = ring.namespaces.contains_key(&self.namespace)
            || self.names.iter().any(|(policy, _)| ring.rules.contains_key(policy));
        (concerns && !accepted.has(&exception)).then_some(Omission::ExceptsOthers { exception })
    }
}
