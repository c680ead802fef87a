//! Transitions of a ledger: what a commit says.

use std::collections::BTreeSet;

use super::{Cause, KnownVersion, PipelineRef, PrivateKeyRef, RuleSettings};
use crate::fingerprint::Fingerprint;

/// A key pair that was just generated or imported, without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SubjectPublicKeyInfo as PEM.
    pub public_key: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Where its private half is going to be.
    pub private_key: PrivateKeyRef,
}

/// A transition of a ledger that brings a new version, whose key pair comes
/// with it: what is planned, before there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mint {
    /// A new Pending version and the token that asked for it, in one commit.
    New {
        /// Its number.
        version: u32,
        /// SHA-256 of the token it answers, if a token asked.
        token: Option<String>,
        /// What called for it. That of one that is to stand by gets a Secret of its own
        /// for its private key.
        cause: Cause,
        /// The ring's rule as of now.
        rule: RuleSettings,
    },
    /// The ring's first version is a key pair that exists already.
    Import {
        /// Its number: 1, or what follows on those that were given up.
        version: u32,
        /// The Secret that holds it.
        from: PipelineRef,
        /// SHA-256 of the token present now, which asks for nothing.
        token: Option<String>,
        /// The ring's rule as of now.
        rule: RuleSettings,
    },
    /// A new Pending version after a loss, and all that is still known.
    Recover(Recovery),
}

impl Mint {
    /// The version's number.
    #[must_use]
    pub fn version(&self) -> u32 {
        match self {
            Self::New { version, .. } | Self::Import { version, .. } => *version,
            Self::Recover(recovery) => recovery.version,
        }
    }

    /// The ring's rule as of now.
    #[must_use]
    pub fn rule(&self) -> &RuleSettings {
        match self {
            Self::New { rule, .. }
            | Self::Import { rule, .. }
            | Self::Recover(Recovery { rule, .. }) => rule,
        }
    }
}

/// A transition of a ledger that brings no new version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The ring's first commit where version 1 cannot be made at once: its rule
    /// stands in the policies, with nobody's key, and waits for it.
    Begin {
        /// The ring's rule as of now.
        rule: RuleSettings,
        /// The highest sequence that a policy carries of it.
        above: u64,
    },
    /// Kyverno has accepted the Pending version for the whole soak: pipelines
    /// may receive it, or it stands by.
    Acknowledge {
        /// Its number.
        version: u32,
        /// Secrets that are about to be written with it for the first time.
        add: BTreeSet<PipelineRef>,
    },
    /// The version that was to stand by, or does, answers a rotation.
    Promote {
        /// Its number.
        version: u32,
        /// SHA-256 of the token that asked, if one did.
        token: Option<String>,
        /// What called for it.
        cause: Cause,
    },
    /// A Pending or Standby version that never signed is given up.
    Discard {
        /// Its number.
        version: u32,
    },
    /// The Pending version becomes Current; what is beyond the window retires.
    Activate {
        /// Its number.
        version: u32,
        /// How many versions are accepted.
        keep: u32,
    },
    /// Versions are taken out for ever.
    Revoke {
        /// Their numbers.
        versions: BTreeSet<u32>,
        /// The standby that signs from now on, if the current one is among them.
        promote: Option<u32>,
        /// How many versions are accepted.
        keep: u32,
    },
    /// What a clock that was ahead noted in the future happened by now.
    CorrectTimes,
    /// The window moves without a rotation.
    Window {
        /// How many versions are accepted.
        keep: u32,
    },
    /// The ring's action, exclusions or place change.
    Rule(RuleSettings),
    /// Secrets are about to be written, or were seen to be gone.
    Publications {
        /// About to be written.
        add: BTreeSet<PipelineRef>,
        /// Gone.
        strike: BTreeSet<PipelineRef>,
    },
    /// Secrets are about to be deleted because the ring does not name them any more.
    Withdraw(BTreeSet<PipelineRef>),
    /// The ring was deleted; its rule has to leave the policies.
    Remove {
        /// Where its rule is.
        rule: RuleSettings,
        /// The highest sequence that a policy carries of it.
        above: u64,
    },
}

/// What a ring goes on with after its ledger was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovery {
    /// The new version's number, above every one that a witness remembers.
    pub version: u32,
    /// SHA-256 of the token present now, which asks for nothing more.
    pub token: Option<String>,
    /// The ring's rule as of now.
    pub rule: RuleSettings,
    /// Versions that the ledger does not know, from the ring's status.
    pub known: Vec<KnownVersion>,
    /// What witnesses remember as revoked.
    pub revoked: BTreeSet<String>,
    /// Secrets that witnesses say hold a key of the ring.
    pub publications: BTreeSet<PipelineRef>,
    /// The highest sequence that a policy carries of it.
    pub above: u64,
    /// How many versions are accepted.
    pub keep: u32,
}
