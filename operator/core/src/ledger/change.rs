//! Transitions of a ledger: what a commit does, and what becomes of it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    FORMAT, Ledger, PipelineRef, RETIRED_KEPT, Rule, RuleSettings, State, TOKENS_KEPT, Token,
    Version,
};

/// The public half of a key pair that was just generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// SubjectPublicKeyInfo as PEM.
    pub public_key: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// One transition of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new Pending version and the token that asked for it, in one commit.
    Mint {
        /// Its number.
        version: u32,
        /// SHA-256 of the token it answers, if a token asked.
        token: Option<String>,
        /// The ring's rule as of now.
        rule: RuleSettings,
    },
    /// Kyverno has accepted the Pending version for the whole soak: pipelines
    /// may receive it.
    Acknowledge {
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
    Remove(RuleSettings),
}

/// A transition that does not fit the ledger it was planned for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A ring's first commit must mint a version or mark the ring removed.
    #[error("there is no ledger to change")]
    NoLedger,
    /// A mint without key, with a wrong number, or during a rotation.
    #[error("version {0} cannot be minted now")]
    Mint(u32),
    /// Only the Pending version can become Current.
    #[error("version {0} is not pending")]
    NotPending(u32),
}

impl Ledger {
    /// What becomes of a ring's ledger by a change.
    ///
    /// # Errors
    /// If the change does not fit, which a plan made from this ledger never does.
    pub fn apply(
        base: Option<&Self>,
        change: &Change,
        key: Option<NewKey>,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let mut next = match (base, change) {
            (Some(base), _) => base.clone(),
            (None, Change::Mint { rule, .. } | Change::Remove(rule)) => Self::empty(rule.clone()),
            (None, _) => return Err(ChangeError::NoLedger),
        };
        next.sequence += 1;
        match change {
            Change::Mint { version, token, rule } => {
                next.mint(*version, key.ok_or(ChangeError::Mint(*version))?, now)?;
                next.rule.settings = rule.clone();
                next.remember(token.as_deref(), *version);
            }
            Change::Acknowledge { version } => {
                next.pending_mut(*version)?.acknowledged_at = Some(now);
            }
            Change::Activate { version, keep } => {
                next.activate(*version, now)?;
                next.move_window(*keep);
            }
            Change::Window { keep } => next.move_window(*keep),
            Change::Rule(settings) => next.rule.settings = settings.clone(),
            Change::Publications { add, strike } => {
                next.publications.extend(add.iter().cloned());
                next.publications.retain(|p| !strike.contains(p));
                next.leaving.retain(|p| !strike.contains(p) && !add.contains(p));
            }
            Change::Withdraw(leaving) => next.leaving.extend(leaving.iter().cloned()),
            Change::Remove(settings) => {
                next.removed = true;
                next.rule.settings = settings.clone();
            }
        }
        if base.is_none_or(|base| base.shown() != next.shown()) {
            next.rule.sequence = next.sequence;
        }
        Ok(next)
    }

    fn empty(rule: RuleSettings) -> Self {
        Self {
            format: FORMAT,
            sequence: 0,
            versions: Vec::new(),
            tokens: Vec::new(),
            publications: BTreeSet::new(),
            leaving: BTreeSet::new(),
            rule: Rule { sequence: 0, settings: rule },
            removed: false,
        }
    }

    /// What the policies show of the ring.
    fn shown(&self) -> (Vec<&str>, &RuleSettings, bool) {
        let keys = self.accepted().map(|v| v.fingerprint.as_str()).collect();
        (keys, &self.rule.settings, self.removed)
    }

    fn mint(&mut self, number: u32, key: NewKey, now: Timestamp) -> Result<(), ChangeError> {
        let next = self.newest().map_or(1, |v| v.number + 1);
        if number != next || self.pending().is_some() {
            return Err(ChangeError::Mint(number));
        }
        self.versions.push(Version {
            number,
            algorithm: "ECDSA-P256".to_owned(),
            state: State::Pending,
            public_key: key.public_key,
            fingerprint: key.fingerprint,
            created_at: now,
            acknowledged_at: None,
            activated_at: None,
        });
        Ok(())
    }

    fn pending_mut(&mut self, number: u32) -> Result<&mut Version, ChangeError> {
        let pending = |v: &&mut Version| v.number == number && v.state == State::Pending;
        self.versions.iter_mut().find(pending).ok_or(ChangeError::NotPending(number))
    }

    fn remember(&mut self, token: Option<&str>, version: u32) {
        if let Some(hash) = token {
            self.tokens.push(Token { hash: hash.to_owned(), version });
            let excess = self.tokens.len().saturating_sub(TOKENS_KEPT);
            self.tokens.drain(..excess);
        }
    }

    fn activate(&mut self, number: u32, now: Timestamp) -> Result<(), ChangeError> {
        self.pending_mut(number)?;
        for version in &mut self.versions {
            if version.number == number {
                version.state = State::Current;
                version.activated_at = Some(now);
            } else if version.state == State::Current {
                version.state = State::Accepted;
            }
        }
        Ok(())
    }

    /// Accepts the newest `keep` versions that once signed, retires the rest
    /// and forgets retired ones beyond [`RETIRED_KEPT`].
    fn move_window(&mut self, keep: u32) {
        let states = self.window(keep);
        for (version, state) in self.versions.iter_mut().zip(states) {
            version.state = state;
        }
        let retired = self.versions.iter().filter(|v| v.state == State::Retired).count();
        let mut excess = retired.saturating_sub(RETIRED_KEPT);
        self.versions.retain(|v| {
            let forget = excess > 0 && v.state == State::Retired;
            excess -= usize::from(forget);
            !forget
        });
    }
}
