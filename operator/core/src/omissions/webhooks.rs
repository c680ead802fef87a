//! What Kyverno's webhooks for pods do not take.

use std::collections::BTreeMap;

use super::{
    Concerned, Half, Omission, Seen, Selector,
    kinds::{is_webhook_of_ours, webhook},
};
use crate::{
    names,
    policy_ref::{Action, PolicyKind, PolicyRef},
};

/// A webhook, as far as it decides what Kyverno sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// The namespace of the Service that it calls, if it calls one.
    pub service_namespace: Option<String>,
    /// Whether its failures are ignored.
    pub is_ignored: bool,
    /// What it is called for.
    pub rules: Vec<Rule>,
    /// Which namespaces it takes.
    pub namespaces: Selector,
    /// Which objects it takes.
    pub objects: Selector,
    /// What else has to hold.
    pub conditions: Vec<Condition>,
}

/// What a webhook is called for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// API groups.
    pub groups: Vec<String>,
    /// Versions.
    pub versions: Vec<String>,
    /// `CREATE`, `UPDATE` and so on.
    pub operations: Vec<String>,
    /// Resources and subresources.
    pub resources: Vec<String>,
    /// Whether only objects without a namespace are meant.
    pub is_cluster_scoped: bool,
}

/// A matchCondition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// Its CEL expression.
    pub expression: String,
}

/// What Kyverno's `--excludeBootstrapResources` adds to each of its webhooks. It
/// says nothing about pods.
const BOOTSTRAP: &str = r#"!(request.resource.group == "" && request.resource.resource == "nodes") && !(request.resource.group == "certificates.k8s.io" && request.resource.resource == "certificatesigningrequests")"#;

impl Hook {
    /// Whether it is one of those through which pods go into this operator's policies.
    #[must_use]
    pub fn bears_on_pods(name: &str) -> bool {
        is_webhook_of_ours(name)
    }

    fn covers(&self, operation: &str, resource: &str) -> bool {
        let has = |list: &[String], words: &[&str]| {
            list.iter().any(|word| words.contains(&word.as_str()))
        };
        let wide = match resource {
            "pods" => ["*", "*/*", "*/*"],
            _ => ["pods/*", "*/*", "*/ephemeralcontainers"],
        };
        self.rules.iter().any(|rule| {
            !rule.is_cluster_scoped
                && has(&rule.groups, &["", "*"])
                && has(&rule.versions, &["v1", "*"])
                && has(&rule.operations, &[operation, "*"])
                && (has(&rule.resources, &[resource]) || has(&rule.resources, &wide))
        })
    }

    /// Whether it takes all requests in which images are verified.
    fn takes_pods(&self) -> bool {
        self.covers("CREATE", "pods")
            && self.covers("UPDATE", "pods")
            && self.covers("UPDATE", "pods/ephemeralcontainers")
    }

    /// The conditions that are neither Kyverno's nor the policy's.
    fn foreign_conditions(&self, policy: PolicyRef) -> Vec<String> {
        let own: &[&str] = match policy.kind() {
            PolicyKind::ClusterPolicy => &[],
            PolicyKind::ImageValidatingPolicy => &names::CONDITIONS,
        };
        let is_own = |name: &str| own.contains(&name);
        let foreign = self.conditions.iter();
        let foreign = foreign.filter(|c| c.expression != BOOTSTRAP && !is_own(&c.name));
        foreign.map(|condition| condition.name.clone()).collect()
    }

    /// Its namespaceSelector without what it has of the policy: whether that names the
    /// ring is asked by the gate.
    fn namespaces(&self, ring: &Concerned) -> Selector {
        match ring.policy.kind() {
            PolicyKind::ClusterPolicy => self.namespaces.clone(),
            PolicyKind::ImageValidatingPolicy => {
                self.namespaces.without_rings(&ring.enrolment_label)
            }
        }
    }
}

/// What the webhooks leave out that a ring's pods go through. Both halves have
/// the same settings as a rule, so what is the same is said once.
pub(super) fn omissions(seen: &Seen, ring: &Concerned) -> Vec<Omission> {
    let (mut found, mut hooks): (_, Vec<&Hook>) = (Vec::new(), Vec::new());
    for (half, look) in [(Half::Mutating, &seen.mutating), (Half::Validating, &seen.validating)] {
        let Ok(there) = look else { continue };
        let ignores = ring.policy.action() == Action::Audit;
        let Some(usual) = webhook(half, ring.policy, ignores) else { continue };
        let named = |name: &str| there.iter().find(|hook| hook.name == name && hook.takes_pods());
        // As with Kyverno's --forceFailurePolicyIgnore.
        let forced = || named(&webhook(half, ring.policy, true)?);
        match named(&usual).or_else(|| (!ignores).then(forced).flatten()) {
            Some(hook) => hooks.push(hook),
            None => {
                found.push(Omission::Missing { verifies: verifies(half, ring), webhook: usual });
            }
        }
    }
    let names = |hooks: Vec<&Hook>| hooks.into_iter().map(|hook| hook.name.clone()).collect();
    let ignored: Vec<&Hook> = hooks.iter().copied().filter(|hook| hook.is_ignored).collect();
    if ring.policy.action() == Action::Enforce && !ignored.is_empty() {
        found.push(Omission::Ignored { webhooks: names(ignored) });
    }
    for (selector, hooks) in by(&hooks, |hook| hook.objects.to_string()) {
        if hooks.iter().any(|hook| !hook.objects.is_empty()) {
            found.push(Omission::Objects { webhooks: names(hooks), selector });
        }
    }
    for (selector, hooks) in by(&hooks, |hook| hook.namespaces(ring).to_string()) {
        let Some(first) = hooks.first().map(|hook| hook.namespaces(ring)) else { continue };
        let selects = |labels| first.selects(labels);
        let left_out: Vec<String> = ring
            .namespaces
            .iter()
            .filter(|(_, labels)| selects(labels) == Some(false))
            .map(|(name, _)| name.clone())
            .collect();
        if !left_out.is_empty() {
            let (webhooks, selector) = (names(hooks.clone()), selector.clone());
            found.push(Omission::Namespaces { webhooks, selector, namespaces: left_out });
        }
        if ring.namespaces.values().any(|labels| selects(labels).is_none()) {
            found.push(Omission::Unclear { webhooks: names(hooks), selector });
        }
    }
    let foreign = |hook: &Hook| hook.foreign_conditions(ring.policy);
    for (_, hooks) in by(&hooks, |hook| foreign(hook).join(",")) {
        let conditions = hooks.first().map(|hook| foreign(hook)).unwrap_or_default();
        if !conditions.is_empty() {
            found.push(Omission::Conditions { webhooks: names(hooks), conditions });
        }
    }
    found
}

/// Whether images are verified in this half.
const fn verifies(half: Half, ring: &Concerned) -> bool {
    matches!(
        (ring.policy.kind(), half),
        (PolicyKind::ClusterPolicy, Half::Mutating)
            | (PolicyKind::ImageValidatingPolicy, Half::Validating)
    )
}

/// Webhooks by what they have in common.
fn by<'a>(hooks: &[&'a Hook], what: impl Fn(&Hook) -> String) -> BTreeMap<String, Vec<&'a Hook>> {
    let mut groups: BTreeMap<String, Vec<&Hook>> = BTreeMap::new();
    for hook in hooks {
        groups.entry(what(hook)).or_default().push(hook);
    }
    groups
}
