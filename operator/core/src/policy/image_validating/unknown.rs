//! The ImageValidatingPolicy for namespaces whose label names no ring: what it is
//! rendered to, and how it is read back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ImageValidatingPolicy, data::KeyData, question, read};
use crate::{
    high_water::HighWater,
    marks::{Mark, Marks, RuleState, key_set, short},
    names,
    policy::{
        content::Whole,
        digest::Part,
        object::{Metadata, NOBODYS_KEY, Rendered, said},
        unknown::{CoverContent, CoverHeld, Covering},
    },
};

impl ImageValidatingPolicy<'_> {
    /// The policy that was planned.
    #[must_use]
    pub fn render_cover(&self, content: &CoverContent) -> Rendered {
        let said = self.cover_said(&content.mark);
        let spec = self.cover(&content.values, &question(self.policy, &said.marks));
        Rendered { spec, ..said }
    }

    /// Each value like a ring of which no version is accepted, so that what the
    /// exclusion lists name goes on. What all accept stands there once: CEL takes no
    /// expression of more than 100,000 characters.
    fn cover(&self, values: &BTreeSet<String>, question: &str) -> Value {
        let mut spec = self.spec(&self.no_rings(BTreeSet::new()), question);
        read::select(&mut spec, values.iter().map(String::as_str));
        read::accept(&mut spec, &KeyData::new(NOBODYS_KEY));
        // Where its label is one that all namespaces carry, the operator could not start.
        if let Some(Value::Array(conditions)) = spec.get_mut("matchConditions") {
            let elsewhere = format!("request.namespace != '{}'", self.operator_namespace);
            let [.., name] = names::CONDITIONS;
            conditions.push(json!({"name": name, "expression": elsewhere}));
        }
        spec
    }

    fn cover_said(&self, mark: &Mark) -> Rendered {
        let name = names::UNKNOWN_RULE.to_owned();
        let mut said =
            said([(&name, mark, &HighWater::default())].into_iter(), self.lists, &[], Value::Null);
        // There is no ring to remember anything of.
        said.annotations.insert(names::ANNOTATION_HIGH_WATER.to_owned(), String::new());
        said
    }
}

impl Covering for ImageValidatingPolicy<'_> {
    fn cover_mark(&self, values: &BTreeSet<String>, sequence: u64) -> Mark {
        let key_set = key_set(values.iter().map(String::as_str));
        let rule = short(&Part::of(&self.cover(values, "")).digest.0);
        Mark { state: RuleState { sequence, key_set }, rule }
    }

    fn cover_whole(&self, values: &BTreeSet<String>, mark: &Mark) -> Whole {
        let said = self.cover_said(mark);
        let spec = self.cover(values, &question(self.policy, &said.marks));
        Whole { spec: Part::of(&spec), own_metadata: said.metadata().own(&[]) }
    }
}

/// Reads such a policy.
#[must_use]
pub fn read_cover(metadata: Metadata<'_>, spec: &Value) -> CoverHeld {
    let mut marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    CoverHeld {
        spec: Part::of(spec).digest,
        own_metadata: metadata.own(&[]),
        metadata: metadata.whole(),
        mark: marks.0.remove(names::UNKNOWN_RULE),
        values: read::values(spec),
    }
}

/// Whether such a policy selects a value.
#[must_use]
pub fn covers(spec: &Value, value: &str) -> bool {
    read::values(spec).contains(value)
}
