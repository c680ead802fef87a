//! Ledgers as the operator writes them, of rings whose keys were made here: restored
//! before the operator starts, they are its rings without a minute of sealing each.

use anyhow::{Context, Result};
use base16ct::lower::encode_string as hex;
use base64ct::{Base64, Encoding};
use k8s_openapi::api::core::v1::Secret;
use p256::{
    SecretKey,
    elliptic_curve::Generate,
    pkcs8::{EncodePublicKey, LineEnding},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signingkeyring_e2e_observer::ledger::{ANNOTATION, SECRET_TYPE};
use signingkeyring_e2e_testbed::kind::Kind;

/// The format of ledgers that may name every kind of policy.
const FORMAT: u32 = 4;

/// When all of it happened.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// What stands where a ledger has a private key and its password: nobody opens it.
const SEALED: &str = "nothing";

/// The name of a pipeline's Secret.
const PIPELINE: &str = "image-signing";

/// A public key and what names it.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// As PEM.
    pub pem: String,
    /// As the operator names it.
    pub fingerprint: String,
}

impl PublicKey {
    /// One of which nobody knows the private key.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn random() -> Result<Self> {
        Self::new(SecretKey::try_generate()?.public_key())
    }

    /// One as cosign writes it.
    ///
    /// # Errors
    /// If it is not one in PEM.
    pub fn read(pem: &str) -> Result<Self> {
        Self::new(pem.parse()?)
    }

    fn new(key: p256::PublicKey) -> Result<Self> {
        let der = key.to_public_key_der()?;
        let hash = Base64::encode_string(&Sha256::digest(der.as_bytes()));
        let pem = key.to_public_key_pem(LineEnding::LF)?;
        Ok(Self { pem, fingerprint: format!("SHA256:{hash}") })
    }
}

/// The name of the `number`th ring.
#[must_use]
pub fn ring_name(number: usize) -> String {
    format!("ring-{number:05}")
}

/// A ring as a backup has it.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'a> {
    /// Its name.
    pub ring: &'a str,
    /// The kind of its policy.
    pub kind: Kind,
    /// The number of that.
    pub policy: u32,
    /// All keys that it ever had, oldest first. The last signs.
    pub keys: &'a [PublicKey],
    /// How many of them are accepted.
    pub accepted: usize,
    /// The namespaces of its pipelines.
    pub pipelines: &'a [String],
}

impl Restored<'_> {
    /// Its ledger.
    ///
    /// # Errors
    /// If it cannot be written as a Secret.
    pub fn ledger(&self) -> Result<Secret> {
        let current = self.keys.len();
        let state = |number: usize| match current - number {
            0 => "Current",
            behind if behind < self.accepted => "Accepted",
            _ => "Retired",
        };
        let versions: Vec<Value> = self
            .keys
            .iter()
            .zip(1..)
            .map(|(key, number)| version(key, number, state(number)))
            .collect();
        let publications: Vec<Value> = self
            .pipelines
            .iter()
            .map(|namespace| json!({"namespace": namespace, "name": PIPELINE}))
            .collect();
        let settings =
            json!({"action": "Enforce", "exclude": [], "policy": self.kind.enforce(self.policy)});
        let text = json!({
            "sequence": current,
            "versions": versions,
            "tokens": [],
            "publications": publications,
            "rule": {"sequence": current, "settings": settings},
            "removed": false,
        })
        .to_string();
        let digest = hex(&Sha256::digest(text.as_bytes()));
        let annotation = format!(r#"{{"format":{FORMAT},"digest":"{digest}","ledger":{text}}}"#);
        Ok(serde_json::from_value(json!({
            "metadata": {
                "name": format!("ring-{}", self.ring),
                "labels": {"app.kubernetes.io/managed-by": "signingkeyring-operator"},
                "annotations": {ANNOTATION: annotation},
            },
            "type": SECRET_TYPE,
            "stringData": {
                format!("v{current}.key"): SEALED,
                format!("v{current}.password"): SEALED,
            },
        }))?)
    }

    /// The Secret of each of its pipelines.
    ///
    /// # Errors
    /// If there is no key.
    pub fn pipeline_secret(&self) -> Result<Secret> {
        let key = self.keys.last().context("a ring without a key")?;
        Ok(serde_json::from_value(json!({
            "metadata": {
                "name": PIPELINE,
                "labels": {"app.kubernetes.io/managed-by": "signingkeyring-operator"},
                "annotations": {
                    "signing.odj.cloud/ring": self.ring,
                    "signing.odj.cloud/version": self.keys.len().to_string(),
                    "signing.odj.cloud/fingerprint": key.fingerprint,
                    "signing.odj.cloud/layout": "Cosign",
                },
            },
            "type": "Opaque",
            "stringData": {
                "cosign.key": SEALED,
                "cosign.password": SEALED,
                "cosign.pub": key.pem,
            },
        }))?)
    }
}

fn version(key: &PublicKey, number: usize, state: &str) -> Value {
    let mut version = json!({
        "number": number,
        "algorithm": "ECDSA-P256",
        "state": state,
        "publicKey": key.pem,
        "fingerprint": key.fingerprint,
        "createdAt": LONG_AGO,
        "acknowledgedAt": LONG_AGO,
        "activatedAt": LONG_AGO,
    });
    if state == "Current" {
        let mut hash = Sha256::new();
        hash.update((SEALED.len() as u64).to_be_bytes());
        hash.update(SEALED);
        hash.update(SEALED);
        version["privateKey"] = json!({"digest": hex(&hash.finalize())});
    }
    version
}
