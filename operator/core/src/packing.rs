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

/// The policy with room for one more ring of this action: the lowest number
/// that holds fewer than `limit` of them.
#[must_use]
pub fn place(action: Action, occupancy: &BTreeMap<String, usize>, limit: usize) -> String {
    let prefix = match action {
        Action::Enforce => ENFORCE,
        Action::Audit => AUDIT,
    };
    (1..=u32::MAX)
        .map(|number| format!("{prefix}{number:04}"))
        .find(|name| occupancy.get(name).copied().unwrap_or(0) < limit.max(1))
        .unwrap_or_else(|| format!("{prefix}0001"))
}

/// The action of the rings in a policy, or nothing if the name is not one of ours.
#[must_use]
pub fn action(policy: &str) -> Option<Action> {
    if policy.starts_with(ENFORCE) {
        Some(Action::Enforce)
    } else if policy.starts_with(AUDIT) {
        Some(Action::Audit)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_lowest_policy_with_room() {
        let mut occupancy = BTreeMap::new();
        assert_eq!(place(Action::Enforce, &occupancy, 2), "signing-enforce-0001");
        occupancy.insert("signing-enforce-0001".to_owned(), 2);
        occupancy.insert("signing-enforce-0003".to_owned(), 1);
        assert_eq!(place(Action::Enforce, &occupancy, 2), "signing-enforce-0002");
        assert_eq!(place(Action::Audit, &occupancy, 2), "signing-audit-0001");
    }

    #[test]
    fn the_name_tells_the_action() {
        assert_eq!(action("signing-enforce-0001"), Some(Action::Enforce));
        assert_eq!(action("signing-audit-0007"), Some(Action::Audit));
        assert_eq!(action("disallow-latest"), None);
    }
}
