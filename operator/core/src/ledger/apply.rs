//! What becomes of a ledger by a transition.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Cause, Change, End, Ended, Ledger, Life, Mint, NewKey, Publications, Purpose, RETIRED_KEPT,
    REVOKED_KEPT, Record, Recovery, Rule, RuleSettings, State, TOKENS_KEPT, Token, Version,
    life::Waiting, version::ALGORITHM,
};
use crate::{high_water::short, public_key::PublicKey};

/// A transition that does not fit the ledger it was planned for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A ring's first commit must mint a version, begin without one or mark the
    /// ring removed.
    #[error("there is no ledger to change")]
    NoLedger,
    /// A mint with a wrong number, or during a rotation.
    #[error("version {0} cannot be minted now")]
    Mint(u32),
    /// Only a Pending or Standby version can become Current, stand by or be given up.
    #[error("version {0} is neither pending nor standing by")]
    NotWaiting(u32),
    /// What would be written could not be read again.
    #[error("the ledger would contradict itself: {0}")]
    Unfit(&'static str),
}

impl Ledger {
    /// What becomes of a ring's ledger by a new version, with its key.
    ///
    /// # Errors
    /// If the version does not fit, which one planned from this ledger always does.
    pub fn mint(
        base: Option<&Self>,
        mint: &Mint,
        key: NewKey,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let mut next = base.cloned().unwrap_or_else(|| Self::empty(mint.rule().clone()));
        next.sequence += 1;
        match mint {
            Mint::New { version, token, cause, rule } => {
                next.add(*version, *cause, key, now)?;
                next.rule.settings = rule.clone();
                next.remember(token.as_deref(), *version);
            }
            Mint::Import { version, token, rule, .. } => {
                next.add(*version, Cause::Import, key, now)?;
                next.rule.settings = rule.clone();
                next.remember(token.as_deref(), *version);
            }
            Mint::Recover(recovery) => {
                next.recover(recovery, key, now)?;
                next.rule.sequence = next.sequence;
            }
        }
        next.shown_since(base).checked()
    }

    /// What becomes of a ring's ledger by a change.
    ///
    /// # Errors
    /// If the change does not fit, which a plan made from this ledger never does.
    pub fn apply(
        base: Option<&Self>,
        change: &Change,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let mut next = match (base, change) {
            (Some(base), _) => base.clone(),
            (None, Change::Remove { rule, .. } | Change::Begin { rule, .. }) => {
                Self::empty(rule.clone())
            }
            (None, _) => return Err(ChangeError::NoLedger),
        };
        next.sequence += 1;
        match change {
            Change::Acknowledge { version, add } => {
                next.waiting(*version)?.acknowledge(now);
                add.iter().for_each(|pipeline| next.publications.hold(pipeline.clone()));
            }
            Change::Promote { version, token, cause } => {
                next.waiting(*version)?.promote();
                next.note(*version, |record| record.cause = Some(*cause));
                next.remember(token.as_deref(), *version);
            }
            Change::Discard { version } => {
                next.waiting(*version)?.discard();
                let ended = Ended { at: now, by: End::Discard };
                next.note(*version, |record| record.ended = Some(ended));
            }
            Change::Activate { version, keep } => {
                next.activate(*version, now)?;
                next.move_window(*keep, now, End::Rotation);
            }
            Change::Revoke { versions, promote, keep } => {
                next.revoke(versions, now);
                if let Some(version) = promote {
                    next.activate(*version, now)?;
                    next.note(*version, |record| record.cause = Some(Cause::Revocation));
                    next.move_window(*keep, now, End::Rotation);
                }
            }
            Change::CorrectTimes => next.correct_times(now),
            Change::Window { keep } => next.move_window(*keep, now, End::Window),
            Change::Rule(settings) => next.change_rule(settings),
            Change::Publications { add, strike } => {
                add.iter().for_each(|pipeline| next.publications.hold(pipeline.clone()));
                strike.iter().for_each(|pipeline| next.publications.strike(pipeline));
            }
            Change::Withdraw(leaving) => {
                leaving.iter().for_each(|pipeline| next.publications.withdraw(pipeline));
            }
            Change::Begin { above, .. } => {
                next.sequence = next.sequence.max(above + 1);
                next.rule.sequence = next.sequence;
            }
            Change::Remove { rule, above } => {
                next.removed = true;
                next.rule.settings = rule.clone();
                next.sequence = next.sequence.max(above + 1);
                // Whatever mark somebody has put above it since.
                next.rule.sequence = next.sequence;
            }
        }
        next.shown_since(base).checked()
    }

    /// It, if it can be read once it was written.
    fn checked(self) -> Result<Self, ChangeError> {
        self.check().map_err(ChangeError::Unfit)?;
        Ok(self)
    }

    fn empty(rule: RuleSettings) -> Self {
        Self {
            sequence: 0,
            versions: Vec::new(),
            revoked: Vec::new(),
            tokens: Vec::new(),
            publications: Publications::default(),
            rule: Rule { sequence: 0, settings: rule },
            removed: false,
        }
    }

