//! The names of a ring's rules in a policy.
//!
//! Kyverno writes on a Pod, under the rule's name, that an image has passed, and
//! lets that count at every later update. So the name of a rule that verifies
//! says what it verifies with: what passed by other keys or exclusions does not
//! count.

use std::{borrow::Cow, collections::BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::{
    marks::short,
    policy::snapshot::{RulePart, RuleSeen},
};

/// The longest name without what is appended: Kyverno takes 63 characters, and
/// `.0123abcd.debug` is 15 of them.
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
    /// Has images that are excluded by tag compared by their tag.
    Tags,
}

impl Purpose {
    fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "debug")) => Self::Debug,
            Some((_, "tags")) => Self::Tags,
            _ => Self::Pods,
        }
    }

    /// The name of such a rule, with a hash of what it verifies with.
    pub(super) fn name(self, owner: &str, verdict: &str) -> String {
        let stem = stem(owner);
        match self {
            Self::Pods => format!("{stem}.{verdict}"),
            Self::Debug => format!("{stem}.{verdict}.debug"),
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

/// Whether a rule of this name is one of the owner's. Until rules said what they
/// verify with, a ring's had its name.
pub(super) fn is_of(name: &str, owner: &str) -> bool {
    let begins = |stem: &str| {
        name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    begins(&stem(owner)) || name == owner
}

/// A short hash of what a ring's rules verify with: all but their names.
pub(super) fn verdict(parts: &[RulePart]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.body.digest.0);
        part.keys.iter().for_each(|key| hash.update(key.entry.digest.0));
    }
    short(&hash.finalize().into())
}

/// Names the rules for what they verify with by now. Of several for one purpose,
/// which this operator never writes, one is: a policy with two rules of a name is
/// refused.
pub(super) fn rename(owner: &str, rule: &mut RuleSeen) {
    let verdict = verdict(&rule.parts);
    let mut named = BTreeSet::new();
    let (verifying, others): (Vec<_>, Vec<_>) =
        rule.parts.iter_mut().partition(|part| !part.keys.is_empty());
    for part in verifying.into_iter().chain(others) {
        let name = Purpose::of(&part.name).name(owner, &verdict);
        if named.insert(name.clone()) {
            part.name = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["shop", "shop-2", "a", "x"];

    #[test]
    fn every_name_is_one_that_kyverno_takes_and_its_owners_alone() {
        let long = "x".repeat(63);
        let beginning = "x".repeat(KEPT);
        let mut owners: Vec<&str> = NAMES.to_vec();
        owners.extend([&*long, &long[..62], &long[..48], &long[..49], &*beginning]);
        owners.push("signing-gate.unknown");
        for owner in &owners {
            for purpose in [Purpose::Pods, Purpose::Debug, Purpose::Tags] {
                let name = purpose.name(owner, "0123abcd");
                assert!(name.len() <= 63, "{name}");
                assert_eq!(Purpose::of(&name), purpose, "{name}");
                let owned: Vec<&&str> = owners.iter().filter(|o| is_of(&name, o)).collect();
                assert_eq!(owned, [owner], "{name}");
            }
            assert!(is_of(owner, owner), "{owner}: its name until now");
        }
        assert!(!is_of("signing-gate.references", "signing-gate.unknown"));
    }
}
