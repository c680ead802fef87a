//! What Kyverno's webhooks for pods do not take.

use std::collections::BTreeMap;

use super::{Concerned, Omission, Seen, Selector};
use crate::policy_ref::Action;

/// A half of Kyverno. The mutating one verifies images; the validating one asks
/// whether that was done, and refuses what is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The one that verifies.
    Mutating,
    /// The one that looks at what came of it.
    Validating,
}

impl Half {
    /// The name of its webhook configuration.
    #[must_use]
    pub const fn configuration(self) -> &'static str {
        match self {
            Self::Mutating => "kyverno-resource-mutating-webhook-cfg",
            Self::Validating => "kyverno-resource-validating-webhook-cfg",
        }
    }

    /// The name of its webhook for policies with this action: Kyverno parts them
    /// by their failurePolicy.
    #[must_use]
    pub const fn webhook(self, action: Action) -> &'static str {
        match (self, action) {
            (Self::Mutating, Action::Enforce) => "mutate.kyverno.svc-fail",
            (Self::Mutating, Action::Audit) => "mutate.kyverno.svc-ignore",
            (Self::Validating, Action::Enforce) => "validate.kyverno.svc-fail",
            (Self::Validating, Action::Audit) => "validate.kyverno.svc-ignore",
        }
    }
}

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
        let halves = [Half::Mutating, Half::Validating];
        halves.iter().any(|half| {
            [Action::Enforce, Action::Audit].iter().any(|action| half.webhook(*action) == name)
        })
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

    fn foreign_conditions(&self) -> Vec<String> {
        let foreign = self.conditions.iter().filter(|c| c.expression != BOOTSTRAP);
        foreign.map(|condition| condition.name.clone()).collect()
    }
}

/// What the webhooks leave out that a ring's pods go through. Both halves have
/// the same settings as a rule, so what is the same is said once.
pub(super) fn omissions(seen: &Seen, ring: &Concerned) -> Vec<Omission> {
    let (mut found, mut hooks): (_, Vec<&Hook>) = (Vec::new(), Vec::new());
    for (half, look) in [(Half::Mutating, &seen.mutating), (Half::Validating, &seen.validating)] {
        let Ok(there) = look else { continue };
        let named = |action| {
            let name = half.webhook(action);
            there.iter().find(|hook| hook.name == name && hook.takes_pods())
        };
        match named(ring.action) {
            Some(hook) => hooks.push(hook),
            // As with Kyverno's --forceFailurePolicyIgnore.
            None if ring.action == Action::Enforce => match named(Action::Audit) {
                Some(hook) => hooks.push(hook),
                None => found.push(missing(half, ring.action)),
            },
            None => found.push(missing(half, ring.action)),
        }
    }
    let names = |hooks: Vec<&Hook>| hooks.into_iter().map(|hook| hook.name.clone()).collect();
    let ignored: Vec<&Hook> = hooks.iter().copied().filter(|hook| hook.is_ignored).collect();
    if ring.action == Action::Enforce && !ignored.is_empty() {
        found.push(Omission::Ignored { webhooks: names(ignored) });
    }
    for (selector, hooks) in by(&hooks, |hook| hook.objects.to_string()) {
        if hooks.iter().any(|hook| !hook.objects.is_empty()) {
            found.push(Omission::Objects { webhooks: names(hooks), selector });
        }
    }
    for (selector, hooks) in by(&hooks, |hook| hook.namespaces.to_string()) {
        let Some(first) = hooks.first() else { continue };
        let selects = |labels| first.namespaces.selects(labels);
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
    for (_, hooks) in by(&hooks, |hook| hook.foreign_conditions().join(",")) {
        let conditions = hooks.first().map(|hook| hook.foreign_conditions()).unwrap_or_default();
        if !conditions.is_empty() {
            found.push(Omission::Conditions { webhooks: names(hooks), conditions });
        }
    }
    found
}

const fn missing(half: Half, action: Action) -> Omission {
    Omission::Missing { half, webhook: half.webhook(action) }
}

/// Webhooks by what they have in common.
fn by<'a>(hooks: &[&'a Hook], what: impl Fn(&Hook) -> String) -> BTreeMap<String, Vec<&'a Hook>> {
    let mut groups: BTreeMap<String, Vec<&Hook>> = BTreeMap::new();
    for hook in hooks {
        groups.entry(what(hook)).or_default().push(hook);
    }
    groups
}
