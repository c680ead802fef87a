//! What becomes of a ledger by a transition.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Change, Ledger, NewKey, RETIRED_KEPT, REVOKED_KEPT, Recovery, Rule, RuleSettings, State,
    TOKENS_KEPT, Token, Version,
};
use crate::high_water::short;

/// A transition that does not fit the ledger it was planned for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A ring's first commit must mint a version or mark the ring removed.
    #[error("there is no ledger to change")]
    NoLedger,
    /// A mint without key, with a wrong number, or during a rotation.
    #[error("version {0} cannot be minted now")]
    Mint(u32),
    /// Only a Pending or Standby version can become Current, stand by or be given up.
    #[error("version {0} is neither pending nor standing by")]
    NotWaiting(u32),
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
            (
                None,
                Change::Mint { rule, .. }
                | Change::Import { rule, .. }
                | Change::Recover(Recovery { rule, .. })
                | Change::Remove { rule, .. },
            ) => Self::empty(rule.clone()),
            (None, _) => return Err(ChangeError::NoLedger),
        };
        next.sequence += 1;
        match change {
            Change::Mint { version, token, standby, rule } => {
                next.mint(*version, *standby, key, now)?;
                next.rule.settings = rule.clone();
                next.remember(token.as_deref(), *version);
            }
            Change::Import { token, rule, .. } => {
                next.mint(1, false, key, now)?;
                next.rule.settings = rule.clone();
                next.remember(token.as_deref(), 1);
            }
            Change::Recover(recovery) => next.recover(recovery, key, now)?,
            Change::Acknowledge { version } => {
                let waiting = next.waiting(*version)?;
                waiting.acknowledged_at = Some(now);
                if waiting.standby {
                    waiting.state = State::Standby;
                }
            }
            Change::Promote { version, token } => {
                let waiting = next.waiting(*version)?;
                waiting.standby = false;
                waiting.state = State::Pending;
                next.remember(token.as_deref(), *version);
            }
            Change::Discard { version } => next.waiting(*version)?.state = State::Retired,
            Change::Activate { version, keep } => {
                next.activate(*version, now)?;
                next.move_window(*keep);
            }
            Change::Revoke { versions, promote, keep } => {
                next.revoke(versions);
                if let Some(version) = promote {
                    next.activate(*version, now)?;
                    next.move_window(*keep);
                }
            }
            Change::Window { keep } => next.move_window(*keep),
            Change::Rule(settings) => next.settle_in(settings),
            Change::Publications { add, strike } => {
                next.publications.extend(add.iter().cloned());
                next.publications.retain(|p| !strike.contains(p));
                next.leaving.retain(|p| !strike.contains(p) && !add.contains(p));
            }
            Change::Withdraw(leaving) => next.leaving.extend(leaving.iter().cloned()),
            Change::Remove { rule, above } => {
                next.removed = true;
                next.rule.settings = rule.clone();
                next.sequence = next.sequence.max(above + 1);
            }
        }
        for version in next.versions.iter_mut().filter(|v| !v.state.has_private_key()) {
            version.private_key = None;
        }
        if base.is_none_or(|base| base.shown() != next.shown())
            || matches!(change, Change::Recover(_))
        {
            next.rule.sequence = next.sequence;
        }
        Ok(next)
    }

    fn empty(rule: RuleSettings) -> Self {
        Self {
            sequence: 0,
            versions: Vec::new(),
            revoked: Vec::new(),
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

    /// Numbers may be left out, those that witnesses or revocations name, and
    /// never go back.
    fn mint(
        &mut self,
        number: u32,
        standby: bool,
        key: Option<NewKey>,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let waits = self.pending().is_some() || self.standby().is_some();
        let (Some(key), false, true) =
            (key, waits, self.newest().is_none_or(|newest| newest.number < number))
        else {
            return Err(ChangeError::Mint(number));
        };
        self.versions.push(Version {
            number,
            algorithm: "ECDSA-P256".to_owned(),
            state: State::Pending,
            public_key: key.public_key,
            fingerprint: key.fingerprint,
            created_at: now,
            acknowledged_at: None,
            activated_at: None,
            standby,
            private_key: Some(key.private_key),
        });
        Ok(())
    }

    /// Every version that was in force still verifies and none of them signs
    /// any more: whatever the loss was, their private keys are not to be relied on.
    fn recover(
        &mut self,
        recovery: &Recovery,
        key: Option<NewKey>,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        for known in &recovery.known {
            if self.by_number(known.number).is_none() {
                self.versions.push(known.clone());
            }
        }
        self.versions.sort_by_key(|v| v.number);
        for version in self.versions.iter_mut().filter(|v| v.state.is_accepted()) {
            if version.state == State::Standby {
                version.state = State::Retired;
                continue;
            }
            // A pending version may have reached a pipeline and signed.
            version.activated_at.get_or_insert(version.created_at);
            version.state = State::Accepted;
        }
        let newly: BTreeSet<u32> = self
            .versions
            .iter()
            .filter(|v| recovery.revoked.contains(&short(v.fingerprint.as_str())))
            .map(|v| v.number)
            .collect();
        self.revoke(&newly);
        let unknown = recovery.revoked.iter().filter(|hash| !self.revoked.contains(hash));
        let unknown: Vec<String> = unknown.cloned().collect();
        self.revoked.splice(0..0, unknown);
        self.move_window(recovery.keep);
        self.mint(recovery.version, false, key, now)?;
        self.publications.extend(recovery.publications.iter().cloned());
        self.rule.settings = recovery.rule.clone();
        self.remember(recovery.token.as_deref(), recovery.version);
        self.removed = false;
        self.sequence = self.sequence.max(recovery.above + 1);
        Ok(())
    }

    /// Another policy has not acknowledged what the one before it has: a
    /// version that waits has to be accepted there as well before it signs.
    fn settle_in(&mut self, settings: &RuleSettings) {
        if settings.policy != self.rule.settings.policy {
            for version in &mut self.versions {
                if matches!(version.state, State::Pending | State::Standby) {
                    version.state = State::Pending;
                    version.acknowledged_at = None;
                }
            }
        }
        self.rule.settings = settings.clone();
    }

    fn remember(&mut self, token: Option<&str>, version: u32) {
        if let Some(hash) = token {
            self.tokens.push(Token { hash: hash.to_owned(), version });
            let excess = self.tokens.len().saturating_sub(TOKENS_KEPT);
            self.tokens.drain(..excess);
        }
    }

    fn waiting(&mut self, number: u32) -> Result<&mut Version, ChangeError> {
        self.versions
            .iter_mut()
            .find(|v| v.number == number)
            .filter(|v| matches!(v.state, State::Pending | State::Standby))
            .ok_or(ChangeError::NotWaiting(number))
    }

    fn activate(&mut self, number: u32, now: Timestamp) -> Result<(), ChangeError> {
        self.waiting(number)?;
        for version in &mut self.versions {
            if version.number == number {
                version.state = State::Current;
                version.standby = false;
                version.activated_at = Some(now);
            } else if version.state == State::Current {
                version.state = State::Accepted;
            }
        }
        Ok(())
    }

    fn revoke(&mut self, numbers: &BTreeSet<u32>) {
        for version in self.versions.iter_mut().filter(|v| numbers.contains(&v.number)) {
            version.state = State::Revoked;
            let hash = short(version.fingerprint.as_str());
            if !self.revoked.contains(&hash) {
                self.revoked.push(hash);
            }
        }
        let excess = self.revoked.len().saturating_sub(REVOKED_KEPT);
        self.revoked.drain(..excess);
    }

    /// Accepts the newest `keep` versions that once signed, less the revoked,
    /// retires the rest and forgets what is out beyond [`RETIRED_KEPT`].
    fn move_window(&mut self, keep: u32) {
        let states = self.window(keep);
        for (version, state) in self.versions.iter_mut().zip(states) {
            version.state = state;
        }
        let out = self.versions.iter().filter(|v| !v.state.is_accepted()).count();
        let mut excess = out.saturating_sub(RETIRED_KEPT);
        self.versions.retain(|v| {
            let forget = excess > 0 && !v.state.is_accepted();
            excess -= usize::from(forget);
            !forget
        });
    }
}
