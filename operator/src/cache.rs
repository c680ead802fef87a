//! What the watches have seen: the operator's picture of the cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{
    core::{DeserializeGuard, DynamicObject},
    runtime::reflector::{ObjectRef, Store},
};
use signingkeyring_core::{ledger::Ledger, marks::Mark, snapshot::WriteFailure};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

/// The operator's picture of the cluster.
#[derive(Debug)]
pub struct Cache {
    /// The rings, also those that cannot be read.
    pub rings: Store<DeserializeGuard<SigningKeyRing>>,
    /// The exclusion lists, also those that cannot be read.
    pub lists: Store<DeserializeGuard<ImageExclusionList>>,
    /// Every ClusterPolicy of the cluster.
    pub policies: Store<DynamicObject>,
    /// The ledgers.
    pub ledgers: Ledgers,
    /// Which namespace belongs to which ring.
    pub namespaces: Namespaces,
    /// What became of the policies that this process wrote.
    pub written: Written,
    /// Whether the cluster serves ClusterPolicy.
    pub kyverno_served: AtomicBool,
}

impl Cache {
    /// A ring by its name.
    #[must_use]
    pub fn ring(&self, name: &str) -> Option<Arc<DeserializeGuard<SigningKeyRing>>> {
        self.rings.get(&ObjectRef::new(name))
    }

    /// A policy by its name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<Arc<DynamicObject>> {
        let kind = crate::kyverno::resource();
        self.policies.get(&ObjectRef::new_with(name, kind))
    }

    /// Whether the cluster serves ClusterPolicy.
    #[must_use]
    pub fn kyverno_served(&self) -> bool {
        self.kyverno_served.load(Ordering::Relaxed)
    }
}

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

/// Namespaces and the rings they are enrolled in.
#[derive(Debug, Default)]
pub struct Namespaces(RwLock<NamespaceIndex>);

#[derive(Debug, Default)]
struct NamespaceIndex {
    ring_of: HashMap<String, Option<String>>,
    by_ring: HashMap<String, BTreeSet<String>>,
}

impl NamespaceIndex {
    fn leave(&mut self, name: &str) -> Option<String> {
        let ring = self.ring_of.remove(name).flatten()?;
        if let Some(names) = self.by_ring.get_mut(&ring) {
            names.remove(name);
            if names.is_empty() {
                self.by_ring.remove(&ring);
            }
        }
        Some(ring)
    }
}

impl Namespaces {
    /// Takes in a namespace and the ring it is enrolled in, if it is and if it
    /// is not being deleted. Returns the ring it was enrolled in before.
    pub fn put(&self, name: &str, ring: Option<&str>) -> Option<String> {
        let mut index = self.write();
        let before = index.leave(name);
        index.ring_of.insert(name.to_owned(), ring.map(str::to_owned));
        if let Some(ring) = ring {
            index.by_ring.entry(ring.to_owned()).or_default().insert(name.to_owned());
        }
        before
    }

    /// Forgets a namespace. Returns the ring it was enrolled in.
    pub fn remove(&self, name: &str) -> Option<String> {
        self.write().leave(name)
    }

    /// Whether the namespace exists.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        self.read().ring_of.contains_key(name)
    }

    /// The namespaces that are known.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.read().ring_of.keys().cloned().collect()
    }

    /// The namespaces enrolled in a ring.
    #[must_use]
    pub fn enrolled(&self, ring: &str) -> BTreeSet<String> {
        self.read().by_ring.get(ring).cloned().unwrap_or_default()
    }

    fn read(&self) -> RwLockReadGuard<'_, NamespaceIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, NamespaceIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this process last wrote of a policy, and what became of it.
#[derive(Clone, Debug)]
pub struct WrittenPolicy {
    /// The `spec` that was sent.
    pub sent: serde_json::Value,
    /// The object that the API server made of it.
    pub stored: DynamicObject,
}

/// What became of the policies that this process wrote.
#[derive(Debug, Default)]
pub struct Written(RwLock<WrittenIndex>);

#[derive(Debug, Default)]
struct WrittenIndex {
    policies: HashMap<String, WrittenPolicy>,
    failures: HashMap<String, WriteFailure>,
}

impl Written {
    /// What was last written of a policy.
    #[must_use]
    pub fn get(&self, policy: &str) -> Option<WrittenPolicy> {
        self.read().policies.get(policy).cloned()
    }

    /// Why the last write of a policy failed.
    #[must_use]
    pub fn failure(&self, policy: &str) -> Option<WriteFailure> {
        self.read().failures.get(policy).cloned()
    }

    /// Remembers a write.
    pub fn succeeded(&self, policy: &str, written: WrittenPolicy) {
        let mut index = self.write();
        index.failures.remove(policy);
        index.policies.insert(policy.to_owned(), written);
    }

    /// Remembers that a policy is as it should be.
    pub fn fine(&self, policy: &str) -> bool {
        self.write().failures.remove(policy).is_some()
    }

    /// Remembers that a write failed; returns whether that is news.
    pub fn failed(&self, policy: &str, failure: WriteFailure) -> bool {
        let before = self.write().failures.insert(policy.to_owned(), failure.clone());
        before != Some(failure)
    }

    /// Forgets a policy that was deleted on purpose.
    pub fn forget(&self, policy: &str) {
        let mut index = self.write();
        index.policies.remove(policy);
        index.failures.remove(policy);
    }

    fn read(&self) -> RwLockReadGuard<'_, WrittenIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, WrittenIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one resourceVersion is newer than another of the same object. They
/// compare as numbers (KEP-5504); anything else is taken as not newer.
#[must_use]
pub fn is_newer(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => false,
    }
}
