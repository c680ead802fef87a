//! A ledger as its JSON has it. The digest of a ledger's annotation is over
//! these bytes: the order of the fields, and which are left out, is the format.

use std::{borrow::Cow, collections::BTreeSet};

use base64ct::{Base64Unpadded, Encoding};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    Cause, End, Ended, Ledger, Life, Past, PipelineRef, PrivateKeyRef, Publications, Purpose,
    Record, Rule, State, Token, Version, version::ALGORITHM,
};
use crate::public_key::PublicKey;

/// A ledger.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LedgerJson<'a> {
    sequence: u64,
    versions: Vec<VersionJson<'a>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    revoked: Cow<'a, [String]>,
    tokens: Cow<'a, [Token]>,
    publications: BTreeSet<Cow<'a, PipelineRef>>,
    /// Those of the publications that are to be deleted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leaving: BTreeSet<Cow<'a, PipelineRef>>,
    rule: Cow<'a, Rule>,
    removed: bool,
}

fn is_empty(list: &[String]) -> bool {
    list.is_empty()
}

/// A version: of what its state does not call for there is nothing.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VersionJson<'a> {
    number: u32,
    algorithm: Cow<'a, str>,
    state: State,
    public_key: Cow<'a, str>,
    fingerprint: Cow<'a, str>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    standby: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<Cow<'a, PrivateKeyRef>>,
    /// Of one that verifies only. Since format 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_digest: Option<Cow<'a, str>>,
    /// Since format 7, as all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<End>,
}

impl<'a> From<&'a Ledger> for LedgerJson<'a> {
    fn from(ledger: &'a Ledger) -> Self {
        let publications = &ledger.publications;
        Self {
            sequence: ledger.sequence,
            versions: ledger.versions.iter().map(VersionJson::from).collect(),
            revoked: Cow::Borrowed(&ledger.revoked),
            tokens: Cow::Borrowed(&ledger.tokens),
            publications: publications.iter().map(Cow::Borrowed).collect(),
            leaving: publications.leaving().map(Cow::Borrowed).collect(),
            rule: Cow::Borrowed(&ledger.rule),
            removed: ledger.removed,
        }
    }
}

impl TryFrom<LedgerJson<'_>> for Ledger {
    type Error = &'static str;

    fn try_from(json: LedgerJson<'_>) -> Result<Self, Self::Error> {
        let mut publications = Publications::default();
        for pipeline in json.publications {
            publications.hold(pipeline.into_owned());
        }
        for pipeline in &json.leaving {
            if !publications.contains(pipeline) {
                return Err("a Secret is to be deleted that is not among the publications");
            }
            publications.withdraw(pipeline);
        }
        Ok(Self {
            sequence: json.sequence,
            versions: json.versions.into_iter().map(Version::try_from).collect::<Result<_, _>>()?,
            revoked: json.revoked.into_owned(),
            tokens: json.tokens.into_owned(),
            publications,
            rule: json.rule.into_owned(),
            removed: json.removed,
        })
    }
}

/// Stands before a token's hash that is kept in base64: random as it is, it takes up less.
/// What begins with it anyhow, which only somebody else writes, has it twice.
const BASE64: char = '=';

/// A token as this process keeps it for itself.
fn shortened(token: &Token) -> Token {
    let bytes = Some(&token.hash).filter(|hash| hash.len() == 64);
    let bytes = bytes.and_then(|hash| base16ct::lower::decode_vec(hash).ok());
    let hash = match bytes {
        Some(bytes) => format!("{BASE64}{}", Base64Unpadded::encode_string(&bytes)),
        None if token.hash.starts_with(BASE64) => format!("{BASE64}{}", token.hash),
        None => token.hash.clone(),
    };
    Token { hash, version: token.version }
}

/// The token that was shortened to this.
fn in_full(token: &mut Token) {
    let Some(kept) = token.hash.strip_prefix(BASE64) else { return };
    token.hash = match Base64Unpadded::decode_vec(kept) {
        Ok(bytes) => base16ct::lower::encode_string(&bytes),
        Err(_) => kept.to_owned(),
    };
}

