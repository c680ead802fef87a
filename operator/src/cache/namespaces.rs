//! Namespaces and the rings they are enrolled in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use signingkeyring_core::omissions::Labels;

use crate::lock::RwLock;

/// Namespaces and the rings they are enrolled in.
#[derive(Debug, Default)]
pub struct Namespaces(RwLock<NamespaceIndex>);

#[derive(Debug, Default)]
struct NamespaceIndex {
    known: HashMap<Arc<str>, Namespace>,
    by_ring: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// The labels of those that are enrolled: most have the same.
    labels: HashSet<Arc<str>>,
}

/// There may be many more of them than rings: of one that is not enrolled nothing is
/// kept but that it is there.
#[derive(Debug)]
struct Namespace {
    enrolment: Option<Box<Enrolment>>,
    is_ending: bool,
}

#[derive(Debug)]
struct Enrolment {
    ring: Arc<str>,
    uid: Option<Box<str>>,
    /// Each as its key and its value, one after the other. In the place of a value that is
    /// the namespace's name, or its ring's, stands that it is.
    labels: Arc<str>,
}

/// Stand in no label.
const END: char = '\0';
const THE_NAMESPACE: &str = "\u{1}";
const THE_RING: &str = "\u{2}";

fn packed(labels: &Labels, namespace: &str, ring: &str) -> String {
    let shared = |value: &'_ str| match value {
        _ if value == namespace => THE_NAMESPACE.to_owned(),
        _ if value == ring => THE_RING.to_owned(),
        _ => value.to_owned(),
    };
    let words = labels.iter().flat_map(|(key, value)| [key.clone(), shared(value)]);
    let words: Vec<String> = words.collect();
    words.join("\0")
}

