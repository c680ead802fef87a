//! Omissions in sentences: the operator and its plugin say the same.

use super::{Half, Omission, Subject, TenantKind};

/// So many of a kind are named.
const NAMED: usize = 5;

impl Omission {
    /// What it is and what to do about it, in a sentence. `enforces` says whether the ring
    /// refuses, or only reports.
    #[must_use]
    pub fn says(&self, enforces: bool) -> String {
        sentence(self, enforces)
    }
}

impl Subject {
    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhooks(Half::Mutating) => Half::Mutating.configuration(),
            Self::Webhooks(Half::Validating) => Half::Validating.configuration(),
            Self::Settings => "Kyverno's ConfigMap",
            Self::Policies(TenantKind::Policy) => "Policies of namespaces",
            Self::Policies(TenantKind::NamespacedMutatingPolicy) => "NamespacedMutatingPolicies",
            Self::Policies(TenantKind::NamespacedGeneratingPolicy) => {
                "NamespacedGeneratingPolicies"
            }
            Self::Policies(TenantKind::NamespacedImageValidatingPolicy) => {
                "NamespacedImageValidatingPolicies"
            }
            Self::Policies(TenantKind::NamespacedValidatingPolicy) => {
                "NamespacedValidatingPolicies"
            }
            Self::Exceptions => "PolicyExceptions",
            Self::OtherExceptions => "PolicyExceptions of policies.kyverno.io",
        }
    }
}

fn sentence(omission: &Omission, enforces: bool) -> String {
    let unchecked = if enforces { "not verified" } else { "not reported" };
    match omission {
        Omission::Missing { verifies: true, webhook } => format!(
            "Kyverno's webhook {webhook} for pods, by which images are verified, is not there or \
             does not take all of them: look at the logs of its admission controller, or restart it"
        ),
        Omission::Missing { verifies: false, webhook } => format!(
            "Kyverno's webhook {webhook} for pods is not there or does not take all of them: \
             images that are no reference, and what a later webhook puts into a pod, are not \
             refused. Look at the logs of Kyverno's admission controller, or restart it"
        ),
        Omission::Ignored { webhooks } => format!(
            "pods are admitted unverified whenever {} fails or does not answer, because its \
             failurePolicy is Ignore: start Kyverno without --forceFailurePolicyIgnore, and let \
             it write its webhook configurations",
            webhooks.join(" or ")
        ),
        Omission::Objects { webhooks, selector } => format!(
            "pods that the objectSelector {selector} of {} does not select are {unchecked} in any \
             namespace, and who creates a pod writes its labels: take it out of webhooks in \
             Kyverno's ConfigMap",
            webhooks.join(" and ")
        ),
        Omission::Namespaces { webhooks, selector, namespaces } => format!(
            "pods are {unchecked} in {}, which the namespaceSelector {selector} of {} leaves out: \
             correct webhooks in Kyverno's ConfigMap, or the namespace's labels",
            listed(namespaces),
            webhooks.join(" and ")
        ),
        Omission::Filtered { filter, namespaces } => format!(
            "pods are {unchecked} in {}, as far as {filter} of resourceFilters in Kyverno's \
             ConfigMap fits them: take it out",
            listed(namespaces)
        ),
        Omission::Excluded { who } => format!(
            "pods of {} are {unchecked}, because Kyverno's ConfigMap excludes who creates or \
             changes them: take that out, or accept each by the operator's --accept-exclusions, \
             such as --accept-exclusions={}",
            listed(who),
            who.first().map(String::as_str).unwrap_or_default()
        ),
        Omission::Excepted { exception, policy } => format!(
            "{} names the ring's rule in policy {policy}, so that what it matches is \
             {unchecked} where Kyverno heeds exceptions (its flags enablePolicyException and \
             exceptionNamespace): delete it, or start the operator with \
             --accept-exclusions={exception}",
            object(exception)
        ),
        Omission::Changed { policy } => format!(
            "{} may change pods, or the images that Kyverno sees in them, after others were \
             verified: delete it, or start the operator with --accept-exclusions={policy}",
            object(policy)
        ),
        Omission::Conditions { webhooks, conditions } => format!(
            "whether pods are left out cannot be told: the matchConditions {} of {} are not this \
             operator's to judge",
            listed(conditions),
            webhooks.join(" and ")
        ),
        Omission::Unclear { webhooks, selector } => format!(
            "whether namespaces are left out cannot be told: the namespaceSelector {selector} of \
             {} has an operator that is not known here",
            webhooks.join(" and ")
        ),
        Omission::MayChange { policy } => format!(
            "what the NamespacedMutatingPolicy {} does to pods is not judged: Kyverno verifies \
             after it as a rule; delete it, or start the operator with \
             --accept-exclusions={policy}",
            named(policy)
        ),
        Omission::MayCreate { kind, policy } => format!(
            "what the {} {} has Kyverno create is not judged: it may be policies that undo the \
             check, and Kyverno's own rights pass the guard; delete it, or start the operator \
             with --accept-exclusions={policy}",
            kind.as_str(),
            named(policy)
        ),
        Omission::Unwritable { kind, policy } => format!(
            "the {} {} asks for what the API server takes in no webhook, and then Kyverno can write \
             none of its webhooks anew, the ring's among them: delete it, or start the operator \
             with --accept-exclusions={policy}",
            kind.as_str(),
            named(policy)
        ),
        Omission::Adds { kind, policy } => format!(
            "the {} {} verifies images, too, and takes nothing from what the ring asks",
            kind.as_str(),
            named(policy)
        ),
        Omission::ExceptsOthers { exception } => format!(
            "the PolicyException {} of policies.kyverno.io does not reach the ring's policy, \
             which is a ClusterPolicy",
            named(exception)
        ),
        Omission::Unseen { what, why } => {
            format!("{} could not be looked at: {}", what.name(), why.why)
        }
    }
}

/// A policy's or an exception's namespace and name, from what `--accept-exclusions`
/// calls it.
fn named(exclusion: &str) -> &str {
    exclusion.split_once(':').map_or(exclusion, |(_, name)| name)
}

/// A policy or an exception, from what `--accept-exclusions` calls it.
fn object(exclusion: &str) -> String {
    match exclusion.split_once(':') {
        Some(("exception", name)) => format!("PolicyException {name}"),
        Some((_, name)) => format!("Policy {name}"),
        None => exclusion.to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    in_short(names, ", ")
}

/// The first of them, and how many more there are. What others wrote is shown in
/// one line.
pub(crate) fn in_short(texts: &[String], between: &str) -> String {
    let named: Vec<&str> = texts.iter().take(NAMED).map(String::as_str).collect();
    let text = match texts.len().saturating_sub(named.len()) {
        0 => named.join(between),
        more => format!("{} and {more} more", named.join(between)),
    };
    text.replace(char::is_control, " ")
}