/// As this process keeps it for itself: without the digest that an annotation has, without
/// what follows from a key, and with less for each token.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = LedgerJson::from(self);
        for (json, version) in json.versions.iter_mut().zip(&self.versions) {
            if version.public_key.fingerprint().as_ref() == Some(&version.fingerprint) {
                json.fingerprint = Cow::Borrowed("");
            }
        }
        json.tokens = self.tokens.iter().map(shortened).collect();
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ledger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut json = LedgerJson::deserialize(deserializer)?;
        for version in json.versions.iter_mut().filter(|version| version.fingerprint.is_empty()) {
            let fingerprint = PublicKey::from(&*version.public_key).fingerprint();
            version.fingerprint = Cow::Owned(fingerprint.map_or_else(String::new, Into::into));
        }
        json.tokens.to_mut().iter_mut().for_each(in_full);
        json.try_into().map_err(D::Error::custom)
    }
}

impl<'a> From<&'a Version> for VersionJson<'a> {
    fn from(version: &'a Version) -> Self {
        Self {
            number: version.number,
            algorithm: Cow::Borrowed(&*version.algorithm),
            state: version.state(),
            public_key: version.public_key.text(),
            fingerprint: Cow::Borrowed(version.fingerprint.as_str()),
            created_at: version.created_at,
            acknowledged_at: version.acknowledged_at(),
            activated_at: version.activated_at(),
            standby: version.is_spare(),
            private_key: version.private_key().map(Cow::Borrowed),
            key_digest: match &version.life {
                Life::Accepted { key_digest, .. } => key_digest.as_deref().map(Cow::Borrowed),
                _ => None,
            },
            cause: version.record.cause,
            ended_at: version.record.ended.map(|ended| ended.at),
            ended_by: version.record.ended.map(|ended| ended.by),
        }
    }
}

impl TryFrom<VersionJson<'_>> for Version {
    type Error = &'static str;

    fn try_from(json: VersionJson<'_>) -> Result<Self, Self::Error> {
        let life = life(&json)?;
        let ended = match (json.ended_at, json.ended_by) {
            (Some(at), Some(by)) if !json.state.is_accepted() => Some(Ended { at, by }),
            (None, None) => None,
            _ => return Err("a version has half an end, or one that its state does not call for"),
        };
        Ok(Self {
            number: json.number,
            algorithm: match &*json.algorithm {
                ALGORITHM => Cow::Borrowed(ALGORITHM),
                other => Cow::Owned(other.to_owned()),
            },
            public_key: PublicKey::from(&*json.public_key),
            fingerprint: json
                .fingerprint
                .parse()
                .map_err(|_| "a fingerprint is not SHA256: and base64")?,
            created_at: json.created_at,
            life,
            record: Record { cause: json.cause, ended },
        })
    }
}

fn life(json: &VersionJson<'_>) -> Result<Life, &'static str> {
    let (acknowledged_at, spare) = (json.acknowledged_at, json.standby);
    let past = Past::of(acknowledged_at, json.activated_at, spare);
    let held = json.private_key.as_deref().cloned();
    let key_digest = json.key_digest.as_deref().map(str::to_owned);
    if key_digest.is_some() && json.state != State::Accepted {
        return Err("a version has the digest of a key that its state does not call for");
    }
    Ok(match (json.state, held, past) {
        (State::Pending, Some(private_key), Past::Unsigned { acknowledged_at, spare: false }) => {
            Life::Pending { purpose: Purpose::Sign { acknowledged_at }, private_key }
        }
        (
            State::Pending,
            Some(private_key),
            Past::Unsigned { acknowledged_at: None, spare: true },
        ) => Life::Pending { purpose: Purpose::StandBy, private_key },
        (
            State::Standby,
            Some(private_key),
            Past::Unsigned { acknowledged_at: Some(acknowledged_at), spare: true },
        ) => Life::Standby { acknowledged_at, private_key },
        (State::Current, Some(private_key), Past::Signed(signed)) if !spare => {
            Life::Current { acknowledged_at, activated_at: signed.activated_at, private_key }
        }
        (State::Accepted, None, Past::Signed(signed)) => Life::Accepted { signed, key_digest },
        (State::Retired, None, past) => Life::Retired(past),
        (State::Revoked, None, past) => Life::Revoked(past),
        (State::Pending | State::Standby | State::Current, None, _)
        | (State::Accepted | State::Retired | State::Revoked, Some(_), _) => {
            return Err(
                "a version has a private key that its state does not call for, or lacks it",
            );
        }
        _ => return Err("a version has times that its state does not call for, or lacks them"),
    })
}
