//! What names a key: `SHA256:` and the base64 of a hash.

use std::{fmt, str::FromStr};

/// `SHA256:` and the base64 of SHA-256 over a key's DER SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is not SHA256: and base64")]
pub struct NoFingerprint;

impl Fingerprint {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        text.strip_prefix("SHA256:")
            .is_some_and(|hash| (1..=64).contains(&hash.len()) && hash.bytes().all(is_base64))
            .then(|| Self(text.to_owned()))
            .ok_or(NoFingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_hash_is_a_fingerprint() {
        let real = "SHA256:BYh0eCgYMsaOkEtKpx85ujYSqEIiA/S6h59z/o2RZjs=";
        assert_eq!(real.parse::<Fingerprint>().unwrap().to_string(), real);
        let long = format!("SHA256:{}", "a".repeat(65));
        for text in ["", "SHA256:", "2", "sha256:aa", "SHA256:a a", "SHA256:{{x}}", &long] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }
}
