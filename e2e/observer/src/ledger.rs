//! What a ledger says: the one reading of it that judges the operator. None
//! of the operator's code has a part in it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::parse::trimmed;

/// The annotation that holds it.
pub const ANNOTATION: &str = "signing.odj.cloud/ledger";

/// The type of the Secrets that hold ledgers.
pub const SECRET_TYPE: &str = "signing.odj.cloud/key-ring";

/// The part of a ledger that is judged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The versions, as they stand there.
    pub versions: Vec<Version>,
    /// The rotation requests that were handled.
    pub tokens: Vec<Token>,
    /// Where private keys are.
    pub publications: Value,
    /// What the policies say of the ring.
    pub rule: Rule,
    /// The ring was deleted, and its rule has to leave.
    pub removed: bool,
}

/// A version in a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its number.
    pub number: u32,
    /// `Pending`, `Current`, ...
    pub state: String,
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// Its public key as PEM, without white space at its end.
    pub public_key: String,
    /// When it began to sign.
    #[serde(default)]
    activated_at: Option<String>,
    #[serde(default)]
    private_key: Option<PrivateKey>,
}

/// Where a version's private key is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct PrivateKey {
    /// The Secret that holds it, if that is not the ledger's.
    #[serde(default)]
    secret: Option<String>,
}

/// A rotation request that was handled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Token {
    /// The hash of its value.
    pub hash: String,
    /// The version that it asked for.
    pub version: u32,
}

/// What the policies say of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// The sequence of the last change of it.
    pub sequence: u64,
    /// What is asked of the ring, and where.
    pub settings: Settings,
}

/// What is asked of a ring, and where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// `Enforce` or `Audit`.
    pub action: String,
    /// The policy that holds the ring's rule.
    pub policy: String,
}

impl Version {
    /// Whether an image that it signed is to be admitted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        !matches!(self.state.as_str(), "Retired" | "Revoked")
    }

    /// Whether it ever signed.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        self.activated_at.is_some()
    }

    /// The Secret that holds its private key, if that is not the ledger's: a key
    /// that stood by stays where it was.
    #[must_use]
    pub fn own_secret(&self) -> Option<&str> {
        self.private_key.as_ref()?.secret.as_deref()
    }
}

impl Ledger {
    /// Reads a ledger.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(text)?;
        // It stands in an envelope with its digest.
        let ledger = json.get_mut("ledger").context("no ledger")?.take();
        let mut ledger: Self = serde_json::from_value(ledger)?;
        for version in &mut ledger.versions {
            version.public_key = trimmed(&version.public_key);
        }
        Ok(ledger)
    }

    /// The ledger in a Secret's annotations.
    ///
    /// # Errors
    /// If there is none that can be read.
    pub fn of_annotations(annotations: Option<&BTreeMap<String, String>>) -> Result<Self> {
        Self::parse(annotations.and_then(|all| all.get(ANNOTATION)).context("no annotation")?)
    }

    /// The ledger in a Secret.
    ///
    /// # Errors
    /// If there is none that can be read.
    pub fn of_secret(secret: &Value) -> Result<Self> {
        let annotation = &secret["metadata"]["annotations"][ANNOTATION];
        Self::parse(annotation.as_str().context("no annotation")?)
    }

    /// The version of a number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version that signs.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.state == "Current")
    }

    /// Whether images are refused, and not only reported.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.rule.settings.action == "Enforce"
    }

    /// The policy that holds the ring's rule.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.rule.settings.policy
    }
}

/// Whether a Secret is a ledger.
#[must_use]
pub fn is_ledger(secret: &Value) -> bool {
    secret["type"] == SECRET_TYPE
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str = r#"{"format": 2, "digest": "x", "ledger": {
        "sequence": 12, "versions": [{"number": 3, "algorithm": "ECDSA-P256", "state": "Current",
            "publicKey": "pem\n", "fingerprint": "SHA256:a", "createdAt": "2026-01-01T00:00:00Z",
            "activatedAt": "2026-01-01T00:00:00Z", "privateKey": {"digest": "d", "secret": "s"}}],
        "tokens": [{"hash": "aa", "version": 3}], "publications": [],
        "rule": {"sequence": 9, "settings": {"action": "Enforce", "exclude": [], "policy": "p"}},
        "removed": false}}"#;

    #[test]
    fn what_the_operator_writes_is_read() {
        let annotations = [(ANNOTATION.to_owned(), LEDGER.to_owned())].into();
        let ledger = Ledger::of_annotations(Some(&annotations)).unwrap();
        let current = ledger.current().unwrap();
        assert_eq!((current.number, current.public_key.as_str()), (3, "pem"));
        assert!(current.has_signed() && current.is_accepted());
        assert_eq!(current.own_secret(), Some("s"));
        assert_eq!(ledger.tokens, [Token { hash: "aa".to_owned(), version: 3 }]);
        assert!(ledger.enforces() && ledger.rule.sequence == 9 && ledger.policy() == "p");
        assert_eq!(ledger.version(3), Some(current));
        assert!(ledger.version(2).is_none());
    }

    #[test]
    fn anything_else_is_not() {
        assert!(Ledger::of_annotations(None).is_err());
        for (from, to) in [
            ("\"ledger\"", "\"other\""),
            ("\"tokens\"", "\"requests\""),
            ("\"state\": \"Current\",", ""),
            ("\"number\": 3", "\"number\": -1"),
        ] {
            let text = LEDGER.replace(from, to);
            assert!(text != LEDGER && Ledger::parse(&text).is_err(), "{text}");
        }
    }
}
