//! What this process wrote, and what became of it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use kube::core::DynamicObject;
use serde_json::Value;
use signingkeyring_core::snapshot::WriteFailure;
use signingkeyring_crds::SigningKeyRingStatus;
use tokio::time::Instant;

use super::is_newer;

/// What this process last wrote of a policy, and what became of it.
#[derive(Clone, Debug)]
pub struct WrittenPolicy {
    /// The `spec` that was sent.
    pub sent: serde_json::Value,
    /// The object that the API server made of it.
    pub stored: DynamicObject,
}

/// What became of the policies that this process wrote.
#[derive(Debug, Default)]
pub struct Written(RwLock<WrittenIndex>);

#[derive(Debug, Default)]
struct WrittenIndex {
    policies: HashMap<String, WrittenPolicy>,
    failures: HashMap<String, WriteFailure>,
    refusals: HashMap<(String, String), Refusal>,
    sizes: HashMap<String, usize>,
}

/// A ring's rule that Kyverno refused.
#[derive(Clone, Debug)]
struct Refusal {
    rule: Value,
    failure: WriteFailure,
    at: Instant,
}

impl Written {
    /// What was last written of a policy.
    #[must_use]
    pub fn get(&self, policy: &str) -> Option<WrittenPolicy> {
        self.read().policies.get(policy).cloned()
    }

    /// Why the last write of a policy failed.
    #[must_use]
    pub fn failure(&self, policy: &str) -> Option<WriteFailure> {
        self.read().failures.get(policy).cloned()
    }

    /// Remembers a write.
    pub fn succeeded(&self, policy: &str, written: WrittenPolicy) {
        let mut index = self.write();
        index.failures.remove(policy);
        index.policies.insert(policy.to_owned(), written);
    }

    /// Remembers that a policy stands as if this process had written it.
    pub fn stands(&self, policy: &str, written: WrittenPolicy) {
        self.write().policies.insert(policy.to_owned(), written);
    }

    /// Remembers that a policy is as it should be.
    pub fn fine(&self, policy: &str) -> bool {
        self.write().failures.remove(policy).is_some()
    }

    /// Remembers that a write failed; returns whether that is news.
    pub fn failed(&self, policy: &str, failure: WriteFailure) -> bool {
        let before = self.write().failures.insert(policy.to_owned(), failure.clone());
        before != Some(failure)
    }

    /// Remembers that Kyverno refused a ring's rule in a policy.
    pub fn refused(&self, policy: &str, ring: &str, rule: Value, failure: WriteFailure) {
        let refusal = Refusal { rule, failure, at: Instant::now() };
        self.write().refusals.insert((policy.to_owned(), ring.to_owned()), refusal);
    }

    /// Whether this very rule was refused less than `pause` ago; anything else
    /// is forgotten.
    pub fn is_refused(&self, policy: &str, ring: &str, rule: &Value, pause: Duration) -> bool {
        let key = (policy.to_owned(), ring.to_owned());
        let known =
            self.read().refusals.get(&key).map(|r| r.rule == *rule && r.at.elapsed() < pause);
        if known == Some(false) {
            self.write().refusals.remove(&key);
        }
        known == Some(true)
    }

    /// Why Kyverno refused a ring's rule in a policy.
    #[must_use]
    pub fn refusal(&self, policy: &str, ring: &str) -> Option<WriteFailure> {
        let key = (policy.to_owned(), ring.to_owned());
        self.read().refusals.get(&key).map(|refusal| refusal.failure.clone())
    }

    /// Takes in the bytes that a policy is rendered to; returns whether that is news.
    pub fn measured(&self, policy: &str, bytes: usize) -> bool {
        self.write().sizes.insert(policy.to_owned(), bytes) != Some(bytes)
    }

    /// The bytes that a policy was last rendered to.
    #[must_use]
    pub fn size(&self, policy: &str) -> usize {
        self.read().sizes.get(policy).copied().unwrap_or(0)
    }

    /// The bytes that policies were last rendered to.
    #[must_use]
    pub fn sizes(&self) -> HashMap<String, usize> {
        self.read().sizes.clone()
    }

    /// Forgets a policy that was deleted on purpose.
    pub fn forget(&self, policy: &str) {
        let mut index = self.write();
        index.policies.remove(policy);
        index.failures.remove(policy);
        index.sizes.remove(policy);
        index.refusals.retain(|(of, _), _| of != policy);
    }

    fn read(&self) -> RwLockReadGuard<'_, WrittenIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, WrittenIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Statuses that this process wrote and the watch has not brought yet. Without
/// them the next pass would report the same turn of a condition once more.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<HashMap<String, (String, SigningKeyRingStatus)>>);

impl Statuses {
    /// Remembers a status, and the resourceVersion that it made.
    pub fn put(&self, ring: &str, resource_version: String, status: SigningKeyRingStatus) {
        let mut statuses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(ring.to_owned(), (resource_version, status));
    }

    /// The status of a ring if it is newer than the object of this version.
    #[must_use]
    pub fn newer_than(&self, ring: &str, resource_version: &str) -> Option<SigningKeyRingStatus> {
        let mut statuses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match statuses.get(ring) {
            Some((own, status)) if is_newer(own, resource_version) => Some(status.clone()),
            _ => {
                statuses.remove(ring);
                None
            }
        }
    }
}
