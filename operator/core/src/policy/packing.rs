//! Which policy object holds a ring's rule.
//!
//! Every ClusterPolicy in the cluster costs each pod admission some time, whatever it
//! matches, and every ImageValidatingPolicy is one more webhook in a configuration that
//! can be full, so rings share policy objects. Enforce
//! and Audit rings never do: only a policy of Enforce rings may have
//! `failurePolicy: Fail`.

use crate::policy_ref::{Action, PolicyKind, PolicyRef};

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

/// How many bytes a policy may have, unless it is said otherwise.
pub const BYTES_PER_POLICY: u32 = 512 * 1024;

/// The most that may be said of it.
pub const MOST_BYTES_PER_POLICY: u32 = 1024 * 1024;

/// The most rings that may be said to share a policy.
pub const MOST_RINGS_PER_POLICY: u16 = 100;

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

impl Room {
    /// That of an operator to which nobody said otherwise.
    #[must_use]
    pub fn usual() -> Self {
        let repeating = PolicyKind::ALL.into_iter().filter(|kind| kind.repeats_lists());
        let rings = repeating.map(|kind| usize::from(kind.rings_per_policy())).max();
        let bytes = BYTES_PER_POLICY as usize;
        Occupancy { rings: rings.unwrap_or_default(), bytes }.room_for_exclusions()
    }

    /// That of an operator whose settings leave the least.
    #[must_use]
    pub fn least() -> Self {
        let rings = usize::from(MOST_RINGS_PER_POLICY);
        Occupancy { rings, bytes: MOST_BYTES_PER_POLICY as usize }.room_for_exclusions()
    }
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

/// The policy of a kind for one more ring of this action: that of the lowest number,
/// from `first` on, that has room.
#[must_use]
pub fn place(
    kind: PolicyKind,
    action: Action,
    first: u32,
    has_room: impl Fn(PolicyRef) -> bool,
) -> PolicyRef {
    let policy = |number| PolicyRef::new(action, number).of_kind(kind);
    (first.max(1)..=u32::MAX).map(policy).find(|policy| has_room(*policy)).unwrap_or(policy(1))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const KIND: PolicyKind = PolicyKind::ClusterPolicy;

    /// With room where less is held than `limit`, and in none of those `besides`.
    fn place(
        kind: PolicyKind,
        action: Action,
        held: &BTreeMap<PolicyRef, Occupancy>,
        besides: &BTreeSet<PolicyRef>,
        limit: Occupancy,
    ) -> PolicyRef {
        super::place(kind, action, 1, |policy| {
            !besides.contains(&policy) && held.get(&policy).is_none_or(|held| !held.is_full(limit))
        })
    }

    #[test]
    fn looks_no_further_back_than_it_is_told() {
        let found = super::place(KIND, Action::Audit, 7, |policy| policy.number() != 7);
        assert_eq!(found, PolicyRef::new(Action::Audit, 8));
    }

    #[test]
    fn fills_the_lowest_policy_with_room() {
        let limit = Occupancy { rings: 2, bytes: 1000 };
        let enforce = |number| PolicyRef::new(Action::Enforce, number);
        let (mut held, none) = (BTreeMap::new(), BTreeSet::new());
        assert_eq!(place(KIND, Action::Enforce, &held, &none, limit), enforce(1));
        held.insert(enforce(1), Occupancy { rings: 2, bytes: 10 });
        held.insert(enforce(3), Occupancy { rings: 1, bytes: 10 });
        assert_eq!(place(KIND, Action::Enforce, &held, &none, limit), enforce(2));
        assert_eq!(
            place(KIND, Action::Audit, &held, &none, limit),
            PolicyRef::new(Action::Audit, 1)
        );
        let other = PolicyKind::ImageValidatingPolicy;
        let first = place(other, Action::Enforce, &held, &none, limit);
        assert_eq!(first, enforce(1).of_kind(other));
        // A ring like the one that is there would not fit beside it.
        held.insert(enforce(2), Occupancy { rings: 1, bytes: 501 });
        assert_eq!(place(KIND, Action::Enforce, &held, &none, limit), enforce(3));
        // That of rings with which this one shares none.
        let others = BTreeSet::from([enforce(3), enforce(5)]);
        assert_eq!(place(KIND, Action::Enforce, &held, &others, limit), enforce(4));
    }

    #[test]
    fn another_number_of_rings_moves_none() {
        let of = |rings| Occupancy { rings, bytes: 1 << 19 };
        let first = PolicyRef::new(Action::Enforce, 1);
        let second = PolicyRef::new(Action::Enforce, 2);
        let held = BTreeMap::from([(first, Occupancy { rings: 25, bytes: 75_000 })]);
        // More than are meant to share it now: they stay, and none joins them.
        assert!(!held[&first].is_crowded(of(12)));
        assert_eq!(place(KIND, Action::Enforce, &held, &BTreeSet::new(), of(12)), second);
        // Fewer: they stay, and the next ones join them.
        assert!(!held[&first].is_crowded(of(50)));
        assert_eq!(place(KIND, Action::Enforce, &held, &BTreeSet::new(), of(50)), first);
    }

    #[test]
    fn a_policy_that_is_full_can_take_the_exclusions_once_more() {
        let usual = Occupancy { rings: 12, bytes: 512 * 1024 };
        let room = Room { new: 896 * 1024 / 12, in_force: 896 * 1024 };
        assert_eq!((usual.room_for_exclusions(), Room::usual()), (room, room));
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
