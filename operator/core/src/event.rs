//! What the operator's events say in words for programs: why one is written,
//! and what was being done.

use crate::{api_enum::api_enum, condition};

api_enum! {
    /// What happened to an object, other than that a condition turned. The
    /// names are part of the API; `docs/conditions.md` explains each.
    pub enum Occurrence {
        /// A version's key pair was generated.
        VersionMinted,
        /// A key pair was taken over as version 1.
        VersionImported,
        /// A version began to sign.
        VersionCurrent,
        /// A version fell out of the window: its images are refused.
        VersionRetired,
        /// A version was taken out for ever.
        VersionRevoked,
        /// A pipeline's Secret was written.
        PipelinePublished,
        /// A pipeline's Secret was deleted.
        PipelineRemoved,
        /// A pipeline's Secret that somebody edited or deleted was written again.
        PipelineRestored,
        /// A policy that somebody edited or deleted was written again.
        PolicyRestored,
        /// A rule stays in force although its ring or ledger is gone.
        RuleKept,
        /// The label of a namespace names no ring.
        RingUnknown,
        /// An exclusion no longer counts.
        ExclusionExpired,
        /// What an exclusion list excludes beyond what is in force is too much.
        ExclusionListTooLarge,
        /// Exclusion lists are gone with their kind, and stay in force.
        ExclusionListsRemembered,
        /// So many rings stand in ClusterPolicies that every pod of the cluster pays for it.
        ManyRings,
        /// A pass over the object ended in a panic: a defect of the operator.
        PassPanicked,
    }
}

api_enum! {
    /// What the operator was doing when it wrote an event.
    pub enum Action {
        /// Generating a key pair.
        Mint,
        /// Taking one over.
        Import,
        /// Going on after a loss.
        Recover,
        /// Having a version sign.
        Activate,
        /// Taking a version out of the window.
        Retire,
        /// Taking a version out for ever.
        Revoke,
        /// Writing a pipeline's Secret.
        Publish,
        /// Deleting a pipeline's Secret.
        Unpublish,
        /// Undoing an edit of a policy.
        Restore,
        /// Keeping a rule.
        Keep,
        /// Looking for the ring that a namespace names.
        Enrol,
        /// Leaving out an exclusion.
        Expire,
        /// Leaving out what is too much.
        Limit,
        /// Counting what policies hold.
        Count,
        /// Bringing a ring to what is asked of it.
        Reconcile,
    }
}

/// Why an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something happened to an object.
    Occurred(Occurrence),
    /// A condition turned, for this reason.
    Turned(condition::Reason),
}

impl Reason {
    /// The name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Occurred(occurrence) => occurrence.as_str(),
            Self::Turned(reason) => reason.as_str(),
        }
    }
}

impl From<Occurrence> for Reason {
    fn from(occurrence: Occurrence) -> Self {
        Self::Occurred(occurrence)
    }
}

impl From<condition::Reason> for Reason {
    fn from(reason: condition::Reason) -> Self {
        Self::Turned(reason)
    }
}
