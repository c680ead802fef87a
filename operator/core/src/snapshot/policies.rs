//! What may be seen of the policies that hold a ring's rules, and heard of them.

use std::{collections::BTreeSet, time::Duration};

use crate::marks::Mark;

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
    /// Kyverno has no webhook for pods: nothing verifies images.
    Open,
    /// The question passed without an answer, for this long, although Kyverno
    /// has a webhook for pods.
    Silent(Silence, Duration),
    /// Kyverno's own webhook cannot be reached: pods are refused.
    Unreachable(String),
    /// Something else answered, or nothing in time.
    Unreadable(String),
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
    /// This field of the webhook leaves out what the operator asks, or may.
    LeftOut(&'static str),
    /// They could not be looked at, for this reason.
    NotSeen(String),
}
