//! What may be left out of a ring's check, one by one.

use super::{Half, TenantKind, Unseen};
use crate::policy_ref::PolicyRef;

/// Something that Kyverno leaves out of a ring's check, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Omission {
    /// A webhook is not there, or does not take all that is verified.
    Missing {
        /// Whether it is the one by which images are verified.
        verifies: bool,
        /// Its name.
        webhook: String,
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
    /// A policy may have Kyverno create others, by its own rights.
    MayCreate {
        /// Its kind.
        kind: TenantKind,
        /// It, as `--accept-exclusions` names it.
        policy: String,
    },
    /// A policy verifies images, too.
    Adds {
        /// Its kind.
        kind: TenantKind,
        /// It, as `--accept-exclusions` names it.
        policy: String,
    },
    /// The API server takes no webhook that Kyverno writes for a policy, and Kyverno writes
    /// all of them or none.
    Unwritable {
        /// Its kind.
        kind: TenantKind,
        /// It, as `--accept-exclusions` names it.
        policy: String,
    },
    /// A PolicyException does not reach policies of the ring's kind.
    ExceptsOthers {
        /// It, as `--accept-exclusions` names it.
        exception: String,
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
    /// Policies of namespaces, of one kind.
    Policies(TenantKind),
    /// PolicyExceptions of `kyverno.io`.
    Exceptions,
    /// PolicyExceptions of `policies.kyverno.io`.
    OtherExceptions,
}

/// What an omission comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something is left out, or let out.
    Certain,
    /// Something may be, and that cannot be told.
    Open,
    /// Nothing is, by this; it is worth to be known.
    Nothing,
}

impl Omission {
    /// What it comes to.
    #[must_use]
    pub const fn weight(&self) -> Weight {
        match self {
            Self::Missing { .. }
            | Self::Ignored { .. }
            | Self::Objects { .. }
            | Self::Namespaces { .. }
            | Self::Filtered { .. }
            | Self::Excluded { .. }
            | Self::Excepted { .. }
            | Self::Changed { .. } => Weight::Certain,
            Self::Conditions { .. }
            | Self::Unclear { .. }
            | Self::MayChange { .. }
            | Self::MayCreate { .. }
            | Self::Unwritable { .. }
            | Self::Unseen { .. } => Weight::Open,
            Self::Adds { .. } | Self::ExceptsOthers { .. } => Weight::Nothing,
        }
    }

    /// Whether Kyverno writes what is missing once it has loaded a policy.
    #[must_use]
    pub const fn comes_with_the_policy(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Ignored { .. })
    }
}
