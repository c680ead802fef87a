//! What stands of a ring in a ClusterPolicy.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Rule, text, trimmed};

/// The rules of a ring: their names begin with the ring's, which has no dot.
fn rules<'a>(policy: &'a Value, ring: &str) -> Vec<&'a Value> {
    let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
    rules.filter(|rule| text(&rule["name"]).split('.').next() == Some(ring)).collect()
}

pub(super) fn part(policy: &Value, ring: &str) -> Option<Value> {
    let rules = rules(policy, ring);
    (!rules.is_empty()).then(|| json!(rules))
}

/// What the rules of a ring verify with. If they are not of one mind, none of them
/// counts.
pub(super) fn rule(policy: &Value, ring: &str) -> Option<Rule> {
    let rules = rules(policy, ring);
    let verifying = rules.into_iter().filter(|rule| !rule["verifyImages"].is_null());
    let mut all = verifying.map(verified);
    let first = all.next()?;
    let of_one_mind = all.all(|other| other == first);
    Some(Rule { is_whole: first.is_whole && of_one_mind, ..first })
}

fn verified(rule: &Value) -> Rule {
    let verify = &rule["verifyImages"][0];
    let sets = verify["attestors"].as_array().map_or(&[][..], Vec::as_slice);
    let entries = sets.iter().flat_map(|set| set["entries"].as_array().into_iter().flatten());
    let strings = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().map(|v| text(v).to_owned()).collect()
    };
    let keys: BTreeSet<String> =
        entries.map(|entry| trimmed(text(&entry["keys"]["publicKeys"]))).collect();
    Rule {
        is_whole: !keys.is_empty() && sets.len() == 1 && sets[0]["count"] == 1,
        keys,
        action: text(&verify["failureAction"]).to_owned(),
        skipped: strings(&verify["skipImageReferences"]),
    }
}
