//! Label selectors, as webhooks have them.

use std::fmt;

use super::Labels;
use crate::names;

/// A label selector: all of its requirements have to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Requirement>);

/// One requirement of a selector. One of matchLabels is `In` with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`; others are not known here.
    pub operator: String,
    /// The values, where the operator has any.
    pub values: Vec<String>,
}

impl Requirement {
    fn is_met(&self, labels: &Labels) -> Option<bool> {
        let value = labels.get(&self.key);
        let named = || value.is_some_and(|value| self.values.contains(value));
        match self.operator.as_str() {
            "In" => Some(named()),
            "NotIn" => Some(!named()),
            "Exists" => Some(value.is_some()),
            "DoesNotExist" => Some(value.is_none()),
            _ => None,
        }
    }
}

impl Selector {
    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without what a policy of this operator's has in it: the rings that it
    /// holds, by this label.
    pub(super) fn without_rings(&self, enrolment_label: &str) -> Self {
        let is_own = |wanted: &&Requirement| {
            wanted.key == enrolment_label
                && wanted.operator == "In"
                && wanted.values.iter().any(|value| value == names::PROBE)
        };
        Self(self.0.iter().filter(|wanted| !is_own(wanted)).cloned().collect())
    }

    /// Whether it selects an object with these labels, if that can be told.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> Option<bool> {
        let met: Vec<Option<bool>> = self.0.iter().map(|wanted| wanted.is_met(labels)).collect();
        if met.contains(&Some(false)) {
            return Some(false);
        }
        (!met.contains(&None)).then_some(true)
    }
}

/// As kubectl writes one.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, operator, values }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match (operator.as_str(), values.as_slice()) {
                ("In", [value]) => write!(f, "{key}={value}"),
                ("NotIn", [value]) => write!(f, "{key}!={value}"),
                ("In", values) => write!(f, "{key} in ({})", values.join(",")),
                ("NotIn", values) => write!(f, "{key} notin ({})", values.join(",")),
                ("Exists", _) => write!(f, "{key}"),
                ("DoesNotExist", _) => write!(f, "!{key}"),
                (other, values) => write!(f, "{key} {other} ({})", values.join(",")),
            }?;
        }
        Ok(())
    }
}
