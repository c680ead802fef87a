//! The keys that are known.

use p256::{
    ecdsa::{DerSignature, VerifyingKey, signature::hazmat::PrehashVerifier},
    pkcs8::DecodePublicKey,
};
use signingkeyring_core::{fingerprint::Fingerprint, ledger::State, public_key::PublicKey};

/// A version of a ring's key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The ring.
    pub ring: String,
    /// The version's number.
    pub version: u32,
    /// What it is good for. Who asks what would be if changes this.
    pub state: State,
    fingerprint: Option<Fingerprint>,
    verifying: VerifyingKey,
}

/// A text that is no public key of P-256.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {version} of ring {ring} has no P-256 public key in PEM")]
pub struct BadKey {
    ring: String,
    version: u32,
}

impl Key {
    /// A version with its public key in PEM.
    ///
    /// # Errors
    /// If that is no P-256 key.
    pub fn new(ring: &str, version: u32, state: State, public_key: &str) -> Result<Self, BadKey> {
        let ring = ring.to_owned();
        let Ok(verifying) = VerifyingKey::from_public_key_pem(public_key) else {
            return Err(BadKey { ring, version });
        };
        let fingerprint = PublicKey::from(public_key).fingerprint();
        Ok(Self { ring, version, state, fingerprint, verifying })
    }

    /// What names it, if its text is as cosign writes it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.fingerprint.as_ref()
    }

    /// Whether a ring's policy accepts what it signed.
    pub(crate) fn is_accepted_by(&self, ring: &str) -> bool {
        self.ring == ring && self.state.is_accepted()
    }

    /// Whether it signed what has this SHA-256 digest.
    pub(crate) fn signed(&self, digest: &[u8; 32], signature: &[u8]) -> bool {
        DerSignature::try_from(signature)
            .and_then(|signature| self.verifying.verify_prehash(digest, &signature))
            .is_ok()
    }
}
