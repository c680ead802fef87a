//! What the watches have seen: the operator's picture of the cluster.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{
    ResourceExt,
    core::{DeserializeGuard, DynamicObject},
    runtime::reflector::{ObjectRef, Store},
};
use signingkeyring_core::policy_ref::PolicyRef;
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

use crate::kyverno::is_ours;

mod contents;
mod kyverno;
mod ledgers;
mod lists;
mod namespaces;
mod questions;
mod unknown;
mod written;

pub use contents::Contents;
pub use kyverno::Kyverno;
pub use ledgers::{Claim, KeySecretRow, LedgerRow, Ledgers};
pub use lists::LostLists;
pub use namespaces::Namespaces;
pub use questions::Questions;
pub use unknown::UnknownSince;
pub use written::{FailedWrite, Statuses, Written, WrittenPolicy};

/// The operator's picture of the cluster.
#[derive(Debug)]
pub struct Cache {
    /// The rings, also those that cannot be read.
    pub rings: Store<DeserializeGuard<SigningKeyRing>>,
    /// The exclusion lists, also those that cannot be read.
    pub lists: Store<DeserializeGuard<ImageExclusionList>>,
    /// Those that are gone with their kind.
    pub lost_lists: LostLists,
    /// Every ClusterPolicy of the cluster.
    pub policies: Store<DynamicObject>,
    /// The ledgers.
    pub ledgers: Ledgers,
    /// Which namespace belongs to which ring.
    pub namespaces: Namespaces,
    /// Since when labels of namespaces name no ring.
    pub unknown_since: UnknownSince,
    /// What became of the policies that this process wrote.
    pub written: Written,
    /// What the pipelines' Secrets were last seen to hold.
    pub contents: Contents,
    /// Statuses that this process wrote and the watch has not brought yet.
    pub statuses: Statuses,
    /// Whether the cluster serves ClusterPolicy.
    pub kyverno_served: AtomicBool,
    /// What of Kyverno decides which pods it sees.
    pub kyverno: Kyverno,
    /// Whether it serves the kind by which Kyverno is asked.
    pub questions: Questions,
}

impl Cache {
    /// A ring by its name.
    #[must_use]
    pub fn ring(&self, name: &str) -> Option<Arc<DeserializeGuard<SigningKeyRing>>> {
        self.rings.get(&ObjectRef::new(name))
    }

    /// An exclusion list by its name.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<Arc<DeserializeGuard<ImageExclusionList>>> {
        self.lists.get(&ObjectRef::new(name))
    }

    /// The names of the rings that there are, and of those that a ledger
    /// remembers.
    #[must_use]
    pub fn ring_names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            self.rings.state().iter().map(|ring| ring.name_any()).collect();
        names.extend(self.ledgers.rings().iter().map(ToString::to_string));
        names
    }

    /// A policy by its name.
    #[must_use]
    pub fn policy(&self, policy: PolicyRef) -> Option<Arc<DynamicObject>> {
        self.object(&policy.to_string())
    }

    /// An object of the policies' kind, whoever it belongs to.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Arc<DynamicObject>> {
        let kind = crate::kyverno::resource();
        self.policies.get(&ObjectRef::new_with(name, kind))
    }

    /// The policies that this operator wrote.
    pub fn our_policies(&self) -> impl Iterator<Item = (PolicyRef, Arc<DynamicObject>)> + use<> {
        let found = self.policies.state().into_iter().filter(|object| is_ours(object));
        found.filter_map(|object| Some((object.name_any().parse().ok()?, object)))
    }

    /// Whether the cluster serves ClusterPolicy.
    #[must_use]
    pub fn kyverno_served(&self) -> bool {
        self.kyverno_served.load(Ordering::Relaxed)
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
