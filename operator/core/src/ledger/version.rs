//! One version of a ring's key, and what it is good for.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{
    life::{Life, Past, PrivateKeyRef, State},
    record::{End, Ended, Record},
    shape,
};
use crate::{fingerprint::Fingerprint, public_key::PublicKey};

/// The algorithm of every key that this operator makes or takes over.
pub(super) const ALGORITHM: &str = "ECDSA-P256";

/// One version of a ring's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Never given out twice.
    pub number: u32,
    /// The key's algorithm, `ECDSA-P256`.
    pub algorithm: Cow<'static, str>,
    /// SubjectPublicKeyInfo as PEM.
    pub public_key: PublicKey,
    /// What names it.
    pub fingerprint: Fingerprint,
    /// When the pair was generated.
    pub created_at: Timestamp,
    /// What it is good for, and what belongs to that.
    pub life: Life,
    /// What is remembered of it for those who audit.
    pub record: Record,
}

impl Version {
    /// Takes it out of the window, if it is not out already.
    pub(super) fn retire(&mut self, now: Timestamp, by: End) {
        let is_over = !self.state().is_accepted();
        self.life.retire();
        if !is_over {
            self.record.ended = Some(Ended { at: now, by });
        }
    }

    /// Takes it out for ever.
    pub(super) fn revoke(&mut self, now: Timestamp) {
        if self.state() != State::Revoked {
            self.record.ended = Some(Ended { at: now, by: End::Revocation });
        }
        self.life.revoke();
    }

    /// Has it verify only; one that never signed is left as it is.
    pub(super) fn accept(&mut self) {
        self.life.accept();
        if self.state().is_accepted() {
            self.record.ended = None;
        }
    }

    /// Has it go on after a loss: what was in force still verifies and does not sign
    /// any more.
    pub(super) fn outlive(&mut self, now: Timestamp) {
        let was_accepted = self.state().is_accepted();
        self.life.outlive(self.created_at);
        if was_accepted && !self.state().is_accepted() {
            self.record.ended = Some(Ended { at: now, by: End::Recovery });
        }
    }

    /// What it is good for, in a word.
    #[must_use]
    pub fn state(&self) -> State {
        self.life.state()
    }

    /// When Kyverno had accepted it for the whole soak. From then on pipelines
    /// receive it and no older one, whatever a replica has heard itself.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<Timestamp> {
        self.life.past().acknowledged_at()
    }

    /// When it began to sign.
    #[must_use]
    pub fn activated_at(&self) -> Option<Timestamp> {
        self.life.past().activated_at()
    }

    /// Whether it ever signed, so that images may carry its signature.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        self.activated_at().is_some()
    }

    /// Whether it was minted to stand by, and no rotation has called for it yet.
    #[must_use]
    pub(crate) fn is_spare(&self) -> bool {
        self.life.past().is_spare()
    }

    /// The digest of its private key (see [`PrivateKeyRef::digest`]), while what
    /// that signs is accepted and the digest is known.
    #[must_use]
    pub fn key_digest(&self) -> Option<&str> {
        self.life.key_digest()
    }

    /// Where its private key is, while it exists.
    #[must_use]
    pub fn private_key(&self) -> Option<&PrivateKeyRef> {
        self.life.private_key()
    }
}

/// A version as a ring's status tells of it: what is known of one whose
/// private key is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KnownVersion {
    /// Its number.
    pub number: u32,
    /// SubjectPublicKeyInfo as PEM.
    pub public_key: String,
    /// What names it.
    pub fingerprint: Fingerprint,
    /// When the pair was generated.
    pub created_at: Timestamp,
    /// What it was good for.
    pub state: State,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// What is remembered of it.
    pub record: Record,
}

impl KnownVersion {
    /// Whether a ledger may hold it: statuses are written by others, too.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.number > 0 && shape::is_pem(&self.public_key)
    }

    /// The version as it goes on after a loss. What was in force still
    /// verifies and does not sign any more.
    #[must_use]
    pub(super) fn restored(&self) -> Version {
        let past = Past::of(None, self.activated_at, false);
        Version {
            number: self.number,
            algorithm: Cow::Borrowed(ALGORITHM),
            public_key: PublicKey::from(&*self.public_key),
            fingerprint: self.fingerprint.clone(),
            created_at: self.created_at,
            // One that verifies again has no end.
            record: match self.state {
                State::Retired | State::Revoked => self.record,
                State::Pending | State::Standby | State::Current | State::Accepted => {
                    Record { ended: None, ..self.record }
                }
            },
            life: match self.state {
                State::Revoked => Life::Revoked(past),
                State::Retired | State::Standby => Life::Retired(past),
                State::Pending | State::Current | State::Accepted => {
                    Life::Accepted { signed: past.signed_since(self.created_at), key_digest: None }
                }
            },
        }
    }
}
