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
    is_ending: bool,
}

/// What has become of a namespace by taking it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The ring that it was enrolled in before.
    pub left: Option<String>,
    /// Whether it has come, or is being deleted by now.
    pub matters_to_publishers: bool,
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
    /// Takes in a namespace, the ring it is enrolled in, if it is, and whether it
    /// is being deleted, which ends that.
    pub fn put(
        &self,
        name: &str,
        uid: Option<String>,
        ring: Option<&str>,
        is_ending: bool,
    ) -> Taken {
        let ring = ring.filter(|_| !is_ending);
        let mut index = self.write();
        let was_ending = index.known.get(name).map(|known| known.is_ending);
        let matters_to_publishers = was_ending != Some(is_ending);
        let left = index.leave(name);
        let namespace = Namespace { uid, ring: ring.map(str::to_owned), is_ending };
        index.known.insert(name.to_owned(), namespace);
        if let Some(ring) = ring {
            index.by_ring.entry(ring.to_owned()).or_default().insert(name.to_owned());
        }
        Taken { left, matters_to_publishers }
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

    /// Whether the namespace exists and is being deleted.
    #[must_use]
    pub fn is_ending(&self, name: &str) -> bool {
        self.read().known.get(name).is_some_and(|known| known.is_ending)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_being_deleted_is_enrolled_nowhere() {
        let namespaces = Namespaces::default();
        let taken = namespaces.put("dev", None, Some("shop"), false);
        assert_eq!(taken, Taken { left: None, matters_to_publishers: true });
        let taken = namespaces.put("dev", None, Some("shop"), false);
        assert_eq!(taken, Taken { left: Some("shop".into()), matters_to_publishers: false });
        let taken = namespaces.put("dev", None, Some("shop"), true);
        assert_eq!(taken, Taken { left: Some("shop".into()), matters_to_publishers: true });
        assert!(namespaces.exists("dev") && namespaces.is_ending("dev"));
        assert!(!namespaces.names_ring("shop"));
        assert_eq!(namespaces.remove("dev"), None);
        assert!(!namespaces.exists("dev") && !namespaces.is_ending("dev"));
        // One of that name is another one.
        assert!(namespaces.put("dev", None, None, false).matters_to_publishers);
    }
}
