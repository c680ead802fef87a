//! The table of kinds: what differs between them, the rendering of a policy aside.

use std::time::Duration;

/// A kind of policy that Kyverno serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `kyverno.io/v1`.
    ClusterPolicy,
    /// `policies.kyverno.io/v1`.
    ImageValidatingPolicy,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ClusterPolicy, Self::ImageValidatingPolicy];

    /// The one that is not this.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::ClusterPolicy => Self::ImageValidatingPolicy,
            Self::ImageValidatingPolicy => Self::ClusterPolicy,
        }
    }

    /// The kind as manifests name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "ClusterPolicy",
            Self::ImageValidatingPolicy => "ImageValidatingPolicy",
        }
    }

    /// The kind as `kubectl` names it in a command.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "clusterpolicy",
            Self::ImageValidatingPolicy => "imagevalidatingpolicy",
        }
    }

    /// The kind as the API's paths name it.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "clusterpolicies",
            Self::ImageValidatingPolicy => "imagevalidatingpolicies",
        }
    }

    /// The CRD by which a cluster serves it.
    #[must_use]
    pub const fn crd(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "clusterpolicies.kyverno.io",
            Self::ImageValidatingPolicy => "imagevalidatingpolicies.policies.kyverno.io",
        }
    }

    /// What the CRD's schema has, as a JSON pointer, since the Kyverno that executes such
    /// a policy as it is written here. Before that the API takes it all the same.
    #[must_use]
    pub const fn newest_field(self) -> Option<&'static str> {
        match self {
            Self::ClusterPolicy => None,
            // Kyverno 1.19; 1.18 has Sigstore's trust root fetched for every key and
            // knows nothing of `verifyDigest` and `required`.
            Self::ImageValidatingPolicy => Some(
                "/properties/spec/properties/attestors/items/properties/cosign/properties/trustedRoot",
            ),
        }
    }

    /// Its API version.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "kyverno.io/v1",
            Self::ImageValidatingPolicy => "policies.kyverno.io/v1",
        }
    }

    /// With which Kyverno it comes, for a sentence.
    #[must_use]
    pub const fn comes_with(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "Kyverno 1.19 or older",
            Self::ImageValidatingPolicy => "Kyverno 1.19 or newer",
        }
    }

    /// Whether Kyverno is asked about its policies by a kind of the operator's own,
    /// which has to be there first.
    #[must_use]
    pub const fn has_question_kind(self) -> bool {
        match self {
            Self::ClusterPolicy => true,
            Self::ImageValidatingPolicy => false,
        }
    }

    /// Whether images are verified where nothing can change a pod any more.
    #[must_use]
    pub const fn verifies_last(self) -> bool {
        match self {
            Self::ClusterPolicy => false,
            Self::ImageValidatingPolicy => true,
        }
    }

    /// Whether each of its policies has a webhook of its own, without which nothing is
    /// verified in the policy's namespaces.
    #[must_use]
    pub const fn has_own_webhook(self) -> bool {
        match self {
            Self::ClusterPolicy => false,
            Self::ImageValidatingPolicy => true,
        }
    }

    /// How many rings share one of its policies unless it is said otherwise, by what
    /// `make bench-kinds` shows: docs/policy-kinds.md.
    #[must_use]
    pub const fn rings_per_policy(self) -> u16 {
        match self {
            // Some 12 kB for each ring, with the exclusion lists in each.
            Self::ClusterPolicy => 12,
            // Some 2 kB, and each policy is a webhook in a configuration that is full at
            // about 365 of them while Kyverno changes an RSA certificate: 10,000 rings fit.
            Self::ImageValidatingPolicy => 32,
        }
    }

    /// Whether each ring's rules repeat what the exclusion lists exclude.
    #[must_use]
    pub const fn repeats_lists(self) -> bool {
        match self {
            Self::ClusterPolicy => true,
            Self::ImageValidatingPolicy => false,
        }
    }

    /// Whether a policy has one set of registry credentials for all of its rings.
    #[must_use]
    pub const fn shares_credentials(self) -> bool {
        match self {
            Self::ClusterPolicy => false,
            Self::ImageValidatingPolicy => true,
        }
    }

    /// Whether the digests behind tags are looked up with a ring's registry credentials,
    /// or with those alone that Kyverno's flags name.
    #[must_use]
    pub const fn pins_with_credentials(self) -> bool {
        match self {
            Self::ClusterPolicy => true,
            Self::ImageValidatingPolicy => false,
        }
    }

    /// How long one of its policies is left alone at rest after it was asked. Of each
    /// answer that is a refusal Kyverno writes events.
    #[must_use]
    pub const fn rest(self) -> Duration {
        match self {
            Self::ClusterPolicy => Duration::ZERO,
            Self::ImageValidatingPolicy => Duration::from_secs(10),
        }
    }

    /// Whether a policy of this kind, when it is asked, answers in whatever state
    /// Kyverno has loaded, or in none but the one that it is asked for.
    #[must_use]
    pub const fn answers_in_any_state(self) -> bool {
        match self {
            Self::ClusterPolicy => true,
            Self::ImageValidatingPolicy => false,
        }
    }
}
