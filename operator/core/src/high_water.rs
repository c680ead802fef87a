//! How far a ring had come, as witnesses outside its ledger remember it.
//!
//! A ledger that was restored from a backup does not know what happened after
//! the backup. Without a witness it would give a version number out twice and
//! forget that a version was revoked. `checkout=7:3fa1c0de77de9b2c` stands in
//! an annotation of the ring and of its policies; the ring's status is a
//! witness too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

/// How many revoked versions a witness remembers, the newest.
pub(crate) const REVOKED_WITNESSED: usize = 100;

/// More versions than a ring can have by rotating. A witness that names such a
/// number is not believed: it would leave none for the next version.
pub const MOST_VERSIONS: u32 = 1_000_000_000;

/// The same for witnesses, so that who goes on after them has room.
pub const MOST_WITNESSED: u32 = MOST_VERSIONS / 2;

/// How far a ring had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HighWater {
    /// The highest version number that was given out; 0 before the first.
    pub version: u32,
    /// The revoked versions, each by [`short`] of its fingerprint.
    pub revoked: BTreeSet<String>,
}

impl HighWater {
    /// Whether `other` knows all that this one does.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.version <= other.version && self.revoked.is_subset(&other.revoked)
    }

    /// Takes in what another witness remembers.
    pub fn raise(&mut self, other: &Self) {
        self.version = self.version.max(other.version);
        self.revoked.extend(other.revoked.iter().cloned());
    }
}

/// A fingerprint as witnesses keep it: 64 bits of its SHA-256, in hex.
#[must_use]
pub fn short(fingerprint: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(fingerprint.as_bytes()).into();
    hex(&digest[..8])
}

/// The high-water marks of several rings, as an annotation's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HighWaters(pub BTreeMap<String, HighWater>);

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form ring=version or ring=version:revoked,revoked")]
pub struct HighWaterError(String);

impl fmt::Display for HighWaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ring, mark)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{ring}={}", mark.version)?;
            for (index, revoked) in mark.revoked.iter().enumerate() {
                write!(f, "{}{revoked}", if index == 0 { ":" } else { "," })?;
            }
        }
        Ok(())
    }
}

impl FromStr for HighWaters {
    type Err = HighWaterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut marks = BTreeMap::new();
        for word in text.split_whitespace() {
            let error = || HighWaterError(word.chars().take(100).collect());
            let (ring, mark) = word.split_once('=').ok_or_else(error)?;
            let (version, revoked) = mark.split_once(':').unwrap_or((mark, ""));
            let version = version.parse().ok().filter(|v| *v < MOST_WITNESSED).ok_or_else(error)?;
            let revoked: BTreeSet<String> =
                revoked.split(',').filter(|hash| !hash.is_empty()).map(str::to_owned).collect();
            let sound = |hash: &String| hash.len() == 16 && hash.bytes().all(is_hex);
            if ring.is_empty() || !revoked.iter().all(sound) {
                return Err(error());
            }
            marks.insert(ring.to_owned(), HighWater { version, revoked });
        }
        Ok(Self(marks))
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "checkout=7:3fa1c0de77de9b2c,88de9b2c3fa1c0de shop=4";
        let marks: HighWaters = text.parse().unwrap();
        assert_eq!(marks.0["checkout"].version, 7);
        assert_eq!(marks.0["checkout"].revoked.len(), 2);
        assert_eq!(marks.0["shop"], HighWater { version: 4, revoked: BTreeSet::new() });
        assert_eq!(marks.to_string(), text);
        assert_eq!("".parse::<HighWaters>().unwrap(), HighWaters::default());
    }

    #[test]
    fn refuses_damage() {
        for text in
            ["shop", "=7", "shop=x", "shop=7:xyz", "shop=7:3fa1", "shop=-1", "shop=1000000000"]
        {
            assert!(text.parse::<HighWaters>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_witness_of_less_is_within_one_of_more() {
        let mark = |version, revoked: &[&str]| HighWater {
            version,
            revoked: revoked.iter().map(|f| short(f)).collect(),
        };
        assert!(mark(3, &["a"]).is_within(&mark(3, &["a", "b"])));
        assert!(!mark(4, &[]).is_within(&mark(3, &["a"])));
        assert!(!mark(2, &["c"]).is_within(&mark(3, &["a", "b"])));
        let mut raised = mark(2, &["c"]);
        raised.raise(&mark(3, &["a"]));
        assert_eq!(raised, mark(3, &["a", "c"]));
    }
}
