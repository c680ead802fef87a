//! What a ledger's texts and numbers may look like. A ledger is only as good
//! as the rights on the operator's namespace: what somebody else wrote there
//! must not end up as anything but keys and names in a policy.

use super::Ledger;
use crate::{high_water::MOST_VERSIONS, names::is_secret_name};

/// Beyond this JSON's readers disagree about numbers.
const MOST_COMMITS: u64 = 1 << 53;

/// No public key in PEM is longer, in bytes: a P-256 key has 178.
const LONGEST_KEY: usize = 1024;

pub(super) fn check(ledger: &Ledger) -> Result<(), &'static str> {
    if ledger.versions.iter().any(|v| v.number == 0 || v.number > MOST_VERSIONS) {
        return Err("a version's number is out of range");
    }
    if ledger.sequence > MOST_COMMITS || ledger.rule.sequence > ledger.sequence {
        return Err("its sequence is out of range");
    }
    if ledger.versions.iter().any(|v| !is_pem(&v.public_key.text())) {
        return Err("a public key is not in PEM");
    }
    let settings = &ledger.rule.settings;
    if settings.leaving.is_some_and(|leaving| leaving.policy == settings.policy) {
        return Err("its rule is moving away from where it goes");
    }
    // Kyverno would take what stands before a slash for another namespace.
    if settings.credentials.iter().chain(&settings.left_credentials).any(|s| !is_secret_name(s)) {
        return Err("registry credentials are no name of a Secret");
    }
    Ok(())
}

/// One public key and nothing before, between or after: Kyverno takes text in
/// front of a key for the name of one, and would read templates in it.
pub(super) fn is_pem(text: &str) -> bool {
    let body = text
        .strip_prefix("-----BEGIN PUBLIC KEY-----\n")
        .and_then(|rest| rest.strip_suffix("\n-----END PUBLIC KEY-----\n"));
    text.len() <= LONGEST_KEY
        && body.is_some_and(|body| {
            body.split('\n').all(|line| !line.is_empty() && line.bytes().all(is_base64_byte))
        })
}

fn is_base64_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}
