//! The states of objects, in the API server's order.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

/// A kind that is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// ClusterPolicy.
    ClusterPolicy,
    /// ImageValidatingPolicy.
    ImageValidatingPolicy,
    /// MutatingPolicy: it pins the tags of what another policy verifies.
    MutatingPolicy,
    /// Secret: ledgers, pipelines' and others.
    Secret,
    /// SigningKeyRing.
    Ring,
    /// Namespace.
    Namespace,
}

impl Kind {
    /// All that are observed.
    pub const ALL: [Self; 6] = [
        Self::ClusterPolicy,
        Self::ImageValidatingPolicy,
        Self::MutatingPolicy,
        Self::Secret,
        Self::Ring,
        Self::Namespace,
    ];

    /// Whether Kyverno executes it. It also writes its status, when it likes.
    #[must_use]
    pub fn is_policy(self) -> bool {
        matches!(self, Self::ClusterPolicy | Self::ImageValidatingPolicy | Self::MutatingPolicy)
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Empty for what is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A state of an object.
#[derive(Clone, Debug)]
pub struct Event {
    /// The API server's resourceVersion: the order of all states.
    pub version: u64,
    /// When it was seen.
    pub at: Instant,
    /// Which object.
    pub id: Id,
    /// Nothing once it is deleted.
    pub object: Option<Value>,
}

/// The states of one view, as they came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All states since it was last forgotten.
    pub history: Vec<Event>,
    /// The latest states.
    pub now: BTreeMap<Id, Value>,
}
