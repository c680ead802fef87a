//! What Kyverno leaves out of the check that it was given: decided from its
//! webhook configurations, its ConfigMap, and the policies and exceptions of
//! others that bear on pods. The gate asks one half of Kyverno for one namespace;
//! this is the rest of what can be known.

use std::{collections::BTreeMap, sync::Arc};

use crate::policy_ref::{Action, PolicyRef};

mod accepted;
mod selector;
mod settings;
mod tenants;
mod webhooks;
mod wildcard;

#[cfg(test)]
mod tests;

pub use accepted::{Accepted, Exclusion, NoExclusion};
pub use selector::{Requirement, Selector};
pub use settings::Settings;
pub use tenants::{PolicyException, TenantPolicies, TenantPolicy};
pub use webhooks::{Condition, Half, Hook, Rule};

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
    /// The Policies that bear on what is verified.
    pub policies: Look<TenantPolicies>,
    /// The NamespacedMutatingPolicies for pods.
    pub mutating_policies: Look<TenantPolicies>,
    /// The PolicyExceptions that name policies of this operator's.
    pub exceptions: Look<Vec<PolicyException>>,
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
            policies: not_yet(),
            mutating_policies: not_yet(),
            exceptions: not_yet(),
        }
    }

    /// Whether all has been looked at, or cannot be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let unseen = [
            self.mutating.as_ref().err(),
            self.validating.as_ref().err(),
            self.settings.as_ref().err(),
            self.policies.as_ref().err(),
            self.mutating_policies.as_ref().err(),
            self.exceptions.as_ref().err(),
        ];
        unseen.into_iter().flatten().all(|unseen| unseen.cause != Cause::NotYet)
    }
}

/// What of a ring decides which omissions are its.
#[derive(Clone, Debug)]
pub struct Concerned {
    /// The action of its policy.
    pub action: Action,
    /// The namespaces that are enrolled, with all of their labels.
    pub namespaces: BTreeMap<String, Arc<Labels>>,
    /// The names of the rules that it stands by, in each policy that holds one.
    pub rules: BTreeMap<PolicyRef, Vec<String>>,
}

/// Something that Kyverno leaves out of a ring's check, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Omission {
    /// A webhook is not there, or does not take all that is verified.
    Missing {
        /// Which half of Kyverno.
        half: Half,
        /// Its name.
        webhook: &'static str,
    },
    /// The API server admits pods when the webhook fails.
    Ignored {
        /// The webhooks' names.
        webhooks: Vec<String>,
    },
    /// Pods that an objectSelector does not select.
    Objects {
        /// The webhooks' names.
        webhooks: Vec<String>,
        /// The selector, as kubectl writes one.
        selector: String,
    },
    /// Namespaces that a namespaceSelector does not select.
    Namespaces {
        /// The webhooks' names.
        webhooks: Vec<String>,
        /// The selector, as kubectl writes one.
        selector: String,
        /// The enrolled namespaces that are left out.
        namespaces: Vec<String>,
    },
    /// Pods of namespaces, by resourceFilters.
    Filtered {
        /// The filter as written.
        filter: String,
        /// The enrolled namespaces that it fits.
        namespaces: Vec<String>,
    },
    /// What somebody does, whom Kyverno does not check.
    Excluded {
        /// Who, as `--accept-exclusions` names them.
        who: Vec<String>,
    },
    /// What a PolicyException lets pass.
    Excepted {
        /// It, as `--accept-exclusions` names it.
        exception: String,
        /// The policy of this operator's that it names.
        policy: PolicyRef,
    },
    /// A Policy may change pods, or what Kyverno sees of their images.
    Changed {
        /// It, as `--accept-exclusions` names it.
        policy: String,
    },
    /// Conditions of others decide what a webhook takes.
    Conditions {
        /// The webhooks' names.
        webhooks: Vec<String>,
        /// The conditions' names.
        conditions: Vec<String>,
    },
    /// A selector has an operator that is not known here.
    Unclear {
        /// The webhooks' names.
        webhooks: Vec<String>,
        /// The selector.
        selector: String,
    },
    /// A NamespacedMutatingPolicy may change pods. What it puts in is verified
    /// after it, as far as is known.
    MayChange {
        /// It, as `--accept-exclusions` names it.
        policy: String,
    },
    /// Something could not be looked at.
    Unseen {
        /// What.
        what: Subject,
        /// Why not.
        why: Unseen,
    },
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Kyverno's mutating or validating webhook configuration.
    Webhooks(Half),
    /// Its ConfigMap.
    Settings,
    /// Policies of namespaces.
    Policies,
    /// NamespacedMutatingPolicies.
    MutatingPolicies,
    /// PolicyExceptions.
    Exceptions,
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

impl Omission {
    /// Whether it is certain that something is left out, or let out.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Ignored { .. }
            | Self::Objects { .. }
            | Self::Namespaces { .. }
            | Self::Filtered { .. }
            | Self::Excluded { .. }
            | Self::Excepted { .. }
            | Self::Changed { .. } => true,
            Self::Conditions { .. }
            | Self::Unclear { .. }
            | Self::MayChange { .. }
            | Self::Unseen { .. } => false,
        }
    }

    /// Whether Kyverno writes what is missing once it has loaded a policy.
    #[must_use]
    pub const fn comes_with_the_policy(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Ignored { .. })
    }
}

/// What Kyverno leaves out of a ring's check, the certain first.
#[must_use]
pub fn of_ring(seen: &Seen, accepted: &Accepted, ring: &Concerned) -> Vec<Omission> {
    let mut found = webhooks::omissions(seen, ring);
    let settings = seen.settings();
    if let Ok(settings) = &settings {
        found.extend(settings.omissions(accepted, ring));
    }
    let exceptions = seen.exceptions.iter().flatten();
    found.extend(exceptions.filter_map(|exception| exception.omission(accepted, ring)));
    for policies in [&seen.policies, &seen.mutating_policies].into_iter().flatten() {
        found.extend(policies.omissions(accepted, ring));
    }
    let mut unseen = |what, why: Option<&Unseen>| {
        found.extend(why.map(|why| Omission::Unseen { what, why: why.clone() }));
    };
    unseen(Subject::Webhooks(Half::Mutating), seen.mutating.as_ref().err());
    unseen(Subject::Webhooks(Half::Validating), seen.validating.as_ref().err());
    unseen(Subject::Settings, settings.as_ref().err());
    unseen(Subject::Policies, seen.policies.as_ref().err());
    unseen(Subject::MutatingPolicies, seen.mutating_policies.as_ref().err());
    unseen(Subject::Exceptions, seen.exceptions.as_ref().err());
    // A stable sort.
    found.sort_by_key(|omission| !omission.is_certain());
    found
}
