//! What must hold, from the invariants' text and not from the planner.

use signingkeyring_core::{
    fingerprint::Fingerprint,
    ledger::{Ledger, PipelineRef, State},
    policy::{NOBODYS_KEY, snapshot::RuleSeen},
    policy_ref::PolicyRef,
};

use super::{World, policies::Policy};

impl World {
    /// `revoked-stays-revoked`: what was revoked once is revoked for ever, and its private
    /// key is gone.
    pub(super) fn judge_revocations(&self, next: &Ledger) {
        let rows = self.ledger.iter().flat_map(|ledger| &ledger.versions);
        for before in rows.filter(|v| v.state() == State::Revoked) {
            let after = next.by_number(before.number);
            assert!(after.is_none_or(|after| after.state() == State::Revoked));
        }
        let revoked = next.versions.iter().filter(|v| v.state() == State::Revoked);
        assert!(revoked.into_iter().all(|v| v.private_key().is_none()));
    }

    /// A version becomes current only when no pipeline of the spec holds an
    /// older one.
    pub(super) fn judge_activation(&self, ledger: &Ledger, version: u32) {
        let row = ledger.versions.iter().find(|v| v.number == version).unwrap();
        let spec = self.ring.as_ref().unwrap();
        for (pipeline, held) in self.secrets_in_use() {
            assert!(
                self.forgotten
                    || !spec.pipelines.contains_key(pipeline)
                    || *held == row.fingerprint,
                "version {version} is current while {pipeline} signs with {held}"
            );
        }
    }

    /// `closed-not-open`: a policy is about to be replaced, or deleted. The rule leaves it only
    /// where the ledger says so, and not before Kyverno has it elsewhere.
    pub(super) fn judge_policy(&self, name: PolicyRef, next: Option<&Policy>) {
        let before = self.policies.get(&name).and_then(|policy| policy.rule());
        if before.is_none() || next.is_some_and(|next| next.rule().is_some()) {
            return;
        }
        let ledger =
            self.ledger.as_ref().expect("a rule left a policy without a ledger that says so");
        let mut placed = ledger.rule.settings.policies();
        let elsewhere = placed
            .any(|place| self.loaded.get(&place).is_some_and(|loaded| loaded.rule().is_some()));
        let elsewhere = ledger.removed || elsewhere;
        assert!(elsewhere, "the rule left {name} before Kyverno had it elsewhere");
    }

    /// `no-gap`, on every state: what a pipeline of a ring that is not being
    /// removed signs with, every policy of the ring accepts.
    pub(super) fn judge(&self) {
        self.judge_keys();
        if self.removed || self.forgotten {
            return;
        }
        for (pipeline, fingerprint) in self.secrets_in_use() {
            let spec = self.ring.as_ref().is_none_or(|ring| ring.pipelines.contains_key(pipeline));
            for (name, policy) in self.policies.iter().filter(|_| spec) {
                if let Some(rule) = policy.rule() {
                    assert!(
                        self.is_revoked(fingerprint) || accepts(rule, fingerprint),
                        "{name} does not accept what {pipeline} signs with"
                    );
                }
            }
        }
        if let Some(ledger) = &self.ledger {
            let current = ledger.versions.iter().filter(|v| v.state() == State::Current).count();
            assert!(current <= 1);
        }
    }

    /// `known-keys-only`: no key stands in a policy but those that were minted, and nobody's.
    fn judge_keys(&self) {
        let known = |key: &str| key == NOBODYS_KEY || self.keys.contains(key);
        for (name, policy) in &self.policies {
            let mut keys = policy.rule().into_iter().flat_map(|rule| rule.keys());
            let known = keys.all(|key| key.public_key.as_deref().is_some_and(known));
            assert!(known, "{name} accepts a key that no ledger ever had");
        }
    }

    /// What pipelines sign with. In a namespace that is being deleted nothing new
    /// runs.
    fn secrets_in_use(&self) -> impl Iterator<Item = (&PipelineRef, &Fingerprint)> {
        self.secrets.iter().filter(|(secret, _)| !self.terminating.contains(&secret.namespace))
    }

    fn is_revoked(&self, fingerprint: &Fingerprint) -> bool {
        let row = self.ledger.as_ref().and_then(|ledger| ledger.by_fingerprint(fingerprint));
        row.is_some_and(|row| row.state() == State::Revoked)
    }
}

/// Whether a rule accepts the key of this fingerprint.
pub(super) fn accepts(rule: &RuleSeen, fingerprint: &Fingerprint) -> bool {
    rule.keys().any(|key| key.fingerprint.as_ref() == Some(fingerprint))
}
