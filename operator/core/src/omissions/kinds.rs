//! The halves of Kyverno, and the kinds of its policies, that omissions speak of.

use crate::{
    api_enum::api_enum,
    policy_ref::{Action, PolicyKind, PolicyRef},
};

/// A half of Kyverno. The mutating one verifies images for ClusterPolicies; the
/// validating one asks whether that was done, and refuses what is no reference. For
/// ImageValidatingPolicies it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The one that may change pods.
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
}

/// The name of the webhook of one of Kyverno's halves by which pods come to a policy,
/// as Kyverno 1.19 calls it if failures are ignored, or are not; nothing if the policy
/// has no business there.
#[must_use]
pub fn webhook(half: Half, policy: PolicyRef, is_ignored: bool) -> Option<String> {
    let failing = if is_ignored { "ignore" } else { "fail" };
    match (policy.kind(), half) {
        (PolicyKind::ClusterPolicy, Half::Mutating) => {
            Some(format!("mutate.kyverno.svc-{failing}"))
        }
        (PolicyKind::ClusterPolicy, Half::Validating) => {
            Some(format!("validate.kyverno.svc-{failing}"))
        }
        (PolicyKind::ImageValidatingPolicy, Half::Validating) => policy.own_webhook(is_ignored),
        // What pins tags is called there, and refuses none that it does not see.
        (PolicyKind::ImageValidatingPolicy, Half::Mutating) => None,
    }
}

/// Whether it is one by which pods come to any of this operator's policies.
pub(super) fn is_webhook_of_ours(name: &str) -> bool {
    let last = name.rsplit_once("finegrained-").map(|(_, policy)| policy);
    let own: Option<PolicyRef> = last.and_then(|policy| policy.parse().ok());
    let any = PolicyRef::new(Action::Enforce, 1);
    [Half::Mutating, Half::Validating].into_iter().any(|half| {
        [false, true].into_iter().any(|is_ignored| {
            let of = |policy| webhook(half, policy, is_ignored).is_some_and(|own| own == name);
            of(any) || own.is_some_and(of)
        })
    })
}

api_enum! {
    /// The kinds of Kyverno's policies of one namespace that can bear on what is verified.
    pub enum TenantKind {
        /// Of `kyverno.io/v1`.
        Policy,
        /// Of `policies.kyverno.io/v1`, like those below.
        NamespacedMutatingPolicy,
        /// Creates objects by Kyverno's rights.
        NamespacedGeneratingPolicy,
        /// Verifies images, too.
        NamespacedImageValidatingPolicy,
        /// Only refuses, but Kyverno has to write a webhook for it.
        NamespacedValidatingPolicy,
    }
}

impl TenantKind {
    /// Its group and version.
    #[must_use]
    pub const fn api(self) -> (&'static str, &'static str) {
        match self {
            Self::Policy => ("kyverno.io", "v1"),
            Self::NamespacedMutatingPolicy
            | Self::NamespacedGeneratingPolicy
            | Self::NamespacedImageValidatingPolicy
            | Self::NamespacedValidatingPolicy => ("policies.kyverno.io", "v1"),
        }
    }
}
