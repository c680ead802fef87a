//! What is seen of Kyverno, reduced to what bears on pods.

use std::sync::Arc;

use signingkeyring_core::omissions::{
    Accepted, Half, Hook, Look, OtherException, PolicyException, Seen, Settings, TenantKind,
    TenantPolicies, TenantPolicy,
};

use crate::lock::RwLock;

/// What is seen of Kyverno, the same for all rings.
#[derive(Debug)]
pub struct Kyverno {
    seen: RwLock<Arc<Seen>>,
    accepted: Accepted,
}

impl Kyverno {
    /// Before anything was looked at. The namespace is that of its ConfigMap.
    #[must_use]
    pub fn new(namespace: &str, accepted: Accepted) -> Self {
        let seen = Seen::nothing_yet(namespace);
        Self { seen: RwLock::new(Arc::new(seen)), accepted }
    }

    /// What is seen now.
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.read())
    }

    /// What Kyverno may leave out.
    #[must_use]
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Takes in the webhooks of a half; returns whether the rings are to be looked at
    /// again: they are others, and all else has been looked at.
    pub fn put_webhooks(&self, half: Half, hooks: Look<Vec<Hook>>) -> bool {
        self.change(|seen| match half {
            Half::Mutating => seen.mutating = hooks,
            Half::Validating => seen.validating = hooks,
        })
    }

    /// Takes in what its ConfigMap says.
    pub fn put_settings(&self, settings: Look<Option<Settings>>) -> bool {
        self.change(|seen| seen.settings = settings)
    }

    /// Takes in the policies of namespaces, of a kind, that bear on what is verified.
    pub fn put_policies(&self, kind: TenantKind, found: Look<Vec<TenantPolicy>>) -> bool {
        self.change(|seen| {
            seen.policies.insert(kind, found.map(TenantPolicies::from_iter));
        })
    }

    /// Takes in the exceptions from policies of this operator's.
    pub fn put_exceptions(&self, found: Look<Vec<PolicyException>>) -> bool {
        self.change(|seen| seen.exceptions = found)
    }

    /// Takes in the exceptions from policies of other kinds.
    pub fn put_other_exceptions(&self, found: Look<Vec<OtherException>>) -> bool {
        self.change(|seen| seen.other_exceptions = found)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) -> bool {
        let mut held = self.seen.write();
        let mut next = Seen::clone(&held);
        change(&mut next);
        let is_other = next != **held;
        let is_settled = next.is_settled();
        if is_other {
            *held = Arc::new(next);
        }
        is_other && is_settled
    }
}
