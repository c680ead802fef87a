//! What is woken when a replica begins to work: nobody saw how what is there came to be.

use kube::Resource;
use signingkeyring_core::condition::{Kind, Status};
use signingkeyring_crds::SigningKeyRing;

use super::wake_all;
use crate::context::Context;

/// Has all that is known worked on: what may be urgent by what its ring says goes first, and
/// what was to be done while another replica led counts no more.
pub fn begin_anew(context: &Context) {
    context.rings.clear();
    context.policies.clear();
    context.cache.unknown_told.doubt();
    for name in context.cache.rings.names() {
        let Some(ring) = context.cache.ring(&name) else { continue };
        if ring.0.as_ref().is_ok_and(may_have_to_revoke) {
            context.rings.wake_urgently(&name);
        }
        if ring.meta().deletion_timestamp.is_some() {
            context.rings.wake_soon(&name);
        }
    }
    wake_all(context);
}

/// Whether a ring revokes something of which its status does not say that it is done.
fn may_have_to_revoke(ring: &SigningKeyRing) -> bool {
    let is_done = ring.status.as_ref().is_some_and(|status| {
        let kind = Kind::RevocationsApplied.as_str();
        let said = status.conditions.iter().find(|condition| condition.type_ == kind);
        status.observed_generation == ring.metadata.generation
            && said.is_some_and(|condition| condition.status == Status::True.as_str())
    });
    !ring.spec.revoked.is_empty() && !is_done
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn may_have_to(revoked: &Value, status: &Value) -> bool {
        let ring = json!({
            "apiVersion": "signing.odj.cloud/v1alpha1",
            "kind": "SigningKeyRing",
            "metadata": {"name": "shop", "generation": 3},
            "spec": {"pipelines": [{"namespace": "shop-ci"}], "revoked": revoked},
            "status": status,
        });
        may_have_to_revoke(&serde_json::from_value(ring).unwrap())
    }

    #[test]
    fn a_revocation_is_urgent_until_the_status_of_this_spec_says_that_it_is_applied() {
        let status = |generation: i64, status: &str| {
            let condition = json!({
                "type": "RevocationsApplied",
                "status": status,
                "reason": "RevocationsApplied",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            json!({"observedGeneration": generation, "conditions": [condition]})
        };
        let one = json!([{"version": 1, "reason": "leaked"}]);
        assert!(may_have_to(&one, &json!({})));
        assert!(may_have_to(&one, &status(2, "True")), "that was said of an earlier spec");
        assert!(may_have_to(&one, &status(3, "False")));
        assert!(!may_have_to(&one, &status(3, "True")));
        assert!(!may_have_to(&json!([]), &json!({})));
    }
}
