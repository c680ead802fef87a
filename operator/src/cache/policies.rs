//! The operator's policies and what goes with them: of each as much as decides, and
//! which rings they name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{Resource, ResourceExt, core::DynamicObject, runtime::watcher::Event};
use signingkeyring_core::{
    policy::image_validating::pin,
    policy_ref::{PolicyKind, PolicyRef},
};

use super::is_newer;
use crate::{
    kyverno::{Object, is_marked},
    lock::RwLock,
};

/// The objects of one kind that have names of the operator's, whoever they belong to.
#[derive(Debug)]
pub struct Objects {
    state: Arc<RwLock<State>>,
    served: Arc<AtomicBool>,
    outdated: AtomicBool,
}

/// The writing end.
pub struct ObjectsWriter {
    kind: Option<PolicyKind>,
    state: Arc<RwLock<State>>,
    /// Of a list that is not complete yet.
    listing: State,
    served: Arc<AtomicBool>,
}

/// The objects by name, and what would otherwise be looked for in all of them.
#[derive(Debug, Default)]
struct State {
    objects: HashMap<String, Arc<Object>>,
    /// The operator's policies that name a ring.
    naming: HashMap<String, Vec<PolicyRef>>,
    /// The image globs that they skip, and how many of them skip just those.
    skipped: BTreeMap<Arc<BTreeSet<String>>, usize>,
    /// The resourceVersion of what the watch has brought last; nothing where that was a list.
    newest: Option<String>,
}

impl State {
    fn put(&mut self, name: String, object: Arc<Object>) {
        self.remove(&name);
        if let Some(policy) = ours(&object) {
            for ring in object.marks().0.keys() {
                let policies = self.naming.entry(ring.clone()).or_default();
                policies.push(policy);
                policies.sort_unstable();
            }
            *self.skipped.entry(Arc::clone(object.skipped())).or_default() += 1;
        }
        self.objects.insert(name, object);
    }

    /// The globs that a policy skips, as another one's.
    fn shared(&self, object: &Object) -> Option<Arc<BTreeSet<String>>> {
        let found = self.skipped.get_key_value(object.skipped());
        found.map(|(skipped, _)| Arc::clone(skipped))
    }

    fn remove(&mut self, name: &str) {
        let Some(object) = self.objects.remove(name) else { return };
        let Some(policy) = ours(&object) else { return };
        for ring in object.marks().0.keys() {
            if let Some(policies) = self.naming.get_mut(ring) {
                policies.retain(|other| *other != policy);
                if policies.is_empty() {
                    self.naming.remove(ring);
                }
            }
        }
        if let Some(others) = self.skipped.get_mut(object.skipped()) {
            *others = others.saturating_sub(1);
            if *others == 0 {
                self.skipped.remove(object.skipped());
            }
        }
    }
}

/// The policy that an object is, if the operator wrote it.
fn ours(object: &Object) -> Option<PolicyRef> {
    object.name_any().parse().ok().filter(|_| is_marked(object))
}

/// The objects of all kinds.
#[derive(Debug)]
pub struct Policies {
    cluster: Objects,
    validating: Objects,
    companions: Objects,
}

/// The writing ends, by kind, and that of what goes with policies.
pub struct PoliciesWriter {
    /// Of the policies.
    pub kinds: Vec<(PolicyKind, ObjectsWriter)>,
    /// Of what goes with them.
    pub companions: ObjectsWriter,
}

impl Objects {
    fn new(kind: Option<PolicyKind>) -> (Self, ObjectsWriter) {
        let served = Arc::new(AtomicBool::new(true));
        let state = Arc::default();
        let objects = Self {
            state: Arc::clone(&state),
            served: Arc::clone(&served),
            outdated: AtomicBool::new(false),
        };
        (objects, ObjectsWriter { kind, state, listing: State::default(), served })
    }

    /// An object by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(name).cloned()
    }

    /// Whether the watch has yet to come to where an object was of this resourceVersion: if it
    /// is not there, it is not for all that is known.
    #[must_use]
    pub fn is_behind(&self, resource_version: &str) -> bool {
        let state = self.state.read();
        state.newest.as_ref().is_some_and(|newest| is_newer(resource_version, newest))
    }

    /// All of them.
    #[must_use]
    pub fn state(&self) -> Vec<Arc<Object>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// The operator's policies among them that name a ring.
    #[must_use]
    pub fn naming(&self, ring: &str) -> Vec<PolicyRef> {
        self.state.read().naming.get(ring).cloned().unwrap_or_default()
    }

    /// The image globs that the rules of the operator's policies among them skip.
    #[must_use]
    pub fn skipped(&self) -> BTreeSet<String> {
        self.state.read().skipped.keys().flat_map(|globs| globs.iter().cloned()).collect()
    }

    /// Whether the cluster's API serves the kind, for all that is known: what stands there
    /// is seen, and can be changed.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether it does, and Kyverno is not too old for it.
    #[must_use]
    pub fn is_executed(&self) -> bool {
        self.is_served() && !self.outdated.load(Ordering::Relaxed)
    }

    /// Takes in whether the kind is an older Kyverno's, or nobody's for all that is known;
    /// returns whether that is news.
    pub fn set_outdated(&self, outdated: bool) -> bool {
        self.outdated.swap(outdated, Ordering::Relaxed) != outdated
    }
}

