//! A policy in a state of the model: the object that the real renderer made,
//! and what the real reader sees in it.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use signingkeyring_core::{
    high_water::HighWater,
    marks::{Mark, Marks},
    names,
    policy::{
        Content, Digest, Metadata, Rendered, Source,
        snapshot::{PolicySeen, RuleSeen},
    },
    policy_ref::{PolicyKind, PolicyRef},
};

use crate::{
    facts::{Keys, STRANGER, hash_of, key, serial_of},
    identified_by_hash,
    view::{POLICIES, RINGS},
};

/// A ring's rule as a policy holds it, or Kyverno.
#[derive(Debug)]
pub struct Rule {
    pub mark: Mark,
    pub keys: Keys,
    pub high_water: HighWater,
    pub does: Does,
    hash: u64,
}

/// What a rule does, read from the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Does {
    /// It verifies, and refuses what it has not verified.
    All,
    /// It verifies, and does not ask what was verified before it was there.
    Verify,
    /// It looks at no image.
    Nothing,
}

/// A policy as the API server stores it, or Kyverno has loaded it.
#[derive(Debug)]
pub struct Policy {
    pub object: Rendered,
    pub seen: PolicySeen,
    rules: [Option<Arc<Rule>>; 2],
    hash: u64,
}

identified_by_hash!(Rule Policy);

/// What a process last wrote of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Written {
    /// The `spec` that was planned.
    pub sent: Digest,
    pub stored: Arc<Policy>,
}

impl Rule {
    fn new(seen: &RuleSeen, does: Does) -> Self {
        let serials = seen.keys().map(|key| key.public_key.as_deref().map(serial_of));
        let keys =
            serials.map(|serial| serial.unwrap_or(STRANGER)).fold(Keys::default(), Keys::with);
        let hash = hash_of(&(&seen.mark, keys, does));
        let (mark, high_water) = (seen.mark.clone(), seen.high_water.clone());
        Self { mark, keys, high_water, does, hash }
    }
}

impl Policy {
    pub fn new(policy: PolicyRef, object: Rendered) -> Self {
        let metadata = Metadata { annotations: &object.annotations, labels: &object.labels };
        let fingerprint = |key: &str| format!("SHA256:{}", serial_of(key)).parse().ok();
        let seen = policy.kind().read(metadata, &object.spec, fingerprint);
        let rule = |ring, rule| Arc::new(Rule::new(rule, does(policy.kind(), &object.spec, ring)));
        let rules = RINGS.map(|ring| seen.rules.get(ring).map(|found| rule(ring, found)));
        let hash = hash_of(&(seen.spec, seen.metadata));
        Self { object, seen, rules, hash }
    }

    /// The rule of the ring at this position.
    pub fn rule(&self, ring: usize) -> Option<&Arc<Rule>> {
        self.rules[ring].as_ref()
    }

    /// The Enforce policy as somebody edits it who puts a key of their own into the first ring's
    /// rule, and makes it look newer than any ledger.
    pub fn with_a_strangers_key(&self) -> Self {
        let mut object = self.object.clone();
        let rules = object.spec["rules"].as_array_mut().unwrap();
        let begins = format!("{}.", RINGS[0]);
        let is_first_rings =
            |rule: &&mut serde_json::Value| rule["name"].as_str().unwrap().starts_with(&begins);
        let entries = rules.iter_mut().filter(is_first_rings).filter_map(|rule| {
            rule.pointer_mut("/verifyImages/0/attestors/0/entries")?.as_array_mut()
        });
        for entries in entries {
            let mut entry = entries[0].clone();
            entry["keys"]["publicKeys"] = key(STRANGER).public_key.into();
            entries.push(entry);
        }
        let text = object.annotations.get_mut(names::ANNOTATION_MARKS).unwrap();
        let mut marks: Marks = text.parse().unwrap();
        marks.0.entry(RINGS[0].to_owned()).and_modify(|mark| mark.state.sequence += 100);
        *text = marks.to_string();
        Self::new(POLICIES[0], object)
    }

    /// Whether it is what a plan says it is, as a whole.
    pub fn is(&self, planned: &Content) -> bool {
        let alike = |(seen, planned): (&RuleSeen, &RuleSeen)| {
            let said = |rule: &RuleSeen| (rule.mark.clone(), rule.high_water.clone());
            said(seen) == said(planned) && seen.public_keys().eq(planned.public_keys())
        };
        let rules = planned.rules.values().map(|planned| &planned.rule);
        self.seen.spec == planned.whole.spec.digest
            && self.seen.own_metadata == planned.whole.own_metadata
            && self.seen.rules.keys().eq(planned.rules.keys())
            && self.seen.rules.values().zip(rules).all(alike)
    }
}

fn does(kind: PolicyKind, spec: &serde_json::Value, ring: &str) -> Does {
    let nothing = match kind {
        PolicyKind::ClusterPolicy => {
            let mut rules = spec["rules"].as_array().into_iter().flatten();
            let rule = rules.find(|rule| rule["name"] == ring).map(|rule| &rule["verifyImages"][0]);
            if rule.is_some_and(|rule| rule["required"] == false) {
                return match rule.is_some_and(|rule| rule["imageReferences"][0] == "*") {
                    true => Does::Verify,
                    false => Does::Nothing,
                };
            }
            rule.is_none()
        }
        PolicyKind::ImageValidatingPolicy => {
            let excluded = spec["images"][0]["expression"].as_str().unwrap_or_default();
            excluded.contains(&format!(r#""{ring}":["*"]"#))
        }
    };
    if nothing { Does::Nothing } else { Does::All }
}

/// The JSON of a policy with rules that stay as they were seen.
pub fn seen_spec<'a>(
    found: Option<&'a Policy>,
    written: Option<&'a Written>,
    source: &Source,
) -> Option<&'a serde_json::Value> {
    let policy = match source {
        Source::Found => found,
        Source::Written => written.map(|written| &*written.stored),
        Source::Ledger(_) | Source::AllButKeys(_) => None,
    };
    policy.map(|policy| &policy.object.spec)
}
