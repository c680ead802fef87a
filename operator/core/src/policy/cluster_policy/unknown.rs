//! The ClusterPolicy for namespaces whose label names no ring: what it is
//! rendered to, and how it is read back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    ClusterPolicy, OWN_ANNOTATIONS, Rendered, extraction, read, references,
    rules::{self, Own},
    spec,
};
use crate::{
    high_water::HighWater,
    ledger::Duty,
    marks::{Mark, Marks, RuleState, key_set, short},
    names,
    policy::{
        content::Whole,
        digest::Part,
        object::Metadata,
        unknown::{CoverContent, CoverHeld, Covering},
    },
    policy_ref::Action,
};

/// Where the values are that the rule selects.
const VALUES: &str = "/match/any/0/resources/namespaceSelector/matchExpressions/0/values";

impl ClusterPolicy<'_> {
    /// The policy that was planned.
    #[must_use]
    pub fn render_cover(&self, content: &CoverContent) -> Rendered {
        let rules = self.cover_rules(&content.values, &content.mark);
        let said = cover_said(self, &content.mark);
        Rendered { spec: spec(self.policy.action(), &rules), ..said }
    }

    /// Like a ring's of which no version is accepted, so that what the exclusion
    /// lists name goes on.
    fn cover_rule(&self, values: &BTreeSet<String>) -> Vec<Value> {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let selector = json!({"matchExpressions": [
            {"key": self.enrolment_label, "operator": "In", "values": values},
        ]});
        let own = Own::NOTHING;
        let rules = rules::rules(self, names::UNKNOWN_RULE, &selector, &[], own, Duty::Whole);
        rules.into_iter().map(|rule| self.elsewhere(rule)).collect()
    }

    /// A rule that leaves the operator's own namespace alone: where its label is
    /// one that all namespaces carry, the operator could not start there.
    fn elsewhere(&self, mut rule: Value) -> Value {
        let own = json!({"resources": {"namespaces": [self.operator_namespace]}});
        if let Some(Value::Array(others)) = rule.pointer_mut("/exclude/any") {
            others.push(own);
        } else if let Some(rule) = rule.as_object_mut() {
            rule.insert("exclude".to_owned(), json!({"any": [own]}));
        }
        rule
    }

    fn cover_rules(&self, values: &BTreeSet<String>, mark: &Mark) -> Vec<Value> {
        let names: Vec<&str> = values.iter().map(String::as_str).collect();
        let action = self.policy.action();
        let images = extraction::rule(action, self.enrolment_label, &names);
        let mut rules = vec![self.elsewhere(images)];
        rules.extend(self.cover_rule(values));
        if action == Action::Enforce {
            let references = references::rule(action, self.enrolment_label, &names);
            rules.push(self.elsewhere(references));
        }
        rules.push(super::gate_rule(self, &cover_said(self, mark).marks));
        rules
    }
}

impl Covering for ClusterPolicy<'_> {
    fn cover_mark(&self, values: &BTreeSet<String>, sequence: u64) -> Mark {
        let key_set = key_set(values.iter().map(String::as_str));
        let rules = self.cover_rule(values);
        let rule = short(&Part::list(rules.iter().map(read::rule_part)).digest.0);
        Mark { state: RuleState { sequence, key_set }, rule }
    }

    fn cover_whole(&self, values: &BTreeSet<String>, mark: &Mark) -> Whole {
        let rules = self.cover_rules(values, mark);
        let frame = Part::of(&spec(self.policy.action(), &[]));
        Whole {
            spec: Part::with(frame, rules.iter().map(read::rule_part)),
            own_metadata: cover_said(self, mark).metadata().own(&OWN_ANNOTATIONS),
        }
    }
}

fn cover_said(input: &ClusterPolicy<'_>, mark: &Mark) -> Rendered {
    let name = names::UNKNOWN_RULE.to_owned();
    let mut said = input.said([(&name, mark, &HighWater::default())].into_iter());
    // There is no ring to remember anything of.
    said.annotations.insert(names::ANNOTATION_HIGH_WATER.to_owned(), String::new());
    said
}

/// Reads such a policy.
#[must_use]
pub fn read_cover(metadata: Metadata<'_>, spec: &Value) -> CoverHeld {
    let mut marks: Marks = metadata.read(names::ANNOTATION_MARKS);
    let rules = read::rules_of(spec, names::UNKNOWN_RULE);
    let values = rules.first().and_then(|rule| rule.pointer(VALUES)?.as_array());
    let values = values.into_iter().flatten().filter_map(|value| value.as_str());
    CoverHeld {
        spec: read::spec_digest(spec),
        own_metadata: metadata.own(&OWN_ANNOTATIONS),
        metadata: metadata.whole(),
        mark: marks.0.remove(names::UNKNOWN_RULE),
        values: values.map(str::to_owned).collect(),
    }
}

/// Whether any of such a policy's rules selects a value.
#[must_use]
pub fn covers(spec: &Value, value: &str) -> bool {
    read::rules_of(spec, names::UNKNOWN_RULE).iter().any(|rule| {
        let values = rule.pointer(VALUES).and_then(Value::as_array);
        values.is_some_and(|values| values.iter().any(|v| v.as_str() == Some(value)))
    })
}
