//! The rings, packed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};
use signingkeyring_crds::SigningKeyRing;

use crate::packed::Packed;

type Guarded = DeserializeGuard<SigningKeyRing>;

/// The rings, also those that cannot be read. There are thousands of them, and a pass
/// looks at one: so they are packed, and what is asked of all of them stands beside.
#[derive(Clone, Debug, Default)]
pub struct Rings(Arc<RwLock<Index>>);

/// The writing end.
#[derive(Debug)]
pub struct RingsWriter {
    rings: Rings,
    /// The names in a list that is not complete yet.
    listing: HashSet<String>,
}

#[derive(Debug, Default)]
struct Index {
    rings: HashMap<String, Ring>,
    /// The rings that name a Secret in a namespace.
    by_namespace: HashMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Ring {
    version: Option<String>,
    created: Option<Timestamp>,
    object: Kept,
}

/// A ring's object, or with what is wrong with it.
#[derive(Clone, Debug)]
enum Kept {
    Readable(Packed),
    Unreadable(Arc<Guarded>),
}

impl Kept {
    fn unpacked(self) -> Option<Arc<Guarded>> {
        match self {
            Self::Readable(packed) => Some(Arc::new(DeserializeGuard(Ok(packed.unpack()?)))),
            Self::Unreadable(object) => Some(object),
        }
    }
}

/// The namespaces of the Secrets that a ring names.
fn namespaces(object: Option<&Guarded>) -> BTreeSet<&str> {
    let spec = object.and_then(|object| object.0.as_ref().ok()).map(|ring| &ring.spec);
    let pipelines = spec.into_iter().flat_map(|spec| &spec.pipelines);
    let import = spec.and_then(|spec| spec.import_from.as_ref());
    let import = import.map(|from| from.secret.namespace.as_str());
    pipelines.map(|pipeline| pipeline.namespace.as_str()).chain(import).collect()
}

impl Ring {
    fn of(object: &Guarded) -> Self {
        let kept = match &object.0 {
            Ok(ring) => {
                let mut ring = ring.clone();
                ring.metadata.managed_fields = None;
                Kept::Readable(Packed::of(&ring))
            }
            Err(_) => Kept::Unreadable(Arc::new(object.clone())),
        };
        let created = object.meta().creation_timestamp.as_ref().map(|created| created.0);
        Self { version: object.resource_version(), created, object: kept }
    }
}

impl Index {
    /// Puts a ring in the place of the one before, or takes that out.
    fn replace(
        &mut self,
        name: &str,
        ring: Option<Ring>,
        left: &BTreeSet<&str>,
        named: &BTreeSet<&str>,
    ) {
        for namespace in left - named {
            if let Some(names) = self.by_namespace.get_mut(namespace) {
                names.retain(|other| other != name);
                if names.is_empty() {
                    self.by_namespace.remove(namespace);
                }
            }
        }
        for namespace in named - left {
            self.by_namespace.entry(namespace.to_owned()).or_default().push(name.to_owned());
        }
        match ring {
            Some(ring) => drop(self.rings.insert(name.to_owned(), ring)),
            None => drop(self.rings.remove(name)),
        }
    }
}

impl Rings {
    /// None yet.
    #[must_use]
    pub fn new() -> (Self, RingsWriter) {
        let rings = Self::default();
        (rings.clone(), RingsWriter { rings, listing: HashSet::new() })
    }

    /// A ring by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Guarded>> {
        let kept = self.read().rings.get(name)?.object.clone();
        kept.unpacked()
    }

    /// Whether there is such a ring, and it can be read.
    #[must_use]
    pub fn has_readable(&self, name: &str) -> bool {
        let is_readable = |ring: &Ring| matches!(ring.object, Kept::Readable(_));
        self.read().rings.get(name).is_some_and(is_readable)
    }

    /// When a ring was created.
    #[must_use]
    pub fn created(&self, name: &str) -> Option<Timestamp> {
        self.read().rings.get(name)?.created
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.read().rings.keys().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().rings.len()
    }

