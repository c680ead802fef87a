//! What a version is good for, with what belongs to each state and nothing
//! else, and how it gets from one to the next.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a version is good for, and what belongs to that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// Minted; Kyverno is being told.
    Pending {
        /// What it waits for.
        purpose: Purpose,
        /// Where its private key is.
        private_key: PrivateKeyRef,
    },
    /// Kyverno accepts it; it waits to replace the version that signs.
    Standby {
        /// When Kyverno had accepted it for the whole soak.
        acknowledged_at: Timestamp,
        /// Where its private key is.
        private_key: PrivateKeyRef,
    },
    /// Signs and verifies.
    Current {
        /// When Kyverno had accepted it for the whole soak.
        acknowledged_at: Option<Timestamp>,
        /// When it began to sign.
        activated_at: Timestamp,
        /// Where its private key is.
        private_key: PrivateKeyRef,
    },
    /// Verifies only.
    Accepted {
        /// What it has been.
        signed: Signed,
        /// Its private key's [`PrivateKeyRef::digest`], by which a copy of the
        /// key is known that somebody kept. Nothing where a ledger of format 2
        /// or a loss has left none.
        key_digest: Option<String>,
    },
    /// Fell out of the window, or was discarded before it signed.
    Retired(Past),
    /// Taken out by the user, for ever.
    Revoked(Past),
}

/// What a pending version waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To sign.
    Sign {
        /// When Kyverno had accepted it for the whole soak. From then on
        /// pipelines receive it.
        acknowledged_at: Option<Timestamp>,
    },
    /// To stand by, once Kyverno has accepted it.
    StandBy,
}

/// What a version has been that signed and does not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signed {
    /// When Kyverno had accepted it for the whole soak.
    pub acknowledged_at: Option<Timestamp>,
    /// When it began to sign.
    pub activated_at: Timestamp,
    /// Whether it was minted to stand by and no rotation had called for it:
    /// after a loss it counts as one that may have signed.
    pub spare: bool,
}

/// What a version has been that is not in force any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Past {
    /// It signed, so that images may carry its signature.
    Signed(Signed),
    /// It never did.
    Unsigned {
        /// When Kyverno had accepted it for the whole soak.
        acknowledged_at: Option<Timestamp>,
        /// Whether it was minted to stand by and no rotation had called for it.
        spare: bool,
    },
}

impl Past {
    pub(super) fn of(
        acknowledged_at: Option<Timestamp>,
        activated_at: Option<Timestamp>,
        spare: bool,
    ) -> Self {
        match activated_at {
            Some(activated_at) => Self::Signed(Signed { acknowledged_at, activated_at, spare }),
            None => Self::Unsigned { acknowledged_at, spare },
        }
    }

    pub(super) fn acknowledged_at(self) -> Option<Timestamp> {
        match self {
            Self::Signed(Signed { acknowledged_at, .. })
            | Self::Unsigned { acknowledged_at, .. } => acknowledged_at,
        }
    }

    pub(super) fn activated_at(self) -> Option<Timestamp> {
        match self {
            Self::Signed(signed) => Some(signed.activated_at),
            Self::Unsigned { .. } => None,
        }
    }

    pub(super) fn is_spare(self) -> bool {
        match self {
            Self::Signed(Signed { spare, .. }) | Self::Unsigned { spare, .. } => spare,
        }
    }

    /// As of a version that may have signed, since this time if it is not known.
    pub(super) fn signed_since(self, time: Timestamp) -> Signed {
        match self {
            Self::Signed(signed) => signed,
            Self::Unsigned { acknowledged_at, spare } => {
                Signed { acknowledged_at, activated_at: time, spare }
            }
        }
    }
}

