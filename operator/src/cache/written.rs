//! What this process wrote, and what became of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use signingkeyring_core::{
    policy::{Digest, snapshot::Refused},
    policy_ref::PolicyRef,
    snapshot::{Difference, WriteFailure},
};
use signingkeyring_crds::SigningKeyRingStatus;
use tokio::time::Instant;

use super::is_newer;
use crate::{
    kyverno::Object,
    lock::{Mutex, RwLock},
};

/// So long the watch may take to bring what was written. What it does not know by then is not
/// there.
pub const WATCHED_WITHIN: Duration = Duration::from_secs(10);

/// What this process last wrote of a policy, and what became of it.
#[derive(Clone, Debug)]
pub struct WrittenPolicy {
    /// The `spec` that was sent.
    pub sent: Digest,
    /// The object that the API server made of it.
    pub stored: Arc<Object>,
}

/// What became of the policies that this process wrote.
#[derive(Debug, Default)]
pub struct Written(RwLock<WrittenIndex>);

#[derive(Debug, Default)]
struct WrittenIndex {
    policies: HashMap<PolicyRef, (WrittenPolicy, Instant)>,
    failures: HashMap<PolicyRef, FailedWrite>,
    refusals: HashMap<(PolicyRef, String), Refusal>,
    sizes: HashMap<PolicyRef, usize>,
    companions: HashMap<PolicyRef, (Digest, Digest)>,
}

/// A write of a policy that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedWrite {
    /// Why.
    pub failure: WriteFailure,
    /// The rings for which the policy as it stands is not what it should be.
    pub differences: BTreeMap<String, Difference>,
}

impl From<WriteFailure> for FailedWrite {
    fn from(failure: WriteFailure) -> Self {
        Self { failure, differences: BTreeMap::new() }
    }
}

/// A ring's rule that Kyverno refused.
#[derive(Clone, Debug)]
struct Refusal {
    rule: Digest,
    failure: WriteFailure,
    at: Instant,
}

impl Written {
    /// What was last written of a policy.
    #[must_use]
    pub fn get(&self, policy: PolicyRef) -> Option<WrittenPolicy> {
        self.0.read().policies.get(&policy).map(|(written, _)| written.clone())
    }

    /// Whether a policy was written, or was found to be as it is to be, a moment ago: the watch
    /// may have yet to bring it.
    #[must_use]
    pub fn is_recent(&self, policy: PolicyRef) -> bool {
        let index = self.0.read();
        index.policies.get(&policy).is_some_and(|(_, at)| at.elapsed() < WATCHED_WITHIN)
    }

    /// What was last written of the object that goes with a policy: the `spec` that
    /// was sent, and what the API server made of it.
    #[must_use]
    pub fn companion(&self, policy: PolicyRef) -> Option<(Digest, Digest)> {
        self.0.read().companions.get(&policy).copied()
    }

    /// Remembers that; returns what was remembered before.
    pub fn record_companion(
        &self,
        policy: PolicyRef,
        sent: Digest,
        stored: Digest,
    ) -> Option<(Digest, Digest)> {
        self.0.write().companions.insert(policy, (sent, stored))
    }

    /// Why the last write of a policy failed.
    #[must_use]
    pub fn failure(&self, policy: PolicyRef) -> Option<FailedWrite> {
        self.0.read().failures.get(&policy).cloned()
    }

    /// Remembers what a policy holds: this process wrote it, or would have.
    pub fn record(&self, policy: PolicyRef, written: WrittenPolicy) {
        self.0.write().policies.insert(policy, (written, Instant::now()));
    }

    /// Forgets why the last write of a policy failed; returns whether it had.
    pub fn clear_failure(&self, policy: PolicyRef) -> bool {
        self.0.write().failures.remove(&policy).is_some()
    }

    /// Remembers that a write failed; returns whether that is news.
    pub fn record_failure(&self, policy: PolicyRef, mut failed: FailedWrite) -> bool {
        let mut index = self.0.write();
        // Who could not even look knows of no differences, which is no word on
        // those that were seen.
        if let (true, Some(before)) = (failed.differences.is_empty(), index.failures.get(&policy)) {
            failed.differences.clone_from(&before.differences);
        }
        let before = index.failures.insert(policy, failed.clone());
        before != Some(failed)
    }

    /// Remembers that Kyverno refused a ring's rule in a policy.
    pub fn record_refusal(
        &self,
        policy: PolicyRef,
        ring: &str,
        rule: Digest,
        failure: WriteFailure,
    ) {
        let refusal = Refusal { rule, failure, at: Instant::now() };
        self.0.write().refusals.insert((policy, ring.to_owned()), refusal);
    }

    /// The rules that were refused in a policy, by ring.
    #[must_use]
    pub fn refused(&self, policy: PolicyRef) -> BTreeMap<String, Refused> {
        let index = self.0.read();
        let here = index.refusals.iter().filter(|((of, _), _)| *of == policy);
        here.map(|((_, ring), refusal)| {
            (ring.clone(), Refused { rule: refusal.rule, age: refusal.at.elapsed() })
        })
        .collect()
    }

    /// Forgets that a ring's rule was refused.
    pub fn clear_refusal(&self, policy: PolicyRef, ring: &str) {
        self.0.write().refusals.remove(&(policy, ring.to_owned()));
    }

    /// Why Kyverno refused a ring's rule in a policy.
    #[must_use]
    pub fn refusal(&self, policy: PolicyRef, ring: &str) -> Option<WriteFailure> {
        let key = (policy, ring.to_owned());
        self.0.read().refusals.get(&key).map(|refusal| refusal.failure.clone())
    }

    /// Takes in the bytes that a policy is rendered to; returns how many those were before.
    pub fn record_size(&self, policy: PolicyRef, bytes: usize) -> Option<usize> {
        self.0.write().sizes.insert(policy, bytes)
    }

    /// The bytes that a policy was last rendered to.
    #[must_use]
    pub fn size(&self, policy: PolicyRef) -> usize {
        self.0.read().sizes.get(&policy).copied().unwrap_or(0)
    }

    /// Forgets a policy that was deleted on purpose.
    pub fn forget(&self, policy: PolicyRef) {
        let mut index = self.0.write();
        index.policies.remove(&policy);
        index.failures.remove(&policy);
        index.sizes.remove(&policy);
        index.companions.remove(&policy);
        index.refusals.retain(|(of, _), _| *of != policy);
    }
}

/// Statuses that this process wrote and the watch has not brought yet. Without
/// them the next pass would announce the same change of a condition again.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<HashMap<String, (String, SigningKeyRingStatus)>>);

impl Statuses {
    /// Remembers a status, and the resourceVersion that it made.
    pub fn put(&self, ring: &str, resource_version: String, status: SigningKeyRingStatus) {
        let mut statuses = self.0.lock();
        statuses.insert(ring.to_owned(), (resource_version, status));
    }

    /// The status of a ring that the watch had not brought yet, and the resourceVersion
    /// that it made. Who asks before looking at the ring sees the newer of the two.
    #[must_use]
    pub fn get(&self, ring: &str) -> Option<(String, SigningKeyRingStatus)> {
        self.0.lock().get(ring).cloned()
    }

    /// Forgets the status of a ring unless it is newer than what was seen.
    pub fn seen(&self, ring: &str, resource_version: &str) {
        let mut statuses = self.0.lock();
        if statuses.get(ring).is_some_and(|(own, _)| !is_newer(own, resource_version)) {
            statuses.remove(ring);
        }
    }

    /// Forgets that of a ring that is gone.
    pub fn forget(&self, ring: &str) {
        self.0.lock().remove(ring);
    }
}
