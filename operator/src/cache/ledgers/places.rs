//! Where a ring may be placed: how many rings a policy holds, with which registry
//! credentials, and who is being put there.

use std::{collections::BTreeSet, sync::Arc};

use signingkeyring_core::{
    names::RingName,
    policy::packing::{self, Occupancy},
    policy_ref::{Action, PolicyKind, PolicyRef},
};

use super::{LedgerIndex, Ledgers};
use crate::kyverno::Object;

/// Room in a policy that a ring takes up or may have taken up.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    policy: PolicyRef,
    /// With which registry credentials.
    credentials: BTreeSet<String>,
    /// Whether the commit has yet to end.
    pub(super) is_under_way: bool,
}

impl LedgerIndex {
    /// Notes that a policy may have room again.
    pub(super) fn has_room(&mut self, policy: PolicyRef) {
        if let Some(number) = self.full_below.get_mut(&(policy.kind(), policy.action())) {
            *number = policy.number().min(*number);
        }
    }

    pub(super) fn end_claim(&mut self, ring: &RingName) {
        if let Some(claimed) = self.claims.remove(ring) {
            self.has_room(claimed.policy);
        }
    }

    /// The same of a claim of which it is not known what became, now that the ring's ledger is
    /// seen. An event of the state before a commit is no word on a commit under way.
    pub(super) fn end_unknown_claim(&mut self, ring: &RingName) {
        if self.claims.get(ring).is_some_and(|claimed| !claimed.is_under_way) {
            self.end_claim(ring);
        }
    }

    /// The rings that a policy names and no ledger speaks for: of one whose ledger is lost
    /// nobody else knows that it is there.
    fn lost<'a>(
        &'a self,
        stands: Option<&'a Object>,
        ring: &'a RingName,
    ) -> impl Iterator<Item = &'a String> {
        let named = stands.into_iter().flat_map(|stands| stands.marks().0.keys());
        named.filter(move |name| *name != ring.as_str() && self.outline(name).is_none())
    }

    /// The other rings of a policy, and those that are being put there, by their
    /// credentials. `stands` is the policy, if the operator's is there.
    fn credentials_of_others<'a>(
        &'a self,
        policy: PolicyRef,
        stands: Option<&'a Object>,
        ring: &'a RingName,
    ) -> impl Iterator<Item = &'a BTreeSet<String>> {
        let placed = self.by_policy.get(&policy).into_iter().flatten();
        let placed = placed.filter(move |other| *other != ring);
        let outlines = placed.filter_map(|other| self.outline(other.as_str()));
        let outlines = outlines.filter(|outline| !outline.removed);
        let placed = outlines.map(move |outline| outline.settings.credentials_in(policy));
        let claims = self.claims.iter();
        let claims = claims.filter(move |(other, of)| of.policy == policy && *other != ring);
        // Those that the policy has are among them.
        let lost = stands.filter(|_| self.lost(stands, ring).next().is_some());
        let lost = lost.into_iter().map(Object::credentials);
        placed.chain(claims.map(|(_, claimed)| &claimed.credentials)).chain(lost)
    }

    /// Whether a ring with these credentials cannot be in a policy, because others are
    /// there with other ones.
    fn excludes(
        &self,
        policy: PolicyRef,
        stands: Option<&Object>,
        ring: &RingName,
        credentials: &BTreeSet<String>,
    ) -> bool {
        policy.kind().shares_credentials()
            && self.credentials_of_others(policy, stands, ring).any(|others| others != credentials)
    }

    /// What a policy of this many bytes holds, claims of other rings included.
    fn held(
        &self,
        policy: PolicyRef,
        stands: Option<&Object>,
        ring: &RingName,
        bytes: usize,
    ) -> Occupancy {
        let placed = self.by_policy.get(&policy);
        let rings = placed.map_or(0, BTreeSet::len) + self.lost(stands, ring).count();
        let claims = self.claims.iter().filter(|(other, of)| {
            of.policy == policy
                && *other != ring
                && !placed.is_some_and(|placed| placed.contains(*other))
        });
        let claims = claims.count();
        // As large as the rings that are there.
        let average = bytes.checked_div(rings).unwrap_or(0);
        Occupancy { rings: rings + claims, bytes: bytes + claims * average }
    }
}

