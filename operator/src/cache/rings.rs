//! The rings, packed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{Resource, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};
use signingkeyring_core::public_key::PublicKey;
use signingkeyring_crds::{SigningKeyRing, VersionStatus};

use super::Ledgers;
use crate::{hash::hash_of, lock::RwLock, packed::Packed};

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

type Index = HashMap<Arc<str>, Arc<Ring>>;

#[derive(Debug)]
struct Ring {
    version: Option<Box<str>>,
    created: Option<Timestamp>,
    /// Hashes of the namespaces of the Secrets that it names.
    namespaces: Box<[u32]>,
    object: Kept,
}

/// A ring's object, or with what is wrong with it.
#[derive(Clone, Debug)]
enum Kept {
    /// Its status may be without the fingerprints that follow from its keys.
    Readable {
        packed: Packed,
        /// The ledger behind which it is packed: its status repeats that.
        ledger: Option<Packed>,
        is_shortened: bool,
    },
    Unreadable(Arc<Guarded>),
}

impl Kept {
    fn unpacked(&self) -> Option<Arc<Guarded>> {
        match self {
            Self::Readable { packed, ledger, is_shortened } => {
                let mut ring: SigningKeyRing = packed.unpack_behind(ledger.as_ref())?;
                let missing = versions(&mut ring).filter(|v| v.fingerprint.is_empty());
                for version in missing.filter(|_| *is_shortened) {
                    version.fingerprint = fingerprint(version).unwrap_or_default();
                }
                Some(Arc::new(DeserializeGuard(Ok(ring))))
            }
            Self::Unreadable(object) => Some(Arc::clone(object)),
        }
    }
}

fn versions(ring: &mut SigningKeyRing) -> impl Iterator<Item = &mut VersionStatus> {
    ring.status.iter_mut().flat_map(|status| &mut status.versions)
}

/// The fingerprint of a version's key, if that is one as it is usual.
fn fingerprint(version: &VersionStatus) -> Option<String> {
    Some(PublicKey::from(&*version.public_key).fingerprint()?.into())
}

/// The namespaces of the Secrets that a ring names.
fn namespaces(object: &Guarded) -> BTreeSet<&str> {
    let spec = object.0.as_ref().ok().map(|ring| &ring.spec);
    let pipelines = spec.into_iter().flat_map(|spec| &spec.pipelines);
    let import = spec.and_then(|spec| spec.import_from.as_ref());
    let import = import.map(|from| from.secret.namespace.as_str());
    pipelines.map(|pipeline| pipeline.namespace.as_str()).chain(import).collect()
}

impl Ring {
    fn of(object: &Guarded, ledger: Option<Packed>) -> Self {
        let kept = match &object.0 {
            Ok(ring) => {
                let mut ring = ring.clone();
                ring.metadata.managed_fields = None;
                // Somebody else may have written a status without them.
                let is_shortened = versions(&mut ring).all(|v| !v.fingerprint.is_empty());
                let known = versions(&mut ring).filter(|_| is_shortened);
                for version in known.filter(|v| fingerprint(v).as_ref() == Some(&v.fingerprint)) {
                    version.fingerprint.clear();
                }
                let packed = Packed::behind(ledger.as_ref(), &ring);
                Kept::Readable { packed, ledger, is_shortened }
            }
            Err(_) => Kept::Unreadable(Arc::new(object.clone())),
        };
        let created = object.meta().creation_timestamp.as_ref().map(|created| created.0);
        let version = object.resource_version().map(String::into_boxed_str);
        let namespaces = namespaces(object).into_iter().map(hash_of).collect();
        Self { version, created, namespaces, object: kept }
    }

    /// The same, packed behind this ledger, unless it is already.
    fn behind(&self, ledger: &Packed) -> Option<Self> {
        let Kept::Readable { packed, ledger: before, is_shortened } = &self.object else {
            return None;
        };
        if before.as_ref().is_some_and(|before| before.is(ledger)) {
            return None;
        }
        let packed = packed.moved(before.as_ref(), Some(ledger))?;
        let (ledger, is_shortened) = (Some(ledger.clone()), *is_shortened);
        let object = Kept::Readable { packed, ledger, is_shortened };
        let (version, namespaces) = (self.version.clone(), self.namespaces.clone());
        Some(Self { version, created: self.created, namespaces, object })
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
        let ring = self.0.read().get(name).cloned()?;
        ring.object.unpacked()
    }

    /// Packs a ring behind its ledger as that is by now.
    pub(super) fn pack_behind(&self, name: &str, ledger: &Packed) {
        let Some(known) = self.0.read().get(name).cloned() else { return };
        let Some(ring) = known.behind(ledger) else { return };
        let mut rings = self.0.write();
        if let Some(kept) = rings.get_mut(name).filter(|kept| Arc::ptr_eq(kept, &known)) {
            *kept = Arc::new(ring);
        }
    }

    /// Whether there is such a ring.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        self.0.read().contains_key(name)
    }

    /// Whether there is such a ring, and it can be read.
    #[must_use]
    pub fn has_readable(&self, name: &str) -> bool {
        let is_readable = |ring: &Arc<Ring>| matches!(ring.object, Kept::Readable { .. });
        self.0.read().get(name).is_some_and(is_readable)
    }

    /// The resourceVersion in which a ring was last seen.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<String> {
        self.0.read().get(name)?.version.as_deref().map(str::to_owned)
    }

    /// When a ring was created.
    #[must_use]
    pub fn created(&self, name: &str) -> Option<Timestamp> {
        self.0.read().get(name)?.created
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.0.read().keys().map(ToString::to_string).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// The rings that name a Secret in a namespace, or seem to.
    #[must_use]
    pub fn naming(&self, namespace: &str) -> Vec<String> {
        let (rings, hash) = (self.0.read(), hash_of(namespace));
        let found = rings.iter().filter(|(_, ring)| ring.namespaces.contains(&hash));
        found.map(|(name, _)| name.to_string()).collect()
    }
}

impl RingsWriter {
    /// Takes in what a watch has brought. What a list has is taken in at once, so that
    /// it is never there twice; what it has not is gone when it is complete. Returns the
    /// rings that are gone.
    pub fn apply(&mut self, event: &Event<Guarded>, ledgers: &Ledgers) -> Vec<String> {
        let mut gone = Vec::new();
        match event {
            Event::Apply(ring) => self.put(ring, ledgers),
            Event::Delete(ring) => gone.push(ring.name_any()),
            Event::Init => self.listing.clear(),
            Event::InitApply(ring) => {
                self.listing.insert(ring.name_any());
                self.put(ring, ledgers);
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

    fn put(&self, object: &Guarded, ledgers: &Ledgers) {
        let (name, version) = (object.name_any(), object.resource_version());
        let is_known =
            |known: &Arc<Ring>| version.is_some() && known.version.as_deref() == version.as_deref();
        if self.rings.0.read().get(&*name).is_some_and(is_known) {
            return;
        }
        let ring = Arc::new(Ring::of(object, ledgers.packed(&name)));
        self.rings.0.write().insert(name.into(), ring);
    }

    fn remove(&self, name: &str) {
        self.rings.0.write().remove(name);
    }
}

#[cfg(test)]
mod tests;