    /// Has the rule's sequence move if the policies are to show something else
    /// than before.
    fn shown_since(mut self, base: Option<&Self>) -> Self {
        if base.is_none_or(|base| base.shown() != self.shown()) {
            self.rule.sequence = self.sequence;
        }
        self
    }

    /// What the policies show of the ring.
    fn shown(&self) -> (Vec<&str>, &RuleSettings, bool) {
        let keys = self.accepted().map(|v| v.fingerprint.as_str()).collect();
        (keys, &self.rule.settings, self.removed)
    }

    /// Numbers may be left out, those that witnesses or revocations name, and
    /// never go back.
    fn add(
        &mut self,
        number: u32,
        cause: Cause,
        key: NewKey,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let purpose = match cause {
            Cause::Standby => Purpose::StandBy,
            _ => Purpose::Sign { acknowledged_at: None },
        };
        let waits = self.pending().is_some() || self.standby().is_some();
        if waits || self.newest().is_some_and(|newest| newest.number >= number) {
            return Err(ChangeError::Mint(number));
        }
        self.versions.push(Version {
            number,
            algorithm: ALGORITHM.into(),
            public_key: PublicKey::from(&*key.public_key),
            fingerprint: key.fingerprint,
            created_at: now,
            life: Life::Pending { purpose, private_key: key.private_key },
            record: Record { cause: Some(cause), ended: None },
        });
        Ok(())
    }

    /// Notes something of a version.
    fn note(&mut self, number: u32, note: impl FnOnce(&mut Record)) {
        if let Some(version) = self.versions.iter_mut().find(|v| v.number == number) {
            note(&mut version.record);
        }
    }

    /// Every version that was in force still verifies and none of them signs
    /// any more: whatever the loss was, their private keys are not to be relied on.
    fn recover(
        &mut self,
        recovery: &Recovery,
        key: NewKey,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        for version in &mut self.versions {
            version.outlive(now);
        }
        for known in &recovery.known {
            if self.by_number(known.number).is_none() {
                self.versions.push(known.restored());
            }
        }
        self.versions.sort_by_key(|v| v.number);
        let newly: BTreeSet<u32> = self
            .versions
            .iter()
            .filter(|v| recovery.revoked.contains(&short(v.fingerprint.as_str())))
            .map(|v| v.number)
            .collect();
        self.revoke(&newly, now);
        let unknown = recovery.revoked.iter().filter(|hash| !self.revoked.contains(hash));
        let unknown: Vec<String> = unknown.cloned().collect();
        self.revoked.splice(0..0, unknown);
        self.move_window(recovery.keep, now, End::Recovery);
        self.add(recovery.version, Cause::Recovery, key, now)?;
        let publications = recovery.publications.iter().cloned();
        publications.for_each(|pipeline| self.publications.remember(pipeline));
        self.rule.settings = recovery.rule.clone();
        self.remember(recovery.token.as_deref(), recovery.version);
        self.removed = false;
        self.sequence = self.sequence.max(recovery.above + 1);
        Ok(())
    }

    /// Another policy has not acknowledged what the one before it has: a
    /// version that waits has to be accepted there as well before it signs.
    fn change_rule(&mut self, settings: &RuleSettings) {
        if settings.policy != self.rule.settings.policy {
            let waiting = self.versions.iter_mut().filter_map(|v| v.life.waiting());
            waiting.for_each(Waiting::start_over);
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

    fn waiting(&mut self, number: u32) -> Result<Waiting<'_>, ChangeError> {
        self.versions
            .iter_mut()
            .find(|v| v.number == number)
            .and_then(|v| v.life.waiting())
            .ok_or(ChangeError::NotWaiting(number))
    }

    /// The one that signed until now only verifies from now on.
    fn activate(&mut self, number: u32, now: Timestamp) -> Result<(), ChangeError> {
        let before = self.current().map(|v| v.number);
        self.waiting(number)?.activate(now);
        let before = self.versions.iter_mut().find(|v| Some(v.number) == before);
        before.into_iter().for_each(Version::accept);
        Ok(())
    }

    fn revoke(&mut self, numbers: &BTreeSet<u32>, now: Timestamp) {
        for version in self.versions.iter_mut().filter(|v| numbers.contains(&v.number)) {
            version.revoke(now);
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
    fn move_window(&mut self, keep: u32, now: Timestamp, by: End) {
        let states = self.window(keep);
        for (version, state) in self.versions.iter_mut().zip(states) {
            match state {
                State::Accepted => version.accept(),
                State::Retired => version.retire(now, by),
                State::Pending | State::Standby | State::Current | State::Revoked => {}
            }
        }
        let out = self.versions.iter().filter(|v| !v.state().is_accepted()).count();
        let mut excess = out.saturating_sub(RETIRED_KEPT);
        self.versions.retain(|v| {
            let forget = excess > 0 && !v.state().is_accepted();
            excess -= usize::from(forget);
            !forget
        });
    }
}
