//! What Kyverno leaves out of the check that it was given: decided from its
//! webhook configurations, its ConfigMap, and the policies and exceptions of
//! others that bear on pods. The gate asks one half of Kyverno for one namespace;
//! this is the rest of what can be known.

use std::{collections::BTreeMap, sync::Arc};

use crate::policy_ref::PolicyRef;

mod accepted;
mod kinds;
mod omission;
mod selector;
mod settings;
mod tenants;
mod webhooks;
mod wildcard;
mod words;

#[cfg(test)]
mod tests;

pub use accepted::{Accepted, Exclusion, NoExclusion};
pub use kinds::{Half, TenantKind, webhook};
pub use omission::{Omission, Subject, Weight};
pub use selector::{Requirement, Selector};
pub use settings::Settings;
pub use tenants::{OtherException, PolicyException, TenantPolicies, TenantPolicy};
pub use webhooks::{Condition, Hook, Rule};
pub(crate) use words::in_short;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// What is seen of Kyverno, the same for all rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its mutating webhooks for pods.
    pub mutating: Look<Vec<Hook>>,
    /// Its validating ones.
    pub validating: Look<Vec<Hook>>,
    /// The namespace where its ConfigMap was looked for.
    pub namespace: String,
    /// What its ConfigMap has it leave out, if there is one of that name.
    pub settings: Look<Option<Settings>>,
    /// The policies of namespaces that bear on what is verified, by their kinds.
    pub policies: BTreeMap<TenantKind, Look<TenantPolicies>>,
    /// The PolicyExceptions of `kyverno.io` that name policies of this operator's.
    pub exceptions: Look<Vec<PolicyException>>,
    /// The PolicyExceptions of `policies.kyverno.io`.
    pub other_exceptions: Look<Vec<OtherException>>,
}

/// What was seen, or why nothing was.
pub type Look<T> = Result<T, Unseen>;

/// Why something could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The API server's words, or ours.
    pub why: String,
    /// What it is due to.
    pub cause: Cause,
}

/// What it is due to that something is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has not been looked at yet.
    NotYet,
    /// The operator lacks the right.
    Forbidden,
    /// Anything else.
    Failed,
}

impl Seen {
    /// Before anything was looked at. The namespace is that of Kyverno's ConfigMap.
    #[must_use]
    pub fn nothing_yet(namespace: &str) -> Self {
        fn not_yet<T>() -> Look<T> {
            Err(Unseen { why: "it has not been looked at yet".to_owned(), cause: Cause::NotYet })
        }
        Self {
            mutating: not_yet(),
            validating: not_yet(),
            namespace: namespace.to_owned(),
            settings: not_yet(),
            policies: TenantKind::ALL.iter().map(|kind| (*kind, not_yet())).collect(),
            exceptions: not_yet(),
            other_exceptions: not_yet(),
        }
    }

    /// Whether somebody has an exception, which may name a ring's rules.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.exceptions.as_ref().is_ok_and(|found| !found.is_empty())
            || self.other_exceptions.as_ref().is_ok_and(|found| !found.is_empty())
    }

    /// Whether all has been looked at, or cannot be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let unseen = [
            self.mutating.as_ref().err(),
            self.validating.as_ref().err(),
            self.settings.as_ref().err(),
            self.exceptions.as_ref().err(),
            self.other_exceptions.as_ref().err(),
        ];
        let policies = self.policies.values().map(|look| look.as_ref().err());
        unseen.into_iter().chain(policies).flatten().all(|unseen| unseen.cause != Cause::NotYet)
    }
}

/// What of a ring decides which omissions are its.
#[derive(Clone, Debug)]
pub struct Concerned {
    /// The policy in which it is placed.
    pub policy: PolicyRef,
    /// The key of the enrolment label.
    pub enrolment_label: String,
    /// The namespaces that are enrolled, with all of their labels.
    pub namespaces: BTreeMap<String, Arc<Labels>>,
    /// The names of the rules that it stands by, in each policy that holds one.
    pub rules: BTreeMap<PolicyRef, Vec<String>>,
}

impl Seen {
    /// What its ConfigMap has it leave out. One in a namespace in which Kyverno does
    /// not run says nothing, and nor does that there is none of a name: Kyverno's chart
    /// always has one.
    fn settings(&self) -> Look<Settings> {
        let unseen = |why| Err(Unseen { why, cause: Cause::Failed });
        let hooks = || self.mutating.iter().chain(&self.validating).flatten();
        let mut namespaces = hooks().filter_map(|hook| hook.service_namespace.as_deref());
        if let Some(other) = namespaces.find(|namespace| *namespace != self.namespace) {
            return unseen(format!(
                "it was looked for in namespace {}, and Kyverno runs in {other}: start the \
                 operator with --kyverno-namespace={other}",
                self.namespace
            ));
        }
        match self.settings.clone()? {
            Some(settings) => Ok(settings),
            None => unseen(
                "there is none of that name: start the operator with --kyverno-config-map and \
                 the name that Kyverno's has"
                    .to_owned(),
            ),
        }
    }
}

/// What Kyverno leaves out of a ring's check, what weighs most first.
#[must_use]
pub fn of_ring(seen: &Seen, accepted: &Accepted, ring: &Concerned) -> Vec<Omission> {
    let mut found = webhooks::omissions(seen, ring);
    let settings = seen.settings();
    if let Ok(settings) = &settings {
        found.extend(settings.omissions(accepted, ring));
    }
    let exceptions = seen.exceptions.iter().flatten();
    found.extend(exceptions.filter_map(|exception| exception.omission(accepted, ring)));
    let exceptions = seen.other_exceptions.iter().flatten();
    found.extend(exceptions.filter_map(|exception| exception.omission(accepted, ring)));
    let is_awaited = is_webhook_awaited(&found, ring);
    for policies in seen.policies.values().flatten() {
        let concerns = |it: &Omission| is_awaited || !matches!(it, Omission::Unwritable { .. });
        found.extend(policies.omissions(accepted, ring).into_iter().filter(concerns));
    }
    let mut unseen = |what, why: Option<&Unseen>| {
        found.extend(why.map(|why| Omission::Unseen { what, why: why.clone() }));
    };
    unseen(Subject::Webhooks(Half::Mutating), seen.mutating.as_ref().err());
    unseen(Subject::Webhooks(Half::Validating), seen.validating.as_ref().err());
    unseen(Subject::Settings, settings.as_ref().err());
    for (kind, look) in &seen.policies {
        unseen(Subject::Policies(*kind), look.as_ref().err());
    }
    unseen(Subject::Exceptions, seen.exceptions.as_ref().err());
    unseen(Subject::OtherExceptions, seen.other_exceptions.as_ref().err());
    // A stable sort.
    found.sort_by_key(Omission::weight);
    found
}

/// Whether Kyverno has to write a webhook for the ring. That of ClusterPolicies is one for
/// all of them and stands, unless somebody took it away.
fn is_webhook_awaited(found: &[Omission], ring: &Concerned) -> bool {
    let mut policies = ring.rules.keys().chain([&ring.policy]);
    policies.any(|policy| policy.kind().has_own_webhook())
        || found.iter().any(|omission| matches!(omission, Omission::Missing { .. }))
}
