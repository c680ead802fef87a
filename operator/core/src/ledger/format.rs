//! A ledger's annotation: `{"format", "digest", "ledger"}`. The digest is over
//! the ledger's bytes, so that a text that was cut or edited by hand is known
//! for what it is and never acted on.

use base16ct::lower::encode_string as hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Ledger, Phase, Record, State, shape, wire::LedgerJson};
use crate::policy_ref::{PolicyKind, PolicyRef};

/// The format that is written while the ring's rule is in ClusterPolicies alone.
const FORMAT: u32 = 3;

/// The format before it, which is read: it has no digests of the keys that
/// verify only, and no ledger without versions.
const BEFORE: u32 = 2;

/// The format of a ledger that names a policy of another kind. An operator that knows
/// none is told by it to leave the ledger alone, and that the ledger is sound.
const OF_KINDS: u32 = 4;

/// The format of a ledger that has registry credentials, told apart for the same reason.
const WITH_CREDENTIALS: u32 = 5;

/// The same of a ledger that says how far a move has come.
const OF_MOVES: u32 = 6;

/// The same of a ledger that remembers why a version came, or how it went: each that was
/// changed since this format came.
const WITH_RECORDS: u32 = 7;

/// A ledger that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Not the JSON this operator writes.
    #[error("its annotation cannot be read: {0}")]
    Unreadable(String),
    /// The text is not the one that was written.
    #[error("its annotation was cut or edited: its digest does not fit")]
    Edited,
    /// JSON that contradicts itself.
    #[error("its annotation contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// Written by another operator version.
    #[error(
        "it has format {0}, this operator reads the formats {BEFORE} to {WITH_RECORDS}; run the operator \
         that wrote it"
    )]
    Format(u32),
}

impl Ledger {
    /// Reads a ledger's annotation.
    ///
    /// # Errors
    /// If it is not a ledger of this format, was edited, or contradicts
    /// itself. A damaged ledger is never repaired by guessing: the ring stalls.
    pub fn parse(json: &str) -> Result<Self, LedgerError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| LedgerError::Unreadable(error.to_string());
        let probe: Probe = serde_json::from_str(json).map_err(unreadable)?;
        if !(BEFORE..=WITH_RECORDS).contains(&probe.format) {
            return Err(LedgerError::Format(probe.format));
        }
        let text = sealed(json, probe.format).ok_or(LedgerError::Edited)?;
        let json: LedgerJson<'_> = serde_json::from_str(text).map_err(unreadable)?;
        let ledger = Self::try_from(json).and_then(|ledger| ledger.check().map(|()| ledger));
        ledger.map_err(LedgerError::Inconsistent)
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising plain structs with string keys cannot fail.
        let text = serde_json::to_string(&LedgerJson::from(self)).unwrap_or_default();
        let digest = hex(&Sha256::digest(text.as_bytes()));
        format!("{}{digest}{BODY}{text}{END}", head(self.format()))
    }

    fn format(&self) -> u32 {
        if self.versions.iter().any(|version| version.record != Record::default()) {
            return WITH_RECORDS;
        }
        let settings = &self.rule.settings;
        if settings.leaving.is_some_and(|leaving| leaving.phase != Phase::Arriving) {
            return OF_MOVES;
        }
        if !settings.credentials.is_empty() || !settings.left_credentials.is_empty() {
            return WITH_CREDENTIALS;
        }
        let mut kinds = settings.policies().map(PolicyRef::kind);
        if kinds.all(|kind| kind == PolicyKind::ClusterPolicy) { FORMAT } else { OF_KINDS }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        let versions = &self.versions;
        let count = |state| versions.iter().filter(|v| v.state() == state).count();
        if !versions.is_sorted_by(|a, b| a.number < b.number) {
            return Err("version numbers are not ascending");
        }
        if count(State::Pending) + count(State::Standby) > 1 || count(State::Current) > 1 {
            return Err("more than one version is pending or standing by, or current");
        }
        let waits = |state| matches!(state, State::Pending | State::Standby);
        if versions.iter().rev().skip(1).any(|v| waits(v.state())) {
            return Err("a version that is not the newest is pending or standing by");
        }
        shape::check(self)
    }
}

const BODY: &str = r#"","ledger":"#;
const END: &str = "}";

fn head(format: u32) -> String {
    format!(r#"{{"format":{format},"digest":""#)
}

/// The ledger's bytes, if the digest fits. The layout is taken literally:
/// whatever else says the same was not written by this operator.
fn sealed(json: &str, format: u32) -> Option<&str> {
    let (digest, rest) = json.strip_prefix(&head(format))?.split_once(BODY)?;
    let text = rest.strip_suffix(END)?;
    (hex(&Sha256::digest(text.as_bytes())) == digest).then_some(text)
}