/// Room in a policy that a commit is about to use up. It counts as taken until
/// this is dropped: by then the ledger says so, or the commit has failed. Of one
/// whose answer was lost nobody knows; its room stays taken until the ledger is
/// seen, the ring tries again, or it is gone.
#[derive(Debug)]
#[must_use = "the room is free again as soon as this is dropped"]
pub struct Claim<'a> {
    ledgers: &'a Ledgers,
    ring: RingName,
    is_released: bool,
}

impl Claim<'_> {
    /// Leaves the room taken: it is not known what became of the commit.
    pub fn leave_taken(mut self) {
        self.is_released = false;
        if let Some(claimed) = self.ledgers.0.write().claims.get_mut(&self.ring) {
            claimed.is_under_way = false;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.is_released {
            self.ledgers.release(&self.ring);
        }
    }
}

impl Ledgers {
    /// Gives up what is claimed for a ring.
    pub fn release(&self, ring: &RingName) {
        self.0.write().end_claim(ring);
    }

    /// The policy with room for a ring with these credentials, what is claimed for other
    /// rings counted. `stands` gives a policy of the operator's, `size` its bytes.
    #[must_use]
    pub fn free_place(
        &self,
        ring: &RingName,
        (kind, action): (PolicyKind, Action),
        credentials: &BTreeSet<String>,
        (stands, size): (impl Fn(PolicyRef) -> Option<Arc<Object>>, impl Fn(PolicyRef) -> usize),
        limit: Occupancy,
    ) -> PolicyRef {
        let mut index = self.0.write();
        let is_full = |index: &LedgerIndex, policy: PolicyRef| {
            index.held(policy, stands(policy).as_deref(), ring, size(policy)).is_full(limit)
        };
        let own = index.claims.get(ring).map(|claimed| claimed.policy);
        let own = own.filter(|policy| (policy.kind(), policy.action()) == (kind, action));
        let full_below = index.full_below.get(&(kind, action)).copied().unwrap_or(1);
        let first = packing::place(kind, action, full_below, |policy| {
            own == Some(policy) || !is_full(&index, policy)
        });
        index.full_below.insert((kind, action), first.number());
        let first = own.map_or(first.number(), |own| own.number().min(first.number()));
        packing::place(kind, action, first, |policy| {
            let stands = stands(policy);
            !index.excludes(policy, stands.as_deref(), ring, credentials)
                && !is_full(&index, policy)
        })
    }

    /// Notes that a policy has become smaller, or is gone.
    pub fn has_shrunk(&self, policy: PolicyRef) {
        self.0.write().has_room(policy);
    }

    /// Whether a ring's policy has one set of registry credentials and the first ring
    /// in it, by name, has others than this one. Its ledger was restored, or two were
    /// placed by different processes.
    #[must_use]
    pub fn is_among_others(&self, ring: &RingName) -> bool {
        let index = self.0.read();
        let settings = |ring: &RingName| {
            let outline = index.outline(ring.as_str())?;
            (!outline.removed).then_some(&outline.settings)
        };
        let Some(own) = settings(ring) else { return false };
        let policy = own.policy;
        let mut placed = index.by_policy.get(&policy).into_iter().flatten().filter_map(settings);
        policy.kind().shares_credentials()
            && placed.next().is_some_and(|first| first.credentials_in(policy) != &own.credentials)
    }

    /// Claims room for a ring in a policy of this many bytes while a commit puts it there,
    /// or has it ask with other credentials there; nothing if there is no room for one with
    /// these. Without a limit the ring is there already.
    pub fn claim(
        &self,
        ring: &RingName,
        (policy, credentials): (PolicyRef, &BTreeSet<String>),
        stands: Option<&Object>,
        bytes: usize,
        limit: Option<Occupancy>,
    ) -> Option<Claim<'_>> {
        let mut index = self.0.write();
        let is_full = |limit| index.held(policy, stands, ring, bytes).is_full(limit);
        if index.excludes(policy, stands, ring, credentials) || limit.is_some_and(is_full) {
            return None;
        }
        let credentials = credentials.clone();
        // One of before, elsewhere: whatever became of that commit, this one says where it is.
        index.end_claim(ring);
        index.claims.insert(ring.clone(), Claimed { policy, credentials, is_under_way: true });
        Some(Claim { ledgers: self, ring: ring.clone(), is_released: true })
    }
}

#[cfg(test)]
mod tests;
