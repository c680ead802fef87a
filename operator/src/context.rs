//! What every part of the operator works with.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use kube::Client;
use signingkeyring_core::{
    account::Account,
    policy_ref::{Action, PolicyKind, PolicyRef},
    usable::{self, Because, Standing},
};

use crate::{
    cache::Cache,
    clock::Clock,
    gate::Gate,
    gathering::Gathering,
    handover::Handover,
    key_orders::KeyOrders,
    lock::Mutex,
    rechecks::Rechecks,
    revoking::Revoking,
    rotations::Rotations,
    sealings::Sealings,
    settings::Settings,
    telemetry::{Events, Metrics},
    workqueue::WorkQueue,
};

/// What every part of the operator works with.
#[derive(Clone)]
pub struct Context {
    /// The connection to the API server.
    pub client: Client,
    /// Where the time comes from.
    pub clock: Clock,
    /// As given on the command line.
    pub settings: Arc<Settings>,
    /// Who this is to the API server.
    pub account: Arc<Account>,
    /// What the watches have seen.
    pub cache: Arc<Cache>,
    /// What the policies' gates have answered.
    pub gate: Arc<Gate>,
    /// The policies of which changes are being gathered.
    pub gathering: Arc<Gathering<PolicyRef>>,
    /// The rings of which changes of the status are.
    pub reports: Arc<Gathering<String>>,
    /// When each ring was last looked at.
    pub rechecks: Arc<Rechecks>,
    /// Which rings rotate, and which wait for them.
    pub rotations: Arc<Rotations>,
    /// The rings of which it is yet to be said that a revoked key is out.
    pub revoking: Arc<Revoking>,
    /// Private keys that pipelines are given next.
    pub handover: Arc<Handover>,
    /// Key pairs that rings have ordered.
    pub key_orders: Arc<KeyOrders>,
    /// Where keys are sealed and opened.
    pub sealings: Arc<Sealings>,
    /// The rings to look at.
    pub rings: Arc<WorkQueue<String>>,
    /// The policies to look at.
    pub policies: Arc<WorkQueue<PolicyRef>>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Writes events.
    pub events: Events,
    /// What this process has said already.
    pub announced: Arc<Announced>,
}

impl Context {
    /// The kind that a ring's rule is to be in, and why. `asked` is what its object
    /// names, `stands` where the rule is.
    #[must_use]
    pub fn kind_for(
        &self,
        asked: Option<PolicyKind>,
        stands: Option<PolicyKind>,
    ) -> (PolicyKind, Because) {
        let preference = self.settings.policy_kind.preference();
        let usable = &self.cache.usable;
        usable::choose(asked, preference, stands, |kind| {
            if usable.is_dead(kind) {
                Standing::Dead
            } else if self.cache.policies.of(kind).is_executed() && usable.is_usable(kind) {
                Standing::Works
            } else {
                Standing::Unusable
            }
        })
    }

    /// The policy whose pass also says which namespaces' labels name no ring.
    #[must_use]
    pub fn unknown_policy(&self) -> PolicyRef {
        // What stands in the newer kind stays there, if anybody verifies by it.
        let newest_first = PolicyRef::UNKNOWN.into_iter().rev();
        let stands = newest_first.filter(|policy| self.cache.policy(*policy).is_some());
        let stands = stands.map(PolicyRef::kind).next();
        let action = self.settings.unknown_rings.action().unwrap_or(Action::Audit);
        PolicyRef::unknown(action).of_kind(self.kind_for(None, stands).0)
    }

    /// The same, if such a policy is to be written.
    #[must_use]
    pub fn asked_unknown_policy(&self) -> Option<PolicyRef> {
        self.settings.unknown_rings.action().map(|_| self.unknown_policy())
    }

    /// Has it looked again which labels of namespaces name no ring.
    pub fn wake_unknown(&self) {
        let usual = self.unknown_policy();
        for policy in PolicyRef::UNKNOWN {
            if policy == usual || self.cache.policy(policy).is_some() {
                self.policies.wake(&policy);
            }
        }
    }

    /// The same, if namespaces are covered whose labels did not name one.
    pub fn wake_covers(&self) {
        if PolicyRef::UNKNOWN.into_iter().any(|policy| self.cache.policy(policy).is_some()) {
            self.wake_unknown();
        }
    }

    /// The same, if a namespace is enrolled in this ring.
    pub fn wake_unknown_of(&self, ring: &str) {
        if self.cache.namespaces.names_ring(ring) {
            self.wake_unknown();
        }
    }
}

/// What this process has already said of things that last, so that each is
/// said once. Of each a hash is kept, and of no more than [`Announced::MOST`]: an
/// operator that runs for months says some of it twice.
#[derive(Debug, Default)]
pub struct Announced(Mutex<HashSet<u64>>);

impl Announced {
    const MOST: usize = 100_000;

    /// Whether this has not been said yet; from now on it has.
    pub fn first_time(&self, what: &str) -> bool {
        let mut hash = DefaultHasher::new();
        what.hash(&mut hash);
        let mut said = self.0.lock();
        if said.len() >= Self::MOST {
            said.clear();
        }
        said.insert(hash.finish())
    }
}
