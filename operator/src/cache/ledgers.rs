//! The ledgers by ring, and the rings by policy.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use signingkeyring_core::{ledger::Ledger, marks::Mark};

use super::is_newer;

/// A ledger as it was last seen, without its private keys.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// The Secret's resourceVersion.
    pub resource_version: String,
    /// What it says, or why it cannot be read.
    pub ledger: Result<Arc<Ledger>, String>,
    /// What the policies are to say of the ring, if the ledger can be read.
    pub mark: Option<Mark>,
}

impl LedgerRow {
    /// A row from what the Secret's annotation says.
    #[must_use]
    pub fn new(resource_version: String, ledger: Result<Ledger, String>) -> Self {
        let mark = ledger.as_ref().ok().map(Ledger::mark);
        Self { resource_version, ledger: ledger.map(Arc::new), mark }
    }
}

/// The ledgers by ring, and the rings by policy.
#[derive(Debug, Default)]
pub struct Ledgers(RwLock<LedgerIndex>);

#[derive(Debug, Default)]
struct LedgerIndex {
    rows: HashMap<String, LedgerRow>,
    by_policy: BTreeMap<String, BTreeSet<String>>,
    /// Places given out whose ledger has not been seen yet.
    promised: HashMap<String, String>,
}

impl LedgerIndex {
    fn unplace(&mut self, ring: &str) {
        self.by_policy.retain(|_, rings| {
            rings.remove(ring);
            !rings.is_empty()
        });
    }

    fn put(&mut self, ring: &str, row: LedgerRow) {
        self.unplace(ring);
        if let Ok(ledger) = &row.ledger {
            for policy in ledger.rule.settings.policies() {
                self.by_policy.entry(policy.to_owned()).or_default().insert(ring.to_owned());
            }
        }
        self.promised.remove(ring);
        self.rows.insert(ring.to_owned(), row);
    }
}

impl Ledgers {
    /// Takes in a ledger unless a newer state of it is known: this process
    /// puts in what it commits, before the watch brings it.
    pub fn put(&self, ring: &str, row: LedgerRow) {
        let mut index = self.write();
        let known = index.rows.get(ring).map(|known| known.resource_version.as_str());
        if known.is_none_or(|known| !is_newer(known, &row.resource_version)) {
            index.put(ring, row);
        }
    }

    /// Forgets a ledger that was deleted.
    pub fn remove(&self, ring: &str) {
        let mut index = self.write();
        index.unplace(ring);
        index.rows.remove(ring);
        index.promised.remove(ring);
    }

    /// A ring's ledger.
    #[must_use]
    pub fn get(&self, ring: &str) -> Option<LedgerRow> {
        self.read().rows.get(ring).cloned()
    }

    /// The rings that have a ledger.
    #[must_use]
    pub fn rings(&self) -> Vec<String> {
        self.read().rows.keys().cloned().collect()
    }

    /// The policies that ledgers name.
    #[must_use]
    pub fn policies(&self) -> Vec<String> {
        self.read().by_policy.keys().cloned().collect()
    }

    /// The ledgers placed in a policy, by ring.
    #[must_use]
    pub fn placed_in(&self, policy: &str) -> Vec<(String, LedgerRow)> {
        let index = self.read();
        let rings = index.by_policy.get(policy).into_iter().flatten();
        rings.filter_map(|r| index.rows.get(r).map(|row| (r.clone(), row.clone()))).collect()
    }

    /// Finds a place for a ring with `choose`, which is told how many rings
    /// each policy holds, and keeps it until the ring's ledger says so.
    pub fn promise(
        &self,
        ring: &str,
        choose: impl FnOnce(&BTreeMap<String, usize>) -> String,
    ) -> String {
        let mut index = self.write();
        let mut occupancy: BTreeMap<String, usize> =
            index.by_policy.iter().map(|(policy, rings)| (policy.clone(), rings.len())).collect();
        for (_, policy) in index.promised.iter().filter(|(other, _)| *other != ring) {
            *occupancy.entry(policy.clone()).or_default() += 1;
        }
        let place = choose(&occupancy);
        index.promised.insert(ring.to_owned(), place.clone());
        place
    }

    fn read(&self) -> RwLockReadGuard<'_, LedgerIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, LedgerIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
