//! The ledger of a ring: its versions, what was asked, what was handed out.
//!
//! One Secret per ring holds it, as one JSON annotation beside the private
//! keys, so that every transition is one compare-and-swap. A [`Change`] says
//! what a transition does and [`Ledger::apply`] what becomes of the ledger;
//! which private keys the Secret still holds follows from the table alone.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::marks::Mark;

mod change;
mod shape;

pub use change::{Change, ChangeError, NewKey};

/// How many retired versions keep their public key.
pub const RETIRED_KEPT: usize = 10;

/// How many handled rotation tokens are remembered.
pub const TOKENS_KEPT: usize = 10;

const FORMAT: u32 = 1;

/// Everything the operator knows of a ring, private keys excepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ledger {
    /// Version of this format.
    format: u32,
    /// Raised by every commit.
    pub sequence: u64,
    /// Ascending by number.
    pub versions: Vec<Version>,
    /// Rotation tokens that were handled, the newest last.
    pub tokens: Vec<Token>,
    /// Secrets that hold a private key of this ring, or may.
    pub publications: BTreeSet<PipelineRef>,
    /// What the policies say of this ring.
    pub rule: Rule,
    /// The ring was deleted and its rule has to leave the policies.
    pub removed: bool,
}

/// One version of a ring's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// Never given out twice.
    pub number: u32,
    /// The key's algorithm, `ECDSA-P256`.
    pub algorithm: String,
    /// What it is good for.
    pub state: State,
    /// SubjectPublicKeyInfo as PEM.
    pub public_key: String,
    /// `SHA256:` and the base64 of SHA-256 over the DER SubjectPublicKeyInfo.
    pub fingerprint: String,
    /// When the pair was generated.
    pub created_at: Timestamp,
    /// When it began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Timestamp>,
}

/// What a version is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Minted; Kyverno is being told.
    Pending,
    /// Signs and verifies.
    Current,
    /// Verifies only.
    Accepted,
    /// Fell out of the window.
    Retired,
}

/// A rotation token that was handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the policies say of a ring, apart from its keys. It stands in the
/// ledger so that a ring whose object is gone or unreadable keeps its rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The ledger's sequence when what the policies say last changed. It moves
    /// only then, so that a commit Kyverno need not know writes no policy.
    pub sequence: u64,
    /// What is asked of the ring, and where its rule is.
    pub settings: RuleSettings,
}

/// The part of a [`Rule`] that a [`Change`] sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSettings {
    /// Refuse or report.
    pub action: Action,
    /// The ring's own exclusions.
    pub exclude: Vec<Exclusion>,
    /// The policy that holds the ring's rule.
    pub policy: String,
    /// The policy the rule is moving away from, until the other one is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
}

impl RuleSettings {
    /// The policies that hold the ring's rule.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.policy.as_str()).chain(self.leaving.as_deref())
    }
}

/// What happens to a pod with an image that no accepted key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Refused.
    Enforce,
    /// Reported.
    Audit,
}

/// An image pattern that needs no signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exclusion {
    /// The pattern as the user wrote it.
    pub image: String,
    /// The last day (UTC) on which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
}

impl Exclusion {
    /// Whether it still counts at `now`.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|last| now.to_zoned(jiff::tz::TimeZone::UTC).date() <= last)
    }
}

/// A ledger that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Not the JSON this operator writes.
    #[error("its annotation cannot be read: {0}")]
    Unreadable(String),
    /// JSON that contradicts itself.
    #[error("its annotation contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// Written by another operator version.
    #[error(
        "it has format {0}, this operator reads format {FORMAT}; run the operator that wrote it"
    )]
    Format(u32),
}

impl Ledger {
    /// Reads a ledger's annotation.
    ///
    /// # Errors
    /// If it is not a ledger of this format, or contradicts itself. A damaged
    /// ledger is never repaired by guessing: the ring stalls.
    pub fn parse(json: &str) -> Result<Self, LedgerError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| LedgerError::Unreadable(error.to_string());
        let probe: Probe = serde_json::from_str(json).map_err(unreadable)?;
        if probe.format != FORMAT {
            return Err(LedgerError::Format(probe.format));
        }
        let ledger: Self = serde_json::from_str(json).map_err(unreadable)?;
        ledger.check().map_err(LedgerError::Inconsistent)?;
        Ok(ledger)
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising plain structs with string keys cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), &'static str> {
        let versions = &self.versions;
        let count = |state| versions.iter().filter(|v| v.state == state).count();
        if !versions.is_sorted_by(|a, b| a.number < b.number) {
            return Err("version numbers are not ascending");
        }
        if count(State::Pending) > 1 || count(State::Current) > 1 {
            return Err("more than one version is pending, or current");
        }
        if versions.iter().rev().skip(1).any(|v| v.state == State::Pending) {
            return Err("a version that is not the newest is pending");
        }
        shape::check(self)?;
        if versions.is_empty() && !self.removed {
            return Err("there is no version");
        }
        Ok(())
    }

    /// The versions Kyverno accepts, newest first.
    pub fn accepted(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().rev().filter(|v| v.state != State::Retired)
    }

    /// The version that signs.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.state == State::Current)
    }

    /// The version that is about to sign.
    #[must_use]
    pub fn pending(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.state == State::Pending)
    }

    /// The newest version, whatever its state.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The version with this fingerprint.
    #[must_use]
    pub fn by_fingerprint(&self, fingerprint: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.fingerprint == fingerprint)
    }

    /// Whether the version's private key exists.
    #[must_use]
    pub fn has_private_key(&self, number: u32) -> bool {
        self.versions
            .iter()
            .any(|v| v.number == number && matches!(v.state, State::Pending | State::Current))
    }

    /// The version that a token asked for, if the token was handled.
    #[must_use]
    pub fn handled(&self, token: &str) -> Option<u32> {
        let hash = token_hash(token);
        self.tokens.iter().find(|t| t.hash == hash).map(|t| t.version)
    }

    /// A short hash of the accepted key set: equal if and only if Kyverno
    /// accepts the same keys.
    #[must_use]
    pub fn key_set(&self) -> String {
        let mut hash = Sha256::new();
        for version in self.accepted() {
            hash.update(version.fingerprint.as_bytes());
            hash.update(b"\n");
        }
        hex(&hash.finalize()[..4])
    }

    /// What the policies that hold the ring's rule say of it. A state that
    /// comes back (a window narrowed and widened, a rule moved to and fro) has
    /// another mark than before, so an old answer never passes for a new one.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { sequence: self.rule.sequence, key_set: self.key_set() }
    }

    /// The state that each version has in a window of `keep`.
    #[must_use]
    pub fn window(&self, keep: u32) -> Vec<State> {
        let mut room = keep.max(1);
        let mut states: Vec<State> = self
            .versions
            .iter()
            .rev()
            .map(|version| match version.state {
                State::Pending => State::Pending,
                _ if room == 0 => State::Retired,
                state => {
                    room -= 1;
                    if state == State::Current { State::Current } else { State::Accepted }
                }
            })
            .collect();
        states.reverse();
        states
    }
}

/// SHA-256 of a rotation token, in hex: what the ledger keeps of it.
#[must_use]
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
