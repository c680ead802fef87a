//! What must hold, from the invariants' text and not from the planner.

use signingkeyring_core::{
    fingerprint::Fingerprint,
    ledger::{Ledger, State},
};

use super::World;

impl World {
    /// `revoked-stays-revoked`: what was revoked once is revoked for ever, and its private
    /// key is gone.
    pub(super) fn judge_revocations(&self, next: &Ledger) {
        let rows = self.ledger.iter().flat_map(|ledger| &ledger.versions);
        for before in rows.filter(|v| v.state == State::Revoked) {
            let after = next.by_number(before.number);
            assert!(after.is_none_or(|after| after.state == State::Revoked));
        }
        let revoked = next.versions.iter().filter(|v| v.state == State::Revoked);
        assert!(revoked.into_iter().all(|v| v.private_key.is_none()));
    }

    /// A version becomes current only when no pipeline of the spec holds an
    /// older one.
    pub(super) fn judge_activation(&self, ledger: &Ledger, version: u32) {
        let row = ledger.versions.iter().find(|v| v.number == version).unwrap();
        let spec = self.ring.as_ref().unwrap();
        for (pipeline, held) in &self.secrets {
            assert!(
                !spec.pipelines.contains_key(pipeline) || *held == row.fingerprint,
                "version {version} is current while {pipeline} signs with {held}"
            );
        }
    }

    /// `no-gap`, on every state: what a pipeline of a ring that is not being
    /// removed signs with, every policy of the ring accepts.
    pub(super) fn judge(&self) {
        if self.removed {
            return;
        }
        for (pipeline, fingerprint) in &self.secrets {
            let spec = self.ring.as_ref().is_none_or(|ring| ring.pipelines.contains_key(pipeline));
            for (name, rule) in self.policies.iter().filter(|_| spec) {
                if let Some(rule) = rule {
                    assert!(
                        self.is_revoked(fingerprint) || rule.accepted.contains(fingerprint),
                        "{name} does not accept what {pipeline} signs with"
                    );
                }
            }
        }
        if let Some(ledger) = &self.ledger {
            let current = ledger.versions.iter().filter(|v| v.state == State::Current).count();
            assert!(current <= 1);
        }
    }

    fn is_revoked(&self, fingerprint: &Fingerprint) -> bool {
        let row = self.ledger.as_ref().and_then(|ledger| ledger.by_fingerprint(fingerprint));
        row.is_some_and(|row| row.state == State::Revoked)
    }
}