    /// The rings that name a Secret in a namespace.
    #[must_use]
    pub fn naming(&self, namespace: &str) -> Vec<String> {
        self.read().by_namespace.get(namespace).cloned().unwrap_or_default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RingsWriter {
    /// Takes in what a watch has brought. What a list has is taken in at once, so that
    /// it is never there twice; what it has not is gone when it is complete. Returns the
    /// rings that are gone.
    pub fn apply(&mut self, event: &Event<Guarded>) -> Vec<String> {
        let mut gone = Vec::new();
        match event {
            Event::Apply(ring) => self.put(ring),
            Event::Delete(ring) => gone.push(ring.name_any()),
            Event::Init => self.listing.clear(),
            Event::InitApply(ring) => {
                self.listing.insert(ring.name_any());
                self.put(ring);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let names = self.rings.names().into_iter();
                gone.extend(names.filter(|name| !listed.contains(name)));
            }
        }
        gone.iter().for_each(|name| self.remove(name));
        gone
    }

    fn put(&self, object: &Guarded) {
        let (name, version) = (object.name_any(), object.resource_version());
        let is_known = |known: &Ring| version.is_some() && known.version == version;
        if self.rings.read().rings.get(&name).is_some_and(is_known) {
            return;
        }
        let before = self.rings.get(&name);
        let (left, named) = (namespaces(before.as_deref()), namespaces(Some(object)));
        let ring = Ring::of(object);
        self.rings.write().replace(&name, Some(ring), &left, &named);
    }

    fn remove(&self, name: &str) {
        let before = self.rings.get(name);
        let left = namespaces(before.as_deref());
        self.rings.write().replace(name, None, &left, &BTreeSet::new());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ring(name: &str, version: &str, namespace: &str) -> Guarded {
        let ring = json!({
            "apiVersion": "signing.odj.cloud/v1alpha1",
            "kind": "SigningKeyRing",
            "metadata": {
                "name": name, "resourceVersion": version,
                "managedFields": [{"manager": "somebody"}],
            },
            "spec": {"pipelines": [{"namespace": namespace}]},
        });
        serde_json::from_value(ring).unwrap()
    }

    #[test]
    fn a_ring_comes_out_as_it_went_in_but_for_who_wrote_it() {
        let (rings, mut writer) = Rings::new();
        let given = ring("shop", "1", "ci");
        writer.apply(&Event::Apply(given.clone()));
        let (mut given, found) = (given.0.unwrap(), rings.get("shop").unwrap());
        given.metadata.managed_fields = None;
        let found = found.0.as_ref().unwrap();
        assert_eq!(serde_json::to_value(found).unwrap(), serde_json::to_value(&given).unwrap());
        assert!(rings.has_readable("shop") && !rings.has_readable("pay"));
    }

    #[test]
    fn one_that_cannot_be_read_says_why() {
        let (rings, mut writer) = Rings::new();
        let broken = json!({"metadata": {"name": "shop"}, "spec": {"pipelines": 7}});
        writer.apply(&Event::Apply(serde_json::from_value(broken).unwrap()));
        assert!(rings.get("shop").unwrap().0.is_err());
        assert!(!rings.has_readable("shop"));
        assert_eq!(rings.len(), 1);
    }

    #[test]
    fn what_a_list_has_not_is_gone_once_it_is_complete() {
        let (rings, mut writer) = Rings::new();
        writer.apply(&Event::Apply(ring("shop", "1", "ci")));
        writer.apply(&Event::Apply(ring("pay", "2", "ci")));
        assert_eq!(rings.naming("ci"), ["shop", "pay"]);
        writer.apply(&Event::Init);
        writer.apply(&Event::InitApply(ring("pay", "3", "cd")));
        writer.apply(&Event::InitApply(ring("new", "4", "cd")));
        assert!(
            rings.has_readable("shop") && rings.has_readable("new"),
            "the list is not complete"
        );
        assert_eq!(writer.apply(&Event::InitDone), ["shop"]);
        assert_eq!(rings.names(), ["new".to_owned(), "pay".to_owned()].into());
        assert_eq!((rings.naming("ci"), rings.len()), (vec![], 2));
        assert_eq!(rings.naming("cd"), ["pay", "new"]);
        assert_eq!(writer.apply(&Event::Delete(ring("pay", "5", "cd"))), ["pay"]);
        assert_eq!(rings.naming("cd"), ["new"]);
    }
}
