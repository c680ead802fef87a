//! What may be seen of the policies that hold a ring's rules, and heard of them.

use std::{collections::BTreeSet, time::Duration};

use crate::{marks::Mark, policy_ref::PolicyKind};

/// Where a policy has a webhook of its own, Kyverno writes it some hundred milliseconds
/// after the policy, and one that has just started all of them as it loads the policies:
/// so long it is not there yet, and from then on it is gone.
pub(crate) const NO_WEBHOOK_YET: Duration = Duration::from_secs(3);

/// A policy that holds the ring's rule, or should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPolicy {
    /// The object.
    pub found: PolicyFound,
    /// What its gate rule answered.
    pub answer: Answer,
}

/// A policy object as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFound {
    /// Not ours; it is left alone.
    Foreign,
    /// Ours.
    Ours {
        /// What it says of this ring.
        mark: Option<Mark>,
        /// The public keys in this ring's rule, as PEM.
        keys: BTreeSet<String>,
        /// The registry credentials that it asks with, where it has one set for all of its
        /// rings.
        credentials: BTreeSet<String>,
        /// Why its last write failed, while it does not hold what it should.
        failure: Option<WriteFailure>,
        /// How what stands there differs from what should for this ring, while
        /// it cannot be written.
        differs: Option<Difference>,
    },
    /// It does not exist.
    Absent {
        /// Why creating it failed.
        failure: Option<WriteFailure>,
    },
}

/// Why a policy could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFailure {
    /// Kyverno looked at it and refused it.
    pub refused: bool,
    /// The API server's words.
    pub message: String,
}

/// How what stands in a policy differs from what should, for one of its rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// It holds no rule of the ring.
    NoRule,
    /// The ring's rule accepts other keys and is right otherwise.
    Keys,
    /// The ring's rule is another one, or what stands around the rules is not
    /// this operator's.
    Other,
    /// The policy holds what it should, and what pins the tags of its pods does not.
    Unpinned,
}

/// What a policy's gate rule answered when it was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked since the operator started.
    NotAsked,
    /// Kyverno answered.
    Answered {
        /// What it says of this ring.
        mark: Option<Mark>,
        /// How long, from the first such answer to the last, it has been
        /// saying this while the ledger's mark was what it is now.
        held: Duration,
        /// How long it has been saying something else than what the policy
        /// says of this ring; zero while it says that.
        behind: Duration,
    },
    /// Kyverno has no webhook for pods, for this long: nothing verifies images.
    Open(Duration),
    /// The question passed without an answer, for this long, although Kyverno
    /// has a webhook for pods.
    Silent(Silence, Duration),
    /// Kyverno's own webhook did not answer in its time, for this long: it may be slow,
    /// and answer others.
    Slow(String, Duration),
    /// Kyverno's own webhook cannot be reached: pods are refused.
    Unreachable(String),
    /// Something else answered, or nothing in time.
    Unreadable(String),
}

impl Answer {
    /// Whether by this answer of a policy of some kind nothing verifies images. It is said
    /// nowhere else, so that conditions, logs and metrics agree.
    #[must_use]
    pub fn is_open(&self, kind: PolicyKind) -> bool {
        match self {
            Self::Open(held) => !kind.has_own_webhook() || *held >= NO_WEBHOOK_YET,
            Self::Silent(Silence::NoWebhook, held) => {
                kind.has_own_webhook() && *held >= NO_WEBHOOK_YET
            }
            _ => false,
        }
    }
}

/// What Kyverno's webhook configurations say of a question that passed without
/// an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It should have come to Kyverno: that has not loaded the policy, was told
    /// to leave the question out, or, where its failures are ignored, is down.
    Passed,
    /// There is no webhook for questions.
    NoWebhook,
    /// The namespace in which the operator asks has not the label by which the policy
    /// takes questions there.
    Unlabelled,
    /// This field of the webhook leaves out what the operator asks, or may.
    LeftOut(&'static str),
    /// They could not be looked at, for this reason.
    NotSeen(String),
}
