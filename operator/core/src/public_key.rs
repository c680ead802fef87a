//! A public key as PEM, kept as what differs from one to the next.

use std::{borrow::Cow, fmt};

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use crate::fingerprint::Fingerprint;

/// A text that is a public key in PEM, or stands where one should. Of a P-256 key as
/// cosign writes it no more than the point is kept: there are dozens a ring.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Kept);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kept {
    /// X and Y. A text that is written like this one is never kept as a text.
    P256(Box<[u8; POINT]>),
    Text(Box<str>),
}

const POINT: usize = 64;

/// What the DER SubjectPublicKeyInfo of a P-256 key begins with, before an uncompressed
/// point (RFC 5480).
const PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----\n";
const END: &str = "\n-----END PUBLIC KEY-----\n";

/// How many characters PEM has in a line (RFC 7468).
const LINE: usize = 64;

impl From<&str> for PublicKey {
    fn from(text: &str) -> Self {
        let kept = point(text).filter(|point| pem(point) == text);
        Self(kept.map_or_else(|| Kept::Text(text.into()), |point| Kept::P256(Box::new(point))))
    }
}

impl PublicKey {
    /// What names it, if that can be told.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let Kept::P256(point) = &self.0 else { return None };
        let der = [&PREFIX[..], &point[..]].concat();
        format!("SHA256:{}", Base64::encode_string(&Sha256::digest(der))).parse().ok()
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Kept::P256(point) => Cow::Owned(pem(point)),
            Kept::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl PartialEq<str> for PublicKey {
    fn eq(&self, text: &str) -> bool {
        self.text() == text
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

fn point(text: &str) -> Option<[u8; POINT]> {
    let lines = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let der = Base64::decode_vec(&lines.replace('\n', "")).ok()?;
    der.strip_prefix(&PREFIX)?.try_into().ok()
}

fn pem(point: &[u8; POINT]) -> String {
    let der = [&PREFIX[..], &point[..]].concat();
    let text = Base64::encode_string(&der);
    let (first, second) = text.split_at(LINE);
    format!("{BEGIN}{first}\n{second}{END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that nobody has, as every policy may hold it.
    const KEY: &str = crate::policy::NOBODYS_KEY;

    #[test]
    fn every_text_comes_out_as_it_went_in() {
        let short = KEY.trim_end();
        let windows = KEY.replace('\n', "\r\n");
        let one_line = KEY.replacen("\n", "", 2);
        let other = KEY.replacen('A', "B", 1);
        for text in [KEY, short, &windows, &one_line, &other, "", BEGIN, "no key"] {
            assert_eq!(PublicKey::from(text).to_string(), text);
        }
        assert!(matches!(PublicKey::from(KEY).0, Kept::P256(_)));
        assert!(matches!(PublicKey::from(short).0, Kept::Text(_)));
        assert_ne!(PublicKey::from(KEY), PublicKey::from(short));
        assert_eq!(PublicKey::from(KEY), PublicKey::from(&*KEY.to_owned()));
    }
}
