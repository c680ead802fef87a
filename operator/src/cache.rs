//! What the watches have seen: the operator's picture of the cluster.

use std::{collections::BTreeSet, sync::Arc};

use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use signingkeyring_core::policy_ref::{PolicyKind, PolicyRef};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

use crate::kyverno::{Object, is_ours};

mod contents;
mod kyverno;
mod ledgers;
mod lists;
mod looks;
mod namespaces;
mod policies;
mod questions;
mod rings;
mod unknown;
mod usable;
mod written;

pub use contents::Contents;
pub use kyverno::Kyverno;
pub use ledgers::{Claim, KeySecretRow, LedgerRow, Ledgers, Outline};
pub use lists::LostLists;
pub use looks::{Looks, Seen};
pub use namespaces::Namespaces;
pub use policies::{Objects, ObjectsWriter, Policies, PoliciesWriter};
pub use questions::Questions;
pub use rings::{Rings, RingsWriter};
pub use unknown::{UnknownSince, UnknownTold};
pub use usable::Usable;
pub use written::{FailedWrite, Statuses, WATCHED_WITHIN, Written, WrittenPolicy};

/// The operator's picture of the cluster.
#[derive(Debug)]
pub struct Cache {
    /// The rings, also those that cannot be read.
    pub rings: Rings,
    /// The exclusion lists, also those that cannot be read.
    pub lists: Store<DeserializeGuard<ImageExclusionList>>,
    /// Those that are gone with their kind.
    pub lost_lists: LostLists,
    /// Every object of the kinds that the operator's policies are of.
    pub policies: Policies,
    /// Which of those kinds are of no use any more.
    pub usable: Usable,
    /// The ledgers.
    pub ledgers: Ledgers,
    /// Which namespace belongs to which ring.
    pub namespaces: Namespaces,
    /// Since when labels of namespaces name no ring.
    pub unknown_since: UnknownSince,
    /// Which of them the guard was told of.
    pub unknown_told: UnknownTold,
    /// What became of the policies that this process wrote.
    pub written: Written,
    /// What the pipelines' Secrets were last seen to hold.
    pub contents: Contents,
    /// What was last seen of those of rings that are on their way.
    pub looks: Looks,
    /// Statuses that this process wrote and the watch has not brought yet.
    pub statuses: Statuses,
    /// What of Kyverno decides which pods it sees.
    pub kyverno: Kyverno,
    /// Whether it serves the kind by which Kyverno is asked.
    pub questions: Questions,
}

impl Cache {
    /// A ring by its name.
    #[must_use]
    pub fn ring(&self, name: &str) -> Option<Arc<DeserializeGuard<SigningKeyRing>>> {
        self.rings.get(name)
    }

    /// Keeps a ring in no more memory than it needs, now that its ledger is known.
    pub fn settle(&self, ring: &str) {
        if let Some(ledger) = self.ledgers.packed(ring) {
            self.rings.pack_behind(ring, &ledger);
        }
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
        let mut names = self.rings.names();
        names.extend(self.ledgers.rings().iter().map(ToString::to_string));
        names
    }

    /// A policy by its name.
    #[must_use]
    pub fn policy(&self, policy: PolicyRef) -> Option<Arc<Object>> {
        self.policies.of(policy.kind()).get(&policy.to_string())
    }

    /// The policies of this operator that name a ring.
    pub fn policies_naming(&self, ring: &str) -> impl Iterator<Item = PolicyRef> + use<> {
        let of_kind = |kind| self.policies.of(kind).naming(ring);
        let found: Vec<_> = PolicyKind::ALL.into_iter().flat_map(of_kind).collect();
        found.into_iter()
    }

    /// The policies that this operator wrote.
    pub fn our_policies(&self) -> impl Iterator<Item = (PolicyRef, Arc<Object>)> + use<> {
        let of_kind = |kind: PolicyKind| {
            let found = self.policies.of(kind).state().into_iter();
            found.filter_map(move |object| {
                let policy: PolicyRef = object.name_any().parse().ok()?;
                (is_ours(&object) && policy.kind() == kind).then_some((policy, object))
            })
        };
        let found: Vec<_> = PolicyKind::ALL.into_iter().flat_map(of_kind).collect();
        found.into_iter()
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
