//! The marks of a policy's rings: `checkout=12.3fa1c0de.5b3c0a11 shop=4.77de9b2c.09af3311`, in
//! an annotation of the policy and in what its gate rule answers.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use serde_json::Value;

/// The annotation of a policy that holds them.
pub const ANNOTATION: &str = "signing.odj.cloud/rings";

/// The annotation of a question that holds them, as the gate rule's answer.
pub const ANSWER: &str = "signing.odj.cloud/gate-answer";

/// Which state of a ring a policy holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The sequence of its rule.
    pub sequence: u64,
    /// The hash of its accepted keys.
    pub key_set: String,
}

/// The marks of a policy, by ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub BTreeMap<String, Mark>);

impl Marks {
    /// Reads marks.
    ///
    /// # Errors
    /// If they are something else.
    pub fn parse(text: &str) -> Result<Self> {
        let marks = text.split_whitespace().map(|word| {
            let (ring, mark) = word.split_once('=').context("no =")?;
            let (sequence, key_set) = mark.split_once('.').context("no key set")?;
            let mark = Mark { sequence: sequence.parse()?, key_set: key_set.to_owned() };
            Ok((ring.to_owned(), mark))
        });
        marks.collect::<Result<_>>().map(Self)
    }

    /// The marks that a policy says it holds.
    ///
    /// # Errors
    /// If it says nothing that can be read.
    pub fn of_policy(policy: &Value) -> Result<Self> {
        let text = &policy["metadata"]["annotations"][ANNOTATION];
        Self::parse(text.as_str().context("no marks")?)
    }

    /// The marks in the answer to a question to the gate.
    ///
    /// # Errors
    /// If it is no answer.
    pub fn of_answer(question: &Value) -> Result<Self> {
        let text = &question["metadata"]["annotations"][ANSWER];
        Self::parse(text.as_str().context("no answer")?)
    }

    /// The mark of a ring.
    #[must_use]
    pub fn of(&self, ring: &str) -> Option<&Mark> {
        self.0.get(ring)
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ring, mark)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{ring}={}.{}", mark.sequence, mark.key_set)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_and_shown() {
        let text = "checkout=12.3fa1c0de shop=4.77de9b2c";
        let marks = Marks::parse(text).unwrap();
        let shop = Mark { sequence: 4, key_set: "77de9b2c".to_owned() };
        assert_eq!(marks.of("shop"), Some(&shop));
        assert_eq!(marks.of("other"), None);
        assert_eq!(marks.to_string(), text);
        assert_eq!(Marks::parse("").unwrap(), Marks::default());
    }

    #[test]
    fn other_words_are_not() {
        for text in ["checkout", "checkout=12", "checkout=x.aa", "checkout=-1.aa", "a=1.b c"] {
            assert!(Marks::parse(text).is_err(), "{text}");
        }
    }
}
