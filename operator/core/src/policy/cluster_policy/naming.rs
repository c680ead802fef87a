//! The names of a ring's rules in a policy.
//!
//! Kyverno notes on a Pod, under the rule's name, that an image has passed, and
//! lets that count at later updates. So the name of the rule for scheduling gates
//! says what it verifies with: what passed by other keys or exclusions does not
//! count. The others keep their names: while two states of a policy are at work,
//! one in each half of Kyverno, what passes under one has to pass under the other.

use std::{borrow::Cow, collections::BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::{
    marks::{Short, short},
    policy::snapshot::{RulePart, RuleSeen},
};

/// The longest name without what is appended: Kyverno takes 63 characters, and
/// `.gates-0123abcd` is 15 of them.
const LONGEST: usize = 48;

/// As much of a longer ring's name as is kept; `_` and 8 characters follow.
const KEPT: usize = LONGEST - 9;

/// What a rule of a ring is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Verifies the images of Pods.
    Pods,
    /// Verifies the images of ephemeral containers that are added to a Pod.
    Debug,
    /// Verifies the images of Pods that may be scheduled from now on.
    Gates,
    /// Has images that are excluded by tag compared by their tag.
    Tags,
}

impl Purpose {
    fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "debug")) => Self::Debug,
            Some((_, "tags")) => Self::Tags,
            Some((_, end)) if end.starts_with("gates") => Self::Gates,
            _ => Self::Pods,
        }
    }

    /// The name of such a rule.
    pub(super) fn name(self, owner: &str, rule: &RulePart) -> String {
        let stem = stem(owner);
        match self {
            Self::Pods => owner.to_owned(),
            Self::Debug => format!("{stem}.debug"),
            Self::Gates => format!("{stem}.gates-{}", verdict(rule)),
            Self::Tags => format!("{stem}.tags"),
        }
    }
}

/// What the names of a ring's rules begin with. No ring has a `_` in its name,
/// so that a shortened name is nobody else's.
fn stem(owner: &str) -> Cow<'_, str> {
    match owner.get(..KEPT) {
        Some(kept) if owner.len() > LONGEST => {
            let hash: [u8; 32] = Sha256::digest(owner).into();
            format!("{kept}_{}", short(&hash)).into()
        }
        _ => owner.into(),
    }
}

/// Whether a rule of this name is one of the owner's.
pub(super) fn is_of(name: &str, owner: &str) -> bool {
    let rest = name.strip_prefix(&*stem(owner));
    name == owner || rest.is_some_and(|rest| rest.starts_with('.'))
}

/// A short hash of what a rule verifies with: all but its name.
fn verdict(rule: &RulePart) -> Short {
    let mut hash = Sha256::new();
    hash.update(rule.body.digest.0);
    rule.keys.iter().for_each(|key| hash.update(key.entry.digest.0));
    short(&hash.finalize().into())
}

/// Names the rules for what they verify with by now. Of several for one purpose,
/// which this operator never writes, one is: a policy with two rules of a name is
/// refused.
pub(super) fn rename(owner: &str, rule: &mut RuleSeen) {
    let mut taken: BTreeSet<String> = rule.parts.iter().map(|part| part.name.clone()).collect();
    for part in rule.parts.iter_mut().filter(|part| Purpose::of(&part.name) == Purpose::Gates) {
        let name = Purpose::Gates.name(owner, part);
        if taken.insert(name.clone()) {
            part.name = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::digest::Part;

    #[test]
    fn every_name_is_one_that_kyverno_takes_and_its_owners_alone() {
        let long = "x".repeat(63);
        let mut owners = vec!["shop", "shop-2", "a", "x", "signing-gate.unknown"];
        owners.extend([63, 62, 49, 48, KEPT].map(|length| &long[..length]));
        for owner in &owners {
            for purpose in [Purpose::Pods, Purpose::Debug, Purpose::Gates, Purpose::Tags] {
                let body = Part::of(&serde_json::json!({}));
                let rule = RulePart { name: String::new(), body, keys: Vec::new() };
                let name = &*purpose.name(owner, &rule);
                assert!(name.len() <= 63, "{name}");
                assert_eq!(Purpose::of(name), purpose, "{name}");
                let owned: Vec<&&str> = owners.iter().filter(|o| is_of(name, o)).collect();
                assert_eq!(owned, [owner], "{name}");
            }
        }
        assert!(!is_of("signing-gate.references", "signing-gate.unknown"));
    }

    #[test]
    fn the_guard_knows_the_rule_that_lets_a_pod_go_by_its_name() {
        let body = Part::of(&serde_json::json!({}));
        let rule = RulePart { name: String::new(), body, keys: Vec::new() };
        assert!(Purpose::Gates.name("shop", &rule).starts_with("shop.gates-"));
        let marks = include_str!("../../../../../manifests/guard/marks.yaml");
        assert!(marks.contains(r#"note.matches('[.]gates-[^"]*"\\s*:\\s*[{]')"#));
    }
}
