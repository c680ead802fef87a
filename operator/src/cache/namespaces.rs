//! Namespaces and the rings they are enrolled in.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

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
