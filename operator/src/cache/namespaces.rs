//! Namespaces and the rings they are enrolled in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use signingkeyring_core::omissions::Labels;

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
    /// Those of one that is enrolled.
    labels: Arc<Labels>,
    is_ending: bool,
}

/// What has become of a namespace by taking it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The ring that it was enrolled in before.
    pub left: Option<String>,
    /// Whether it is enrolled where it was, with other labels.
    pub is_labelled_anew: bool,
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
    /// Takes in a namespace with its labels, the ring it is enrolled in, if it is,
    /// and whether it is being deleted, which ends that.
    pub fn put(
        &self,
        name: &str,
        uid: Option<String>,
        ring: Option<&str>,
        labels: &Labels,
        is_ending: bool,
    ) -> Taken {
        let ring = ring.filter(|_| !is_ending);
        let mut index = self.write();
        let before = index.known.get(name);
        let was_ending = before.map(|known| known.is_ending);
        let same = before.filter(|known| ring.is_some() && known.ring.as_deref() == ring);
        let is_labelled_anew = same.is_some_and(|known| *known.labels != *labels);
        let kept = same.filter(|_| !is_labelled_anew).map(|known| Arc::clone(&known.labels));
        // Of others no labels are kept: a cluster may have many.
        let labels =
            kept.unwrap_or_else(|| Arc::new(ring.map(|_| labels.clone()).unwrap_or_default()));
        let matters_to_publishers = was_ending != Some(is_ending);
        let left = index.leave(name);
        let namespace = Namespace { uid, ring: ring.map(str::to_owned), labels, is_ending };
        index.known.insert(name.to_owned(), namespace);
        if let Some(ring) = ring {
            index.by_ring.entry(ring.to_owned()).or_default().insert(name.to_owned());
        }
        Taken { left, is_labelled_anew, matters_to_publishers }
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

    /// The ring that a namespace is enrolled in.
    #[must_use]
    pub fn ring_of(&self, name: &str) -> Option<String> {
        self.read().known.get(name)?.ring.clone()
    }

    /// The namespaces enrolled in a ring, with their labels.
    #[must_use]
    pub fn labels_of(&self, ring: &str) -> BTreeMap<String, Arc<Labels>> {
        let index = self.read();
        let names = index.by_ring.get(ring).into_iter().flatten();
        let labels = names
            .filter_map(|name| Some((name.clone(), Arc::clone(&index.known.get(name)?.labels))));
        labels.collect()
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
        let put = |ring, is_ending| {
            let taken = namespaces.put("dev", None, ring, &Labels::new(), is_ending);
            (taken.left, taken.matters_to_publishers)
        };
        assert_eq!(put(Some("shop"), false), (None, true));
        assert_eq!(put(Some("shop"), false), (Some("shop".into()), false));
        assert_eq!(put(Some("shop"), true), (Some("shop".into()), true));
        assert!(namespaces.exists("dev") && namespaces.is_ending("dev"));
        assert!(!namespaces.names_ring("shop"));
        assert_eq!(namespaces.remove("dev"), None);
        assert!(!namespaces.exists("dev") && !namespaces.is_ending("dev"));
        // One of that name is another one.
        assert_eq!(put(None, false), (None, true));
    }

    #[test]
    fn labels_are_kept_of_enrolled_namespaces() {
        let namespaces = Namespaces::default();
        let put = |ring, value: &str| {
            let labels = Labels::from([("stage".to_owned(), value.to_owned())]);
            namespaces.put("dev", None, ring, &labels, false).is_labelled_anew
        };
        let kept = || namespaces.labels_of("shop").values().map(|l| l.len()).sum::<usize>();
        assert!(!put(None, "a"));
        assert!(namespaces.read().known.values().all(|known| known.labels.is_empty()));
        assert!(!put(Some("shop"), "a"));
        assert_eq!(kept(), 1);
        assert!(put(Some("shop"), "b") && !put(Some("shop"), "b"));
        assert!(!put(None, "b"));
        assert_eq!(kept(), 0);
    }
}
