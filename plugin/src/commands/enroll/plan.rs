//! What becomes of each namespace.

use crate::text::{Line, Span, Style};

/// A namespace, with what its enrolment label says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its name.
    pub name: String,
    /// The ring that its label names.
    pub ring: Option<String>,
    /// Its resourceVersion when it was seen.
    pub version: Option<String>,
}

/// What becomes of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Its label changes.
    Change {
        /// The namespace.
        namespace: Labelled,
    },
    /// Its label is as asked.
    Same {
        /// Its name.
        namespace: String,
    },
    /// It is another ring's.
    Others {
        /// Its name.
        namespace: String,
        /// That ring.
        ring: String,
        /// What helps.
        hint: &'static str,
    },
}

/// Enrols namespaces.
pub fn enroll(ring: &str, found: &[Labelled], overwrite: bool) -> Vec<Step> {
    let step = |labelled: &Labelled| match &labelled.ring {
        Some(other) if other == ring => Step::Same { namespace: labelled.name.clone() },
        Some(other) if !overwrite => Step::Others {
            namespace: labelled.name.clone(),
            ring: other.clone(),
            hint: "take it from there with --overwrite",
        },
        _ => Step::Change { namespace: labelled.clone() },
    };
    found.iter().map(step).collect()
}

/// Takes them out.
pub fn unenroll(ring: &str, found: &[Labelled]) -> Vec<Step> {
    let step = |labelled: &Labelled| match &labelled.ring {
        Some(other) if other == ring => Step::Change { namespace: labelled.clone() },
        Some(other) => Step::Others {
            namespace: labelled.name.clone(),
            ring: other.clone(),
            hint: "name that one",
        },
        None => Step::Same { namespace: labelled.name.clone() },
    };
    found.iter().map(step).collect()
}

impl Step {
    /// The namespace whose label changes, if it does.
    pub fn changed(&self) -> Option<&str> {
        match self {
            Self::Change { namespace } => Some(&namespace.name),
            Self::Same { .. } | Self::Others { .. } => None,
        }
    }

    /// Whether it is not as asked.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Others { .. })
    }

    /// It, in a sentence; `value` is what the label shall be.
    pub fn line(&self, value: Option<&str>) -> Line {
        match self {
            Self::Change { namespace } => {
                let (name, before) = (&namespace.name, namespace.ring.as_deref());
                match (before, value) {
                    (None, Some(ring)) => format!("namespace {name}: enrolled in {ring}"),
                    (Some(before), Some(ring)) => {
                        format!("namespace {name}: taken from {before} and enrolled in {ring}")
                    }
                    (_, None) => format!("namespace {name}: enrolled in no ring any more"),
                }
                .into()
            }
            Self::Same { namespace } => {
                let ring = value.unwrap_or("no ring");
                Line::new(Style::Dim, format!("namespace {namespace}: enrolled in {ring} before"))
            }
            Self::Others { namespace, ring, hint } => Line(vec![Span::new(
                Style::Bad,
                format!("namespace {namespace}: left as it is, enrolled in {ring}; {hint}"),
            )]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    fn found() -> [Labelled; 3] {
        [("free", None), ("mine", Some("checkout")), ("theirs", Some("payments"))].map(
            |(name, ring)| Labelled {
                name: name.into(),
                ring: ring.map(str::to_owned),
                version: None,
            },
        )
    }

    fn said(steps: &[Step], value: Option<&str>) -> String {
        plain(&steps.iter().map(|step| step.line(value)).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_another_rings_is_taken_only_if_that_is_asked() {
        let steps = enroll("checkout", &found(), false);
        insta::assert_snapshot!(said(&steps, Some("checkout")), @r"
        namespace free: enrolled in checkout
        namespace mine: enrolled in checkout before
        namespace theirs: left as it is, enrolled in payments; take it from there with --overwrite
        ");
        assert_eq!(steps.iter().filter(|step| step.is_open()).count(), 1);
        let steps = enroll("checkout", &found(), true);
        assert_eq!(steps.iter().filter_map(Step::changed).collect::<Vec<_>>(), ["free", "theirs"]);
    }

    #[test]
    fn only_what_is_the_rings_is_taken_out() {
        let steps = unenroll("checkout", &found());
        insta::assert_snapshot!(said(&steps, None), @r"
        namespace free: enrolled in no ring before
        namespace mine: enrolled in no ring any more
        namespace theirs: left as it is, enrolled in payments; name that one
        ");
    }
}
