//! Which policy object holds a ring's rule.
//!
//! Every ClusterPolicy in the cluster costs each pod admission some tenths of
//! a millisecond, whatever it matches, so rings share policy objects. Enforce
//! and Audit rings never do: only a policy of Enforce rings may have
//! `failurePolicy: Fail`.

use std::collections::BTreeMap;

use crate::policy_ref::{Action, PolicyRef};

/// What a policy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// How many rings.
    pub rings: usize,
    /// How many bytes; each rule repeats the exclusions.
    pub bytes: usize,
}

/// The bytes of the largest policy that is ever to be written. etcd takes
/// requests of 1.5 MiB; the rest is for metadata that others add.
pub(super) const LARGEST_POLICY: usize = 1408 * 1024;

/// How many bytes the exclusion lists may have in each ring's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// With what is new in them: were they all new at once in a policy that is as large
    /// as it may be, it could still be written, so that its rings can move apart.
    pub new: usize,
    /// With what is in force already: a policy of one ring can be written. A policy of
    /// several may have got too large for more than taking keys out, when its rules came
    /// to weigh more or fewer were meant to share it; its rings move apart until it can.
    pub in_force: usize,
}

impl Occupancy {
    /// How many bytes the exclusion lists may have in each ring's rules, if this is
    /// what a policy may hold.
    #[must_use]
    pub fn room_for_exclusions(self) -> Room {
        let besides = LARGEST_POLICY.saturating_sub(self.bytes);
        Room { new: besides / self.rings.max(1), in_force: besides }
    }

    /// Whether one more ring, as large as these are, would be too much.
    #[must_use]
    pub fn is_full(self, limit: Self) -> bool {
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
pub fn place(action: Action, held: &BTreeMap<PolicyRef, Occupancy>, limit: Occupancy) -> PolicyRef {
    (1..=u32::MAX)
        .map(|number| PolicyRef::new(action, number))
        .find(|policy| held.get(policy).is_none_or(|held| !held.is_full(limit)))
        .unwrap_or(PolicyRef::new(action, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_lowest_policy_with_room() {
        let limit = Occupancy { rings: 2, bytes: 1000 };
        let enforce = |number| PolicyRef::new(Action::Enforce, number);
        let mut held = BTreeMap::new();
        assert_eq!(place(Action::Enforce, &held, limit), enforce(1));
        held.insert(enforce(1), Occupancy { rings: 2, bytes: 10 });
        held.insert(enforce(3), Occupancy { rings: 1, bytes: 10 });
        assert_eq!(place(Action::Enforce, &held, limit), enforce(2));
        assert_eq!(place(Action::Audit, &held, limit), PolicyRef::new(Action::Audit, 1));
        // A ring like the one that is there would not fit beside it.
        held.insert(enforce(2), Occupancy { rings: 1, bytes: 501 });
        assert_eq!(place(Action::Enforce, &held, limit), enforce(3));
    }

    #[test]
    fn a_policy_that_is_full_can_take_the_exclusions_once_more() {
        let usual = Occupancy { rings: 12, bytes: 512 * 1024 };
        let room = Room { new: 896 * 1024 / 12, in_force: 896 * 1024 };
        assert_eq!(usual.room_for_exclusions(), room);
        for rings in [1, 12, 25, 100] {
            for bytes in [4096, 512 * 1024, 1024 * 1024] {
                let limit = Occupancy { rings, bytes };
                let room = limit.room_for_exclusions();
                assert!(bytes + rings * room.new <= 1408 * 1024, "{limit:?}");
                assert!(bytes + room.in_force <= 1408 * 1024, "{limit:?}");
                // A list of some hundred usual patterns always fits.
                assert!(room.new > 3900, "{limit:?}");
            }
        }
    }

    #[test]
    fn a_policy_that_outgrew_its_limit_is_crowded_unless_one_ring_fills_it() {
        let limit = Occupancy { rings: 25, bytes: 1000 };
        assert!(Occupancy { rings: 2, bytes: 1001 }.is_crowded(limit));
        assert!(!Occupancy { rings: 2, bytes: 1000 }.is_crowded(limit));
        assert!(!Occupancy { rings: 1, bytes: 5000 }.is_crowded(limit));
    }
}
