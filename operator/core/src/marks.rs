//! What a policy says of the rings it holds: `checkout=12.3fa1c0de shop=4.77de9b2c`.
//!
//! The same words stand in the policy's annotation (what was written) and in
//! the answer of its gate rule (what Kyverno has loaded).

use std::{collections::BTreeMap, fmt, str::FromStr};

/// The state of one ring in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The ledger's sequence when what the policy says of the ring last changed.
    pub sequence: u64,
    /// The hash of the ring's accepted key set.
    pub key_set: String,
}

/// The marks of a policy, by ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub BTreeMap<String, Mark>);

/// Marks that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form ring=sequence.keyset")]
pub struct MarksError(String);

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ring, mark)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{ring}={}.{}", mark.sequence, mark.key_set)?;
        }
        Ok(())
    }
}

impl FromStr for Marks {
    type Err = MarksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut marks = BTreeMap::new();
        for word in text.split_whitespace() {
            let error = || MarksError(word.chars().take(100).collect());
            let (ring, state) = word.split_once('=').ok_or_else(error)?;
            let (sequence, key_set) = state.split_once('.').ok_or_else(error)?;
            let sequence = sequence.parse().map_err(|_| error())?;
            if ring.is_empty() || key_set.is_empty() {
                return Err(error());
            }
            marks.insert(ring.to_owned(), Mark { sequence, key_set: key_set.to_owned() });
        }
        Ok(Self(marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "checkout=12.3fa1c0de shop=4.77de9b2c";
        let marks: Marks = text.parse().unwrap();
        assert_eq!(marks.0["shop"], Mark { sequence: 4, key_set: "77de9b2c".into() });
        assert_eq!(marks.to_string(), text);
        assert_eq!("".parse::<Marks>().unwrap(), Marks::default());
    }

    #[test]
    fn refuses_damage() {
        for text in ["checkout", "checkout=12", "=1.a", "a=.b", "a=1.", "a=x.b"] {
            assert!(text.parse::<Marks>().is_err(), "{text}");
        }
    }
}
