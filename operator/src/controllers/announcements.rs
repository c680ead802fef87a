//! What passes over policies say of what they found: each once a process.

use kube::ResourceExt;
use signingkeyring_core::{
    event::{Action, Occurrence},
    ledger::Exclusion,
    policy::{Kept, Origin},
};
use tracing::{info, warn};

use crate::{context::Context, observe::ObservedPolicy, telemetry};

/// Says, once a process, that a rule stays although its ring or ledger is gone.
pub(super) async fn announce_kept(context: &Context, observed: &ObservedPolicy, kept: &[Kept]) {
    let policy = observed.snapshot.policy;
    let uid = observed.object.as_ref().and_then(|policy| policy.uid());
    let on = telemetry::policy_reference(policy, uid.as_deref());
    for Kept { ring, why, unvouched } in kept {
        let why = why.as_str();
        let keys = unvouched.join(", ");
        if context.announced.first_time(&format!("{policy} {ring} {why} {keys}")) {
            warn!(%policy, ring, why, keys, "rule stays in force");
            let mut note = format!("the rule of ring {ring} stays in force: {why}");
            if !keys.is_empty() {
                note = format!(
                    "{note}. Neither a ledger nor a status says which keys are the ring's, so it \
                     goes on accepting those that stand there: {keys}"
                );
            }
            context.events.publish(&on, true, Occurrence::RuleKept, Action::Keep, &note).await;
        }
    }
}

/// Says, once a process, that an exclusion has expired.
pub(super) async fn announce_expired(context: &Context, origin: &Origin, exclusion: &Exclusion) {
    let (name, on) = match origin {
        Origin::List(list) => {
            let uid = context.cache.list(list).and_then(|list| list.uid());
            (list, telemetry::list_reference(list, uid.as_deref()))
        }
        Origin::Ring(ring) => {
            let uid = context.cache.ring(ring).and_then(|ring| ring.uid());
            (ring, telemetry::ring_reference(ring, uid.as_deref()))
        }
    };
    if context.announced.first_time(&format!("{name} {exclusion:?} expired")) {
        info!(object = name, image = exclusion.image, "exclusion expired");
        let note = format!("{} has expired: its images need a signature", exclusion.image);
        context
            .events
            .publish(&on, true, Occurrence::ExclusionExpired, Action::Expire, &note)
            .await;
    }
}
