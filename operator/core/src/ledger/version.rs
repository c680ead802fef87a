//! One version of a ring's key, and what it is good for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;

/// One version of a ring's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    #[serde(deserialize_with = "Fingerprint::unchecked")]
    pub fingerprint: Fingerprint,
    /// When the pair was generated.
    pub created_at: Timestamp,
    /// When Kyverno had accepted it for the whole soak. From then on pipelines
    /// receive it and no older one, whatever a replica has heard itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Timestamp>,
    /// When it began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Timestamp>,
    /// Minted to stand by, and no rotation has called for it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
    /// Where its private key is, while it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKeyRef>,
}

impl Version {
    /// Whether it ever signed, so that images may carry its signature.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        self.activated_at.is_some()
    }
}

/// Where a private key is, and how to tell that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivateKeyRef {
    /// SHA-256 over the sealed key and its password, in hex. It tells a key
    /// that was exchanged or damaged without the cost of opening it, and
    /// nothing of a password with 256 random bits.
    pub digest: String,
    /// The Secret of its own that holds it; without one the ledger does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What a version is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Minted; Kyverno is being told.
    Pending,
    /// Kyverno accepts it; it waits to replace the version that signs.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies only.
    Accepted,
    /// Fell out of the window, or was discarded before it signed.
    Retired,
    /// Taken out by the user, for ever.
    Revoked,
}

impl State {
    /// Whether the private key of such a version exists.
    #[must_use]
    pub(crate) fn has_private_key(self) -> bool {
        matches!(self, Self::Pending | Self::Standby | Self::Current)
    }

    /// Whether Kyverno accepts what such a version signed.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        !matches!(self, Self::Retired | Self::Revoked)
    }
}