fn unpacked(labels: &str, namespace: &str, ring: &str) -> Labels {
    let mut words = labels.split(END);
    let own = |value| match value {
        THE_NAMESPACE => namespace,
        THE_RING => ring,
        value => value,
    };
    let pair = || Some((words.next()?.to_owned(), own(words.next()?).to_owned()));
    std::iter::from_fn(pair).collect()
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
        let Enrolment { ring, labels, .. } = *self.known.remove(name)?.enrolment?;
        // The other one is among all of them.
        if Arc::strong_count(&labels) == 2 {
            self.labels.remove(&labels);
        }
        if let Some(names) = self.by_ring.get_mut(&ring) {
            names.retain(|other| **other != *name);
            if names.is_empty() {
                self.by_ring.remove(&ring);
            }
        }
        Some(ring.to_string())
    }

    fn shared_labels(&mut self, labels: String) -> Arc<str> {
        if let Some(known) = self.labels.get(&*labels) {
            return Arc::clone(known);
        }
        let labels: Arc<str> = labels.into();
        self.labels.insert(Arc::clone(&labels));
        labels
    }

    /// A value of labels, shared among those that have it.
    fn shared(&self, ring: &str) -> Arc<str> {
        self.by_ring.get_key_value(ring).map_or_else(|| ring.into(), |(ring, _)| Arc::clone(ring))
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
        let mut index = self.0.write();
        let enrolment = ring.map(|ring| {
            let labels = index.shared_labels(packed(labels, name, ring));
            let (ring, uid) = (index.shared(ring), uid.map(String::into_boxed_str));
            Box::new(Enrolment { ring, uid, labels })
        });
        let before = index.known.get(name);
        let was_ending = before.map(|known| known.is_ending);
        let before = before.and_then(|known| known.enrolment.as_ref());
        let is_labelled_anew = before.zip(enrolment.as_ref()).is_some_and(|(before, after)| {
            before.ring == after.ring && before.labels != after.labels
        });
        let matters_to_publishers = was_ending != Some(is_ending);
        let left = index.leave(name);
        let name: Arc<str> = name.into();
        if let Some(enrolment) = &enrolment {
            let names = index.by_ring.entry(Arc::clone(&enrolment.ring)).or_default();
            // Most rings have a few, and a vector makes room for four.
            if names.len() < 4 {
                names.reserve_exact(1);
            }
            names.push(Arc::clone(&name));
        }
        index.known.insert(name, Namespace { enrolment, is_ending });
        Taken { left, is_labelled_anew, matters_to_publishers }
    }

    /// Forgets a namespace. Returns the ring it was enrolled in.
    pub fn remove(&self, name: &str) -> Option<String> {
        self.0.write().leave(name)
    }

    /// Whether the namespace exists.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        self.0.read().known.contains_key(name)
    }

    /// Whether the namespace exists and is being deleted.
    #[must_use]
    pub fn is_ending(&self, name: &str) -> bool {
        self.0.read().known.get(name).is_some_and(|known| known.is_ending)
    }

    /// The namespaces that are known.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.read().known.keys().map(ToString::to_string).collect()
    }

    /// The namespaces enrolled in a ring.
    #[must_use]
    pub fn enrolled(&self, ring: &str) -> BTreeSet<String> {
        let index = self.0.read();
        let names = index.by_ring.get(ring).into_iter().flatten();
        names.map(ToString::to_string).collect()
    }

    /// The ring that a namespace is enrolled in.
    #[must_use]
    pub fn ring_of(&self, name: &str) -> Option<String> {
        self.0
            .read()
            .known
            .get(name)?
            .enrolment
            .as_ref()
            .map(|enrolment| enrolment.ring.to_string())
    }

    /// The namespaces enrolled in a ring, with their labels.
    #[must_use]
    pub fn labels_of(&self, ring: &str) -> BTreeMap<String, Arc<Labels>> {
        let index = self.0.read();
        let names = index.by_ring.get(ring).into_iter().flatten();
        let labels = names.filter_map(|name| {
            let enrolment = index.known.get(name)?.enrolment.as_ref()?;
            let labels = unpacked(&enrolment.labels, name, &enrolment.ring);
            Some((name.to_string(), Arc::new(labels)))
        });
        labels.collect()
    }

    /// Whether a namespace is enrolled in a ring.
    #[must_use]
    pub fn names_ring(&self, ring: &str) -> bool {
        self.0.read().by_ring.contains_key(ring)
    }

    /// What the labels of namespaces say, of all but those that `is_own` takes for the
    /// operator's, in order.
    #[must_use]
    pub fn values_but_of(&self, is_own: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let index = self.0.read();
        let others = index.by_ring.iter();
        let others = others.filter(|(value, n)| n.iter().any(|n| !is_own(n, value)));
        let mut values: Vec<String> = others.map(|(value, _)| value.to_string()).collect();
        values.sort_unstable();
        values
    }

    /// The UID of a namespace that is enrolled.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<String> {
        let index = self.0.read();
        let uid = index.known.get(name)?.enrolment.as_ref()?.uid.as_deref();
        uid.map(str::to_owned)
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
        assert!(namespaces.0.read().known.values().all(|known| known.enrolment.is_none()));
        assert!(!put(Some("shop"), "a"));
        assert_eq!(kept(), 1);
        assert!(put(Some("shop"), "b") && !put(Some("shop"), "b"));
        assert_eq!(namespaces.0.read().labels.len(), 1, "what nobody has is not kept");
        assert!(!put(None, "b"));
        assert_eq!(kept(), 0);
        assert!(namespaces.0.read().labels.is_empty());
    }

    #[test]
    fn labels_come_out_as_they_went_in() {
        let namespaces = Namespaces::default();
        let of = |name: &str, ring: &str| {
            let pairs = [("name", name), ("ring", ring), ("team", "a"), ("empty", "")];
            Labels::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        let all = [("dev", "shop"), ("prod", "shop"), ("pay", "pay"), ("team", "a")];
        for (name, ring) in all {
            namespaces.put(name, None, Some(ring), &of(name, ring), false);
        }
        for (name, ring) in all {
            assert_eq!(*namespaces.labels_of(ring)[name], of(name, ring), "{name}");
        }
        assert_eq!(namespaces.labels_of("shop").len(), 2);
    }
}