impl Life {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Pending { .. } => State::Pending,
            Self::Standby { .. } => State::Standby,
            Self::Current { .. } => State::Current,
            Self::Accepted { .. } => State::Accepted,
            Self::Retired(_) => State::Retired,
            Self::Revoked(_) => State::Revoked,
        }
    }

    /// What is left of it without its private key.
    pub(super) fn past(&self) -> Past {
        match *self {
            Self::Pending { purpose: Purpose::Sign { acknowledged_at }, .. } => {
                Past::of(acknowledged_at, None, false)
            }
            Self::Pending { purpose: Purpose::StandBy, .. } => Past::of(None, None, true),
            Self::Standby { acknowledged_at, .. } => Past::of(Some(acknowledged_at), None, true),
            Self::Current { acknowledged_at, activated_at, .. } => {
                Past::of(acknowledged_at, Some(activated_at), false)
            }
            Self::Accepted { signed, .. } => Past::Signed(signed),
            Self::Retired(past) | Self::Revoked(past) => past,
        }
    }

    pub(super) fn private_key(&self) -> Option<&PrivateKeyRef> {
        match self {
            Self::Pending { private_key, .. }
            | Self::Standby { private_key, .. }
            | Self::Current { private_key, .. } => Some(private_key),
            Self::Accepted { .. } | Self::Retired(_) | Self::Revoked(_) => None,
        }
    }

    /// The digest of its private key, while what that signs is accepted.
    pub(super) fn key_digest(&self) -> Option<&str> {
        match self {
            Self::Accepted { key_digest, .. } => key_digest.as_deref(),
            other => other.private_key().map(|key| key.digest.as_str()),
        }
    }

    /// Takes the version out of the window.
    pub(super) fn retire(&mut self) {
        *self = Self::Retired(self.past());
    }

    /// Takes it out for ever.
    pub(super) fn revoke(&mut self) {
        *self = Self::Revoked(self.past());
    }

    /// Has it verify only; one that never signed is left as it is.
    pub(super) fn accept(&mut self) {
        if let Past::Signed(signed) = self.past() {
            let key_digest = self.key_digest().map(str::to_owned);
            *self = Self::Accepted { signed, key_digest };
        }
    }

    /// Has it go on after a loss: what was in force still verifies and does
    /// not sign any more.
    pub(super) fn outlive(&mut self, created_at: Timestamp) {
        match self {
            Self::Standby { .. } => self.retire(),
            // A pending version may have reached a pipeline and signed.
            Self::Pending { .. } | Self::Current { .. } | Self::Accepted { .. } => {
                let signed = self.past().signed_since(created_at);
                let key_digest = self.key_digest().map(str::to_owned);
                *self = Self::Accepted { signed, key_digest };
            }
            Self::Retired(_) | Self::Revoked(_) => {}
        }
    }

    /// That of a version that waits to sign, if it is one.
    pub(super) fn waiting(&mut self) -> Option<Waiting<'_>> {
        let private_key = match self {
            Self::Pending { private_key, .. } | Self::Standby { private_key, .. } => {
                private_key.clone()
            }
            _ => return None,
        };
        let past = self.past();
        Some(Waiting { life: self, past, private_key })
    }
}

/// A version that waits to sign: pending, or standing by.
pub(super) struct Waiting<'a> {
    life: &'a mut Life,
    past: Past,
    private_key: PrivateKeyRef,
}

impl Waiting<'_> {
    /// Kyverno has accepted it for the whole soak.
    pub(super) fn acknowledge(self, now: Timestamp) {
        let private_key = self.private_key;
        *self.life = if self.past.is_spare() {
            Life::Standby { acknowledged_at: now, private_key }
        } else {
            let purpose = Purpose::Sign { acknowledged_at: Some(now) };
            Life::Pending { purpose, private_key }
        };
    }

    /// Kyverno has to accept it once more.
    pub(super) fn start_over(self) {
        let purpose = if self.past.is_spare() {
            Purpose::StandBy
        } else {
            Purpose::Sign { acknowledged_at: None }
        };
        *self.life = Life::Pending { purpose, private_key: self.private_key };
    }

    /// It is the next to sign.
    pub(super) fn promote(self) {
        let purpose = Purpose::Sign { acknowledged_at: self.past.acknowledged_at() };
        *self.life = Life::Pending { purpose, private_key: self.private_key };
    }

    /// It is given up.
    pub(super) fn discard(self) {
        *self.life = Life::Retired(self.past);
    }

    /// It signs.
    pub(super) fn activate(self, now: Timestamp) {
        *self.life = Life::Current {
            acknowledged_at: self.past.acknowledged_at(),
            activated_at: now,
            private_key: self.private_key,
        };
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
    /// Whether Kyverno accepts what such a version signed.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        !matches!(self, Self::Retired | Self::Revoked)
    }
}