impl ObjectsWriter {
    /// Takes in what a watch has brought.
    pub fn apply(&mut self, event: &Event<DynamicObject>) {
        match event {
            Event::Apply(object) => {
                let kept = self.kept(object);
                let mut state = self.state.write();
                state.newest = object.resource_version();
                if let Some((name, object)) = kept {
                    state.put(name, object);
                }
            }
            Event::Delete(object) => {
                let mut state = self.state.write();
                state.newest = object.resource_version();
                state.remove(&object.name_any());
            }
            Event::Init => self.listing = State::default(),
            Event::InitApply(object) => {
                if let Some((name, object)) = self.kept(object) {
                    self.listing.put(name, object);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                *self.state.write() = listed;
            }
        }
    }

    /// An object as it is kept, if it is: one of another name is nobody's business here.
    /// One that is known already is not kept twice.
    fn kept(&self, object: &DynamicObject) -> Option<(String, Arc<Object>)> {
        let name = object.name_any();
        let is_named = match self.kind {
            Some(kind) => name.parse().is_ok_and(|policy: PolicyRef| policy.kind() == kind),
            None => pin::policy_of(&name).is_some(),
        };
        if !is_named {
            return None;
        }
        let before = self.state.read().objects.get(&name).cloned();
        let version = object.metadata.resource_version.as_ref();
        let is_known = |known: &&Arc<Object>| {
            version.is_some()
                && known.meta().resource_version.as_ref() == version
                && known.meta().uid == object.metadata.uid
        };
        if let Some(known) = before.as_ref().filter(is_known) {
            return Some((name, Arc::clone(known)));
        }
        let mut object = Object::new(self.kind, object, before.as_deref());
        // Mostly all policies skip the same.
        let skipped = self.listing.shared(&object).or_else(|| self.state.read().shared(&object));
        if let Some(skipped) = skipped {
            object.share_skipped(skipped);
        }
        Some((name, Arc::new(object)))
    }

    /// Takes in whether the kind is served; returns whether that is news.
    pub fn set_served(&mut self, served: bool) -> bool {
        if !served {
            self.apply(&Event::Init);
            self.apply(&Event::InitDone);
        }
        self.served.swap(served, Ordering::Relaxed) != served
    }
}

impl Policies {
    /// Empty ones.
    #[must_use]
    pub fn new() -> (Self, PoliciesWriter) {
        let of = |kind| Objects::new(Some(kind));
        let (cluster, of_cluster) = of(PolicyKind::ClusterPolicy);
        let (validating, of_validating) = of(PolicyKind::ImageValidatingPolicy);
        let (companions, of_companions) = Objects::new(None);
        let kinds = vec![
            (PolicyKind::ClusterPolicy, of_cluster),
            (PolicyKind::ImageValidatingPolicy, of_validating),
        ];
        let writer = PoliciesWriter { kinds, companions: of_companions };
        (Self { cluster, validating, companions }, writer)
    }

    /// The objects of a kind.
    #[must_use]
    pub const fn of(&self, kind: PolicyKind) -> &Objects {
        match kind {
            PolicyKind::ClusterPolicy => &self.cluster,
            PolicyKind::ImageValidatingPolicy => &self.validating,
        }
    }

    /// The objects that go with policies.
    #[must_use]
    pub const fn companions(&self) -> &Objects {
        &self.companions
    }

    /// The kinds that the cluster's API serves.
    #[must_use]
    pub fn served(&self) -> BTreeSet<PolicyKind> {
        PolicyKind::ALL.into_iter().filter(|kind| self.of(*kind).is_served()).collect()
    }

    /// Those of them that Kyverno is too old for.
    #[must_use]
    pub fn outdated(&self) -> BTreeSet<PolicyKind> {
        let served = self.served().into_iter();
        served.filter(|kind| !self.of(*kind).is_executed()).collect()
    }
}

#[cfg(test)]
mod tests;
