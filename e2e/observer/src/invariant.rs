//! The invariants that are judged here, by their names.

use std::fmt;

/// What must always hold, as far as it is judged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// A pipeline gets no key before Kyverno has acknowledged it, and no key
    /// that a pipeline holds leaves a policy, revocation excepted.
    NoGap,
    /// The newest versions are accepted, less the revoked ones, and no others.
    Window,
    /// One request mints one key.
    ExactlyOnce,
    /// A ring whose material is lost does not start again.
    NoMintOverALoss,
    /// What was revoked is never accepted, signed with or published again.
    RevokedStaysRevoked,
    /// Private keys are where they belong, work there, and are nowhere else.
    PrivateKeysKnown,
    /// A reconcile that changes nothing writes nothing.
    Silence,
    /// What the operator did not create it does not touch.
    NotOursNotTouched,
    /// A rule leaves a policy only once its ring was removed, and a gate that
    /// opens is told.
    ClosedNotOpen,
    /// From any state a ring comes to rest once its inputs stop changing.
    Settles,
    /// A key stands in a policy only if its ring knows it.
    KnownKeysOnly,
    /// What is reported is so.
    TrueWords,
}

impl Invariant {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoGap => "no-gap",
            Self::Window => "window",
            Self::ExactlyOnce => "exactly-once",
            Self::NoMintOverALoss => "no-mint-over-a-loss",
            Self::RevokedStaysRevoked => "revoked-stays-revoked",
            Self::PrivateKeysKnown => "private-keys-known",
            Self::Silence => "silence",
            Self::NotOursNotTouched => "not-ours-not-touched",
            Self::ClosedNotOpen => "closed-not-open",
            Self::Settles => "settles",
            Self::KnownKeysOnly => "known-keys-only",
            Self::TrueWords => "true-words",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
