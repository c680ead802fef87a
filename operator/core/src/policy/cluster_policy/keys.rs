//! How a rule names the keys that it accepts.

use serde_json::{Value, json};

use super::NOBODYS_KEY;

/// What verifies with any of these public keys.
pub(super) fn entries(keys: &[&str]) -> Vec<Value> {
    let keys = if keys.is_empty() { &[NOBODYS_KEY] } else { keys };
    keys.iter().map(|key| key_entry(key)).collect()
}

/// What verifies with one public key.
pub(super) fn key_entry(public_key: &str) -> Value {
    json!({
        "keys": {
            "publicKeys": public_key,
            "signatureAlgorithm": "sha256",
            // Without both, Kyverno fetches Sigstore's public trust root.
            "rekor": {"ignoreTlog": true, "url": "https://rekor.sigstore.dev"},
            "ctlog": {"ignoreSCT": true},
        },
        "signatureAlgorithm": "sha256",
    })
}
