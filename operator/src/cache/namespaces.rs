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
    known: HashMap<String, Namespace>,
    by_ring: HashMap<String, BTreeSet<String>>,
}

#[derive(Debug)]
struct Namespace {
    uid: Option<String>,
    ring: Option<String>,
}

impl NamespaceIndex {
    fn leave(&mut self, name: &str) -> Option<String> {
        let ring = self.known.remove(name)?.ring?;
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
    pub fn put(&self, name: &str, uid: Option<String>, ring: Option<&str>) -> Option<String> {
        let mut index = self.write();
        let before = index.leave(name);
        let namespace = Namespace { uid, ring: ring.map(str::to_owned) };
        index.known.insert(name.to_owned(), namespace);
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
        self.read().known.contains_key(name)
    }

    /// The namespaces that are known.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.read().known.keys().cloned().collect()
    }

    /// The namespaces enrolled in a ring.
    #[must_use]
    pub fn enrolled(&self, ring: &str) -> BTreeSet<String> {
        self.read().by_ring.get(ring).cloned().unwrap_or_default()
    }

    /// Whether a namespace is enrolled in a ring.
    #[must_use]
    pub fn names_ring(&self, ring: &str) -> bool {
        self.read().by_ring.contains_key(ring)
    }

    /// What the labels of namespaces say, of all but this one, in order.
    #[must_use]
    pub fn values_but_of(&self, namespace: &str) -> Vec<String> {
        let index = self.read();
        let others = index.by_ring.iter().filter(|(_, n)| n.iter().any(|n| n != namespace));
        let mut values: Vec<String> = others.map(|(value, _)| value.clone()).collect();
        values.sort_unstable();
        values
    }

    /// A namespace's UID.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<String> {
        self.read().known.get(name)?.uid.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, NamespaceIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, NamespaceIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
