//! What the watches have seen: the operator's picture of the cluster.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kube::{
    core::{DeserializeGuard, DynamicObject},
    runtime::reflector::{ObjectRef, Store},
};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

mod ledgers;
mod namespaces;
mod written;

pub use ledgers::{Damage, LedgerRow, Ledgers};
pub use namespaces::Namespaces;
pub use written::{Statuses, Written, WrittenPolicy};

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
    /// Statuses that this process wrote and the watch has not brought yet.
    pub statuses: Statuses,
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

/// Whether one resourceVersion is newer than another of the same object. They
/// compare as numbers (KEP-5504); anything else is taken as not newer.
#[must_use]
pub fn is_newer(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => false,
    }
}
