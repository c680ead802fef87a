//! The ledger of a ring: its versions, what was asked, what was handed out.
//!
//! One Secret per ring holds it, as one JSON annotation beside the private
//! keys, so that every transition is one compare-and-swap. A [`Change`], or a
//! [`Mint`] with its [`NewKey`], says what a transition does, [`Ledger::apply`]
//! and [`Ledger::mint`] what becomes of the ledger; which private keys the
//! Secret still holds follows from the table alone.

use std::collections::BTreeSet;

use base16ct::lower::encode_string as hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    fingerprint::Fingerprint,
    high_water::{HighWater, REVOKED_WITNESSED, short},
    marks::{RuleState, Short, key_set},
};

mod apply;
mod change;
mod damage;
mod format;
mod holding;
mod life;
mod publications;
mod record;
mod rule;
mod shape;
mod times;
mod version;
mod wire;

pub use apply::ChangeError;
pub use change::{Change, Mint, NewKey, Recovery};
pub use damage::Damage;
pub use format::LedgerError;
pub use holding::Hold;
pub use life::{Life, Past, PrivateKeyRef, Purpose, Signed, State};
pub use publications::Publications;
pub use record::{Cause, End, Ended, Record};
pub use rule::{Duty, Exclusion, Leaving, Phase, Rule, RuleSettings};
pub use version::{KnownVersion, Version};

/// How many retired and revoked versions keep their public key.
pub(crate) const RETIRED_KEPT: usize = 10;

/// How many handled rotation tokens are remembered.
pub(crate) const TOKENS_KEPT: usize = 10;

/// How many revoked versions are remembered.
pub(crate) const REVOKED_KEPT: usize = 1000;

/// Everything the operator knows of a ring, private keys excepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Raised by every commit.
    pub sequence: u64,
    /// Ascending by number.
    pub versions: Vec<Version>,
    /// Every version that was revoked, by [`short`] of its fingerprint, the
    /// newest last. It outlives the version's row.
    pub revoked: Vec<String>,
    /// Rotation tokens that were handled, the newest last.
    pub tokens: Vec<Token>,
    /// Secrets that hold a private key of this ring, or may.
    pub publications: Publications,
    /// What the policies say of this ring.
    pub rule: Rule,
    /// The ring was deleted and its rule has to leave the policies.
    pub removed: bool,
}

/// A rotation token that was handled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of its value, in hex.
    pub hash: String,
    /// The version it asked for.
    pub version: u32,
}

/// A pipeline Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for PipelineRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Ledger {
    /// The versions Kyverno accepts, newest first.
    pub fn accepted(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().rev().filter(|v| v.state().is_accepted())
    }

    /// The version that signs.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.state() == State::Current)
    }

    /// The version that is about to sign.
    #[must_use]
    pub fn pending(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.state() == State::Pending)
    }

    /// Whether a version is about to replace the one that signs.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.current().is_some() && self.pending().is_some_and(|version| !version.is_spare())
    }

    /// The version that waits to replace the one that signs.
    #[must_use]
    pub fn standby(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.state() == State::Standby)
    }

    /// Whether no version signs because the one that did was revoked.
    #[must_use]
    pub(crate) fn lost_its_signer(&self) -> bool {
        let newest = self.versions.iter().rev().find(|v| v.has_signed());
        newest.is_some_and(|v| v.state() == State::Revoked)
    }

    /// The version of this number.
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|v| v.number == number)
    }

    /// The newest version, whatever its state.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The version with this fingerprint.
    #[must_use]
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<&Version> {
        self.versions.iter().find(|v| v.fingerprint == *fingerprint)
    }

    /// Whether it has never had a version: nothing was lost, and what was asked
    /// of the ring until now belongs to its first.
    #[must_use]
    pub fn is_unborn(&self) -> bool {
        self.versions.is_empty() && !self.removed
    }

    /// The version whose private key has this digest, while what it signs is
    /// accepted.
    #[must_use]
    pub fn by_key_digest(&self, digest: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.key_digest() == Some(digest))
    }

    /// The version that a token asked for, if the token was handled.
    #[must_use]
    pub fn handled(&self, token: &str) -> Option<u32> {
        let hash = token_hash(token);
        self.tokens.iter().find(|t| t.hash == hash).map(|t| t.version)
    }

    /// A short hash of the accepted keys, as [`key_set`] computes it.
    #[must_use]
    pub fn key_set(&self) -> Short {
        key_set(self.accepted().map(|version| version.fingerprint.as_str()))
    }

    /// What the policies that hold the ring's rule are to say of it. A state
    /// that comes back (a window narrowed and widened, a rule moved to and fro)
    /// is another one than before, so an old answer never passes for a new one.
    #[must_use]
    pub fn rule_state(&self) -> RuleState {
        RuleState { sequence: self.rule.sequence, key_set: self.key_set() }
    }

    /// The state that each version has in a window of `keep`, by [`window`].
    #[must_use]
    pub fn window(&self, keep: u32) -> Vec<State> {
        let versions = self.versions.iter().map(|v| (v.state(), v.has_signed()));
        window(versions, keep)
    }

    /// What witnesses are to remember of the ring.
    #[must_use]
    pub fn high_water(&self) -> HighWater {
        let forgotten = self.revoked.len().saturating_sub(REVOKED_WITNESSED);
        HighWater {
            version: self.newest().map_or(0, |v| v.number),
            revoked: self.revoked.iter().skip(forgotten).cloned().collect(),
        }
    }

    /// Whether a witness remembers nothing that this ledger does not know.
    #[must_use]
    pub fn knows(&self, witness: &HighWater) -> bool {
        self.newest().map_or(0, |v| v.number) >= witness.version
            && witness.revoked.iter().all(|hash| self.revoked.contains(hash))
    }

    /// The ledger as it is to be enforced where witnesses remember
    /// revocations that it does not know: without those versions.
    #[must_use]
    pub fn without(&self, revoked: &BTreeSet<String>) -> Self {
        let mut ledger = self.clone();
        for version in &mut ledger.versions {
            if revoked.contains(&short(version.fingerprint.as_str())) {
                version.life.revoke();
            }
        }
        ledger
    }
}

/// The state that each of these versions, the newest last, has in a window of `keep`: each
/// is given by its state and whether it signed. Only versions that signed have a place in
/// it, and a revoked one keeps its place: a revocation never brings an older version back,
/// and one of a version that never signed never pushes one out.
#[must_use]
pub fn window(versions: impl DoubleEndedIterator<Item = (State, bool)>, keep: u32) -> Vec<State> {
    let mut room = keep.max(1);
    let mut states: Vec<State> = versions
        .rev()
        .map(|(state, has_signed)| match state {
            State::Pending | State::Standby => state,
            State::Revoked => {
                room = room.saturating_sub(u32::from(has_signed));
                State::Revoked
            }
            _ if room == 0 || !has_signed => State::Retired,
            state => {
                room -= 1;
                if state == State::Current { State::Current } else { State::Accepted }
            }
        })
        .collect();
    states.reverse();
    states
}

/// SHA-256 of a rotation token, in hex: what the ledger keeps of it.
#[must_use]
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests;
