//! The ledgers by ring, the rings by policy, and the Secrets of standby keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use signingkeyring_core::{
    ledger::{Damage, Ledger},
    marks::RuleState,
    names::RingName,
    policy::packing::Occupancy,
    policy_ref::PolicyRef,
};

use super::is_newer;

/// A ledger as it was last seen, without its private keys.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// The Secret's resourceVersion.
    pub resource_version: String,
    /// What it says, if it can be relied on.
    pub ledger: Result<Arc<Ledger>, Damage>,
    /// What the policies are to say of the ring, if the ledger can be read.
    pub state: Option<RuleState>,
}

impl LedgerRow {
    /// A row from a ledger that can be relied on.
    #[must_use]
    pub fn sound(resource_version: String, ledger: Ledger) -> Self {
        let state = Some(ledger.rule_state());
        Self { resource_version, ledger: Ok(Arc::new(ledger)), state }
    }

    /// A row from one that cannot. Where only its private keys are in doubt,
    /// the rule that its table calls for stays in force all the same.
    #[must_use]
    pub fn damaged(resource_version: String, damage: Damage) -> Self {
        let state = damage.table().map(|table| table.rule_state());
        Self { resource_version, ledger: Err(damage), state }
    }

    /// Its table, shared, for who keeps it longer than the row.
    #[must_use]
    pub fn shared_table(&self) -> Option<Arc<Ledger>> {
        match &self.ledger {
            Ok(ledger) => Some(Arc::clone(ledger)),
            Err(damage) => damage.table().cloned(),
        }
    }

    /// What it says, whether or not its private keys can be relied on.
    #[must_use]
    pub fn table(&self) -> Option<&Ledger> {
        match &self.ledger {
            Ok(ledger) => Some(ledger),
            Err(damage) => damage.table().map(Arc::as_ref),
        }
    }

    /// Its table, if its private keys have to be looked at first.
    #[must_use]
    pub fn unchecked(&self) -> Option<&Arc<Ledger>> {
        match &self.ledger {
            Err(Damage::KeysUnchecked { table }) => Some(table),
            Ok(_) | Err(Damage::Unreadable { .. } | Damage::KeysUnfit { .. }) => None,
        }
    }
}

/// The ledgers by ring, and the rings by policy.
#[derive(Debug, Default)]
pub struct Ledgers(RwLock<LedgerIndex>);

#[derive(Debug, Default)]
struct LedgerIndex {
    rows: HashMap<RingName, LedgerRow>,
    by_policy: BTreeMap<PolicyRef, BTreeSet<RingName>>,
    /// The policies that rings are being put into right now.
    claims: HashMap<RingName, Claimed>,
    /// The rings whose last ledger said that they were removed. Nobody else
    /// remembers it once that ledger is deleted.
    removed: HashSet<RingName>,
    /// The Secrets of standby keys.
    key_secrets: HashMap<RingName, BTreeMap<String, KeySecretRow>>,
}

/// The Secret of a standby key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecretRow {
    /// The ledger's sequence when it was written.
    pub sequence: u64,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Whether it holds the key that the ledger means; nothing if that was not
    /// looked at in this resourceVersion.
    pub is_fit: Option<bool>,
}

/// Room in a policy that a ring takes up or may have taken up.
#[derive(Clone, Copy, Debug)]
struct Claimed {
    policy: PolicyRef,
    /// Whether the commit has yet to end.
    is_under_way: bool,
}

impl LedgerIndex {
    fn unplace(&mut self, ring: &RingName) {
        self.by_policy.retain(|_, rings| {
            rings.remove(ring);
            !rings.is_empty()
        });
    }

    fn put(&mut self, ring: &RingName, row: LedgerRow) {
        self.unplace(ring);
        if let Some(ledger) = row.table() {
            if ledger.removed {
                self.removed.insert(ring.clone());
            } else {
                self.removed.remove(ring);
            }
            for policy in ledger.rule.settings.policies() {
                self.by_policy.entry(policy).or_default().insert(ring.clone());
            }
        }
        // An event of the state before a commit is no word on a commit under way.
        if self.claims.get(ring).is_some_and(|claimed| !claimed.is_under_way) {
            self.claims.remove(ring);
        }
        self.rows.insert(ring.clone(), row);
    }

