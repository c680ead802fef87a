//! What a ledger says, read by eyes of the run's own: none of the operator's
//! code has a part in judging the operator.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// The annotation that holds it.
const ANNOTATION: &str = "signing.odj.cloud/ledger";

/// The part of a ledger that the run judges by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The versions by number.
    pub versions: BTreeMap<u32, Version>,
    /// Which version each rotation token asked for, by the token's hash.
    pub tokens: Vec<(String, u32)>,
    /// The sequence of what the policies say of the ring.
    pub rule: u64,
    /// Whether images are refused, or only reported.
    pub enforces: bool,
    /// The policy that holds the ring's rule.
    pub policy: String,
}

/// A version in a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `Pending`, `Current`, ...
    pub state: String,
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// Its public key as PEM.
    pub public_key: String,
    /// Whether it ever signed.
    pub activated: bool,
}

impl Version {
    /// Whether an image that it signed is to be admitted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        !matches!(self.state.as_str(), "Retired" | "Revoked")
    }
}

impl Ledger {
    /// Reads the ledger of a Secret's annotations.
    ///
    /// # Errors
    /// If there is none that can be read.
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Result<Self> {
        let text = annotations.and_then(|all| all.get(ANNOTATION)).context("no annotation")?;
        let whole: Value = serde_json::from_str(text)?;
        let json = whole.get("ledger").unwrap_or(&whole);
        let versions = json["versions"].as_array().context("no versions")?;
        let versions = versions.iter().map(version).collect::<Result<_>>()?;
        let tokens = json["tokens"].as_array().context("no tokens")?;
        let rule = &json["rule"];
        Ok(Self {
            versions,
            tokens: tokens.iter().map(token).collect::<Result<_>>()?,
            rule: rule["sequence"].as_u64().context("no sequence")?,
            enforces: text_of(&rule["settings"], "action")? == "Enforce",
            policy: text_of(&rule["settings"], "policy")?,
        })
    }

    /// The version that signs.
    #[must_use]
    pub fn current(&self) -> Option<u32> {
        let current = self.versions.iter().find(|(_, version)| version.state == "Current");
        current.map(|(number, _)| *number)
    }
}

fn version(json: &Value) -> Result<(u32, Version)> {
    let version = Version {
        state: text_of(json, "state")?,
        fingerprint: text_of(json, "fingerprint")?,
        public_key: text_of(json, "publicKey")?,
        activated: json.get("activatedAt").is_some_and(|at| !at.is_null()),
    };
    Ok((number_of(json, "number")?, version))
}

fn token(json: &Value) -> Result<(String, u32)> {
    Ok((text_of(json, "hash")?, number_of(json, "version")?))
}

fn text_of(json: &Value, field: &str) -> Result<String> {
    Ok(json[field].as_str().with_context(|| format!("no {field}"))?.to_owned())
}

fn number_of(json: &Value, field: &str) -> Result<u32> {
    let number = json[field].as_u64().with_context(|| format!("no {field}"))?;
    Ok(u32::try_from(number)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_an_envelope() {
        let bare = r#"{"versions": [{"number": 3, "state": "Current", "fingerprint": "SHA256:a",
            "publicKey": "pem", "activatedAt": "2026-01-01T00:00:00Z"}],
            "tokens": [{"hash": "aa", "version": 3}],
            "rule": {"sequence": 9, "settings": {"action": "Enforce", "policy": "p"}}}"#;
        for text in [bare.to_owned(), format!(r#"{{"digest": "x", "ledger": {bare}}}"#)] {
            let ledger = Ledger::read(Some(&[(ANNOTATION.to_owned(), text)].into())).unwrap();
            assert_eq!(ledger.current(), Some(3));
            assert_eq!(ledger.tokens, [("aa".to_owned(), 3)]);
            assert!(ledger.enforces && ledger.rule == 9 && ledger.versions[&3].activated);
        }
        assert!(Ledger::read(None).is_err());
    }
}
