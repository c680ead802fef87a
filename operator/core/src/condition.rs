//! A condition as the Kubernetes API has it, with the reasons it may give.

use crate::api_enum::api_enum;

/// A condition as the Kubernetes API has it, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: Kind,
    /// Whether it holds.
    pub status: Status,
    /// Why, in one word for programs.
    pub reason: Reason,
    /// Why, and what to do, in a sentence for people.
    pub message: String,
}

api_enum! {
    /// The types of conditions.
    pub enum Kind {
        /// All is well: the sum of the others.
        Ready,
        /// Something is on its way.
        Reconciling,
        /// Nothing will move until a person acts.
        Stalled,
        /// A version exists that may sign.
        KeysAvailable,
        /// Kyverno enforces the ring's rule.
        PolicyEnforced,
        /// Nothing that is seen leaves pods out of that.
        EnforcementComplete,
        /// The pipelines hold the key they should.
        PipelinesPublished,
        /// What the user revoked is not accepted any more. Absent unless asked for.
        RevocationsApplied,
    }
}

api_enum! {
    /// Whether a condition holds.
    pub enum Status {
        /// It does.
        True,
        /// It does not.
        False,
        /// Nobody knows yet.
        Unknown,
    }
}

api_enum! {
    /// Why a condition is as it is. The names are part of the API: alerts and
    /// scripts match them. `docs/conditions.md` says of each what to do.
    pub enum Reason {
        /// All is as asked.
        Available,
        /// No version is current yet.
        FirstVersionPending,
        /// A new version is on its way to the pipelines.
        Rotating,
        /// A rotation is due and waits for those of other rings.
        RotationQueued,
        /// A version that is to stand by is on its way to Kyverno.
        StandbyPending,
        /// The rule is on its way into another policy.
        Moving,
        /// Kyverno goes on with the ring's rule and takes no other any more.
        CannotRotate,
        /// The API server refused a write, which is tried again.
        Retrying,
        /// Versions existed and their ledger is gone or damaged.
        KeyMaterialLost,
        /// An older ledger was restored over a newer one.
        LedgerOutdated,
        /// The version that signed was revoked and the next is on its way.
        CurrentRevoked,
        /// Every version that was accepted is revoked.
        AllRevoked,
        /// What is revoked is not accepted any more.
        RevocationsApplied,
        /// Kyverno still accepts what was just revoked, or may.
        RevocationPending,
        /// A revocation names a version that never existed.
        RevocationUnknown,
        /// Lifecycle changes are frozen by the user.
        Suspended,
        /// An existing key pair could not be taken over.
        ImportFailed,
        /// The ring's object asks for something that cannot be served.
        SpecInvalid,
        /// The ring's object cannot be read by this operator.
        SpecUnreadable,
        /// Kyverno enforces the ring's rule.
        Enforced,
        /// Kyverno reports what the ring's rule would refuse.
        Audited,
        /// Kyverno has not been asked yet.
        GateNotAsked,
        /// Kyverno was just told and has not caught up.
        PolicyPending,
        /// Kyverno keeps answering with an older key set.
        PolicyBehind,
        /// The cluster does not serve the kind of Kyverno policy that holds the rule.
        KyvernoMissing,
        /// An object with the policy's name is not ours.
        PolicyConflict,
        /// The policy does not hold what it should and cannot be written.
        PolicyDiffers,
        /// Kyverno refused the policy.
        PolicyRejected,
        /// The policy does not exist.
        PolicyMissing,
        /// Pods pass without being verified.
        GateOpen,
        /// The kind of the questions to Kyverno is not served.
        GateNotServed,
        /// A question passed Kyverno without an answer.
        GateSilent,
        /// Kyverno did not answer in time.
        GateSlow,
        /// Kyverno does not answer and pods are refused.
        GateMute,
        /// Something that is not our gate answered.
        GateUnreadable,
        /// Nothing that is seen leaves pods out.
        Complete,
        /// A webhook of Kyverno's is not there, or does not take all that is verified.
        WebhookMissing,
        /// The API server admits pods when a webhook of Kyverno's fails.
        FailuresIgnored,
        /// Kyverno's webhooks leave pods out by their labels.
        PodsLeftOut,
        /// Kyverno's webhooks leave enrolled namespaces out.
        NamespacesLeftOut,
        /// Kyverno's resourceFilters leave out pods of enrolled namespaces.
        PodsFiltered,
        /// Kyverno does not check what somebody does.
        UsersExcluded,
        /// A PolicyException names the ring's rule.
        RuleExcepted,
        /// A policy of an enrolled namespace may change pods that were verified.
        PodsChanged,
        /// What decides that is there cannot be judged.
        NotJudged,
        /// What decides that cannot be looked at.
        NotSeen,
        /// Every pipeline holds the key it should.
        Published,
        /// The ring has no pipeline.
        NoPipelines,
        /// No version may be published yet.
        PublicationPending,
        /// A namespace's owner has not granted access.
        AccessNotGranted,
        /// A pipeline's namespace does not exist.
        NamespaceMissing,
        /// A pipeline's namespace is being deleted.
        NamespaceTerminating,
        /// A Secret with the pipeline's name is not ours.
        SecretConflict,
        /// A Secret has to be written and cannot be changed by anybody.
        SecretImmutable,
        /// A Secret could not be read or written.
        SecretFailed,
        /// A Secret of a pipeline that was taken out could not be deleted.
        SecretLeftBehind,
        /// Namespaces are still enrolled in a ring that is being deleted.
        DeletionBlocked,
        /// The ring is being taken down.
        Deleting,
    }
}
