//! Which policy object holds a ring's rule.
//!
//! Every ClusterPolicy in the cluster costs each pod admission some tenths of
//! a millisecond, whatever it matches, so rings share policy objects. Enforce
//! and Audit rings never do: only a policy of Enforce rings may have
//! `failurePolicy: Fail`.

use std::collections::BTreeMap;

use crate::ledger::Action;

const ENFORCE: &str = "signing-enforce-";
const AUDIT: &str = "signing-audit-";

/// What a policy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// How many rings.
    pub rings: usize,
    /// How many bytes; each rule repeats the exclusions.
    pub bytes: usize,
}

impl Occupancy {
    /// Whether one more ring, as large as these are, would be too much.
    fn is_full(self, limit: Self) -> bool {
        let average = self.bytes.checked_div(self.rings).unwrap_or(0);
        self.rings >= limit.rings.max(1) || (self.rings > 0 && self.bytes + average > limit.bytes)
    }

    /// Whether a ring has to leave.
    #[must_use]
    pub fn is_crowded(self, limit: Self) -> bool {
        self.rings > 1 && self.bytes > limit.bytes
    }
}

/// The policy with room for one more ring of this action: the lowest number
/// that holds fewer rings and bytes than `limit`.
#[must_use]
pub fn place(action: Action, held: &BTreeMap<String, Occupancy>, limit: Occupancy) -> String {
    let prefix = match action {
        Action::Enforce => ENFORCE,
        Action::Audit => AUDIT,
    };
    (1..=u32::MAX)
        .map(|number| format!("{prefix}{number:04}"))
        .find(|name| held.get(name).is_none_or(|held| !held.is_full(limit)))
        .unwrap_or_else(|| format!("{prefix}0001"))
}

/// The action of the rings in a policy, or nothing if the name is not one of ours.
#[must_use]
pub fn action(policy: &str) -> Option<Action> {
    let is_numbered = |prefix: &str| {
        let number = policy.strip_prefix(prefix);
        number.is_some_and(|n| n.len() >= 4 && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    [(ENFORCE, Action::Enforce), (AUDIT, Action::Audit)]
        .into_iter()
        .find_map(|(prefix, action)| is_numbered(prefix).then_some(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_lowest_policy_with_room() {
        let limit = Occupancy { rings: 2, bytes: 1000 };
        let mut held = BTreeMap::new();
        assert_eq!(place(Action::Enforce, &held, limit), "signing-enforce-0001");
        held.insert("signing-enforce-0001".to_owned(), Occupancy { rings: 2, bytes: 10 });
        held.insert("signing-enforce-0003".to_owned(), Occupancy { rings: 1, bytes: 10 });
        assert_eq!(place(Action::Enforce, &held, limit), "signing-enforce-0002");
        assert_eq!(place(Action::Audit, &held, limit), "signing-audit-0001");
        // A ring like the one that is there would not fit beside it.
        held.insert("signing-enforce-0002".to_owned(), Occupancy { rings: 1, bytes: 501 });
        assert_eq!(place(Action::Enforce, &held, limit), "signing-enforce-0003");
    }

    #[test]
    fn a_policy_that_outgrew_its_limit_is_crowded_unless_one_ring_fills_it() {
        let limit = Occupancy { rings: 25, bytes: 1000 };
        assert!(Occupancy { rings: 2, bytes: 1001 }.is_crowded(limit));
        assert!(!Occupancy { rings: 2, bytes: 1000 }.is_crowded(limit));
        assert!(!Occupancy { rings: 1, bytes: 5000 }.is_crowded(limit));
    }

    #[test]
    fn the_name_tells_the_action() {
        assert_eq!(action("signing-enforce-0001"), Some(Action::Enforce));
        assert_eq!(action("signing-audit-0007"), Some(Action::Audit));
        assert_eq!(action("disallow-latest"), None);
        assert_eq!(action("signing-enforce-0001-copy"), None, "not ours to delete");
    }
}