    /// What a policy of this many bytes holds, claims of other rings included.
    fn held(&self, policy: PolicyRef, ring: &RingName, bytes: usize) -> Occupancy {
        let placed = self.by_policy.get(&policy);
        let rings = placed.map_or(0, BTreeSet::len);
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
        if let Some(claimed) = self.ledgers.write().claims.get_mut(&self.ring) {
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
    /// Takes in a ledger unless this or a newer state of it is known: this
    /// process puts in what it commits, and what it has checked, before the
    /// watch brings it.
    pub fn put(&self, ring: &RingName, row: LedgerRow) {
        let mut index = self.write();
        let stale = index.rows.get(ring).is_some_and(|known| {
            let same = known.resource_version == row.resource_version;
            (same && row.unchecked().is_some() && known.unchecked().is_none())
                || is_newer(&known.resource_version, &row.resource_version)
        });
        if !stale {
            index.put(ring, row);
        }
    }

    /// Gives up what is claimed for a ring.
    pub fn release(&self, ring: &RingName) {
        self.write().claims.remove(ring);
    }

    /// Forgets a ledger that was deleted.
    pub fn remove(&self, ring: &RingName) {
        let mut index = self.write();
        index.claims.remove(ring);
        index.unplace(ring);
        index.rows.remove(ring);
    }

    /// Whether a ring's last ledger was seen to say that the ring was removed.
    #[must_use]
    pub fn was_removed(&self, ring: &str) -> bool {
        self.read().removed.contains(ring)
    }

    /// A ring's ledger; of a name that no ring may have there is none.
    #[must_use]
    pub fn get(&self, ring: &str) -> Option<LedgerRow> {
        self.read().rows.get(ring).cloned()
    }

    /// The rings that have a ledger.
    #[must_use]
    pub fn rings(&self) -> Vec<RingName> {
        self.read().rows.keys().cloned().collect()
    }

    /// The rings whose ledger lists a Secret in a namespace.
    #[must_use]
    pub fn publishing_in(&self, namespace: &str) -> Vec<RingName> {
        let lists = |row: &LedgerRow| {
            let listed = row.table().map(|table| table.publications.iter());
            listed.into_iter().flatten().any(|secret| secret.namespace == namespace)
        };
        let rows = &self.read().rows;
        rows.iter().filter(|(_, row)| lists(row)).map(|(ring, _)| ring.clone()).collect()
    }

    /// The policies that ledgers name.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyRef> {
        self.read().by_policy.keys().copied().collect()
    }

    /// The ledgers placed in a policy, by ring.
    #[must_use]
    pub fn placed_in(&self, policy: PolicyRef) -> Vec<(RingName, LedgerRow)> {
        let index = self.read();
        let rings = index.by_policy.get(&policy).into_iter().flatten();
        rings.filter_map(|r| index.rows.get(r).map(|row| (r.clone(), row.clone()))).collect()
    }

    /// What each policy holds, with what is claimed for other rings than this
    /// one. `sizes` are the policies' bytes.
    #[must_use]
    pub fn occupancy(
        &self,
        ring: &RingName,
        sizes: &HashMap<PolicyRef, usize>,
    ) -> BTreeMap<PolicyRef, Occupancy> {
        let index = self.read();
        let policies: BTreeSet<PolicyRef> = {
            let claimed = index.claims.values().map(|claimed| claimed.policy);
            index.by_policy.keys().copied().chain(claimed).collect()
        };
        policies
            .into_iter()
            .map(|policy| {
                let bytes = sizes.get(&policy).copied().unwrap_or(0);
                (policy, index.held(policy, ring, bytes))
            })
            .collect()
    }

    /// Claims room for a ring in a policy of this many bytes while a commit
    /// puts it there; nothing if there is no room.
    pub fn claim(
        &self,
        ring: &RingName,
        policy: PolicyRef,
        bytes: usize,
        limit: Occupancy,
    ) -> Option<Claim<'_>> {
        let mut index = self.write();
        if index.held(policy, ring, bytes).is_full(limit) {
            return None;
        }
        index.claims.insert(ring.clone(), Claimed { policy, is_under_way: true });
        Some(Claim { ledgers: self, ring: ring.clone(), is_released: true })
    }

    /// Takes in the Secret of a standby key. What is known of its content stands
    /// for its resourceVersion.
    pub fn put_key_secret(&self, ring: &RingName, name: &str, mut row: KeySecretRow) {
        let mut index = self.write();
        let secrets = index.key_secrets.entry(ring.clone()).or_default();
        let known = secrets.get(name).filter(|k| k.resource_version == row.resource_version);
        row.is_fit = row.is_fit.or_else(|| known?.is_fit);
        secrets.insert(name.to_owned(), row);
    }

    /// Forgets the Secret of a standby key.
    pub fn remove_key_secret(&self, ring: &RingName, name: &str) {
        let mut index = self.write();
        if let Some(secrets) = index.key_secrets.get_mut(ring) {
            secrets.remove(name);
            if secrets.is_empty() {
                index.key_secrets.remove(ring);
            }
        }
    }

    /// The Secrets of a ring's standby keys.
    #[must_use]
    pub fn key_secrets(&self, ring: &RingName) -> BTreeMap<String, KeySecretRow> {
        self.read().key_secrets.get(ring).cloned().unwrap_or_default()
    }

    /// The rings that have Secrets of standby keys.
    #[must_use]
    pub fn rings_with_key_secrets(&self) -> Vec<RingName> {
        self.read().key_secrets.keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, LedgerIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, LedgerIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
