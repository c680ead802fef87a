//! What a policy says of the rings it holds:
//! `checkout=12.3fa1c0de.5b3c0a11 shop=4.77de9b2c.09af3311`.
//!
//! The same words stand in the policy's annotation (what was written) and in
//! the answer of its gate rule (what Kyverno has loaded).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

/// What a ring's ledger calls for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleState {
    /// The ledger's sequence when what the policy says of the ring last changed.
    pub sequence: u64,
    /// The ring's accepted keys, see [`key_set`].
    pub key_set: Short,
}

/// A ring's rule in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Which state of the ring's ledger it is made from, and its keys.
    pub state: RuleState,
    /// A short hash of the rest of it. Empty where an operator wrote it that
    /// did not say.
    pub rule: Short,
}

/// What a mark shows of a digest. There are several of these for each ring, so it is kept
/// in place.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Short([u8; 8]);

impl Short {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..end).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Whether nothing is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&str> for Short {
    fn from(text: &str) -> Self {
        let mut bytes = [0; 8];
        match bytes.get_mut(..text.len()) {
            Some(start) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                start.copy_from_slice(text.as_bytes());
                Self(bytes)
            }
            // No digest is shown as that: what stands for it is none of the operator's, and
            // another one for another text.
            _ => {
                let digest: [u8; 32] = Sha256::digest(text).into();
                let told: String = hex(&digest).chars().take(7).collect();
                Self::from(&*format!("-{told}"))
            }
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A short hash of a set of keys, each by its fingerprint: equal if and only if
/// the same keys are accepted, whoever lists them in which order.
#[must_use]
pub fn key_set<'a>(fingerprints: impl IntoIterator<Item = &'a str>) -> Short {
    let mut hash = Sha256::new();
    for fingerprint in fingerprints.into_iter().collect::<BTreeSet<_>>() {
        hash.update(fingerprint);
        hash.update(b"\n");
    }
    let digest: [u8; 32] = hash.finalize().into();
    short(&digest)
}

/// The part of a digest that a mark shows: 32 bits, in hex.
pub(crate) fn short(digest: &[u8; 32]) -> Short {
    let [a, b, c, d, ..] = *digest;
    Short::from(&*hex(&[a, b, c, d]))
}

/// A sequence that no ring's ledger reaches.
const HIGHEST: u64 = 1 << 52;

/// The marks of a policy, by ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub BTreeMap<String, Mark>);

/// Marks that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form ring=sequence.keyset.rule")]
pub struct MarksError(String);

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ring, mark)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{ring}={}.{}", mark.state.sequence, mark.state.key_set)?;
            if !mark.rule.is_empty() {
                write!(f, ".{}", mark.rule)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Marks {
    type Err = MarksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A map that is made of all at once has no room left over.
        let mut marks = Vec::new();
        for word in text.split_whitespace() {
            let error = || MarksError(word.chars().take(100).collect());
            let (ring, state) = word.split_once('=').ok_or_else(error)?;
            let (sequence, rest) = state.split_once('.').ok_or_else(error)?;
            let (key_set, rule) = rest.split_once('.').unwrap_or((rest, ""));
            let sequence: u64 = sequence.parse().map_err(|_| error())?;
            if ring.is_empty() || key_set.is_empty() {
                return Err(error());
            }
            // No ledger comes so far: a mark like this is not believed, so that
            // what is written above it can still be read.
            if sequence >= HIGHEST {
                continue;
            }
            let state = RuleState { sequence, key_set: key_set.into() };
            marks.push((ring.to_owned(), Mark { state, rule: rule.into() }));
        }
        Ok(Self(marks.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "checkout=12.3fa1c0de.5b3c0a11 shop=4.77de9b2c";
        let marks: Marks = text.parse().unwrap();
        let state = RuleState { sequence: 4, key_set: "77de9b2c".into() };
        assert_eq!(marks.0["shop"], Mark { state, rule: Short::default() });
        assert_eq!(marks.0["checkout"].rule.as_str(), "5b3c0a11");
        assert_eq!(marks.to_string(), text);
        assert_eq!("".parse::<Marks>().unwrap(), Marks::default());
    }

    #[test]
    fn a_key_set_is_one_whoever_lists_it() {
        assert_eq!(key_set(["SHA256:a", "SHA256:b"]), key_set(["SHA256:b", "SHA256:a"]));
        assert_ne!(key_set(["SHA256:a"]), key_set(["SHA256:a", "SHA256:b"]));
        assert_ne!(key_set(["SHA256:a"]), key_set([]));
        assert_eq!(key_set([]).as_str().len(), 8);
    }

    #[test]
    fn a_mark_that_no_ledger_reaches_is_not_believed() {
        let marks: Marks = format!("a={}.aa b={}.bb", u64::MAX, 7).parse().unwrap();
        assert_eq!(marks.0.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_no_digest_is_shown_as_is_like_none_of_the_operators() {
        let marks: Marks = "a=1.3fa1c0de5.5b3c0a11 b=2.3fa1c0de.\u{e9}".parse().unwrap();
        let others: Marks = "a=1.3fa1c0de6.5b3c0a11 b=2.3fa1c0de.\u{e8}".parse().unwrap();
        assert_ne!(marks.0["a"].state.key_set, others.0["a"].state.key_set);
        assert_ne!(marks.0["b"].rule, others.0["b"].rule);
        assert!(marks.to_string().starts_with("a=1.-"), "{marks}");
        assert_eq!(marks.to_string().parse::<Marks>().unwrap(), marks);
        assert_ne!(marks.0["a"].state.key_set, Short::from("3fa1c0de"));
        assert!(!marks.0["b"].rule.is_empty());
    }

    #[test]
    fn refuses_damage() {
        for text in ["checkout", "checkout=12", "=1.a", "a=.b", "a=1.", "a=x.b"] {
            assert!(text.parse::<Marks>().is_err(), "{text}");
        }
    }
}
