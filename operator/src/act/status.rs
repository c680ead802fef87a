//! At most one status write a pass, and none if nothing changed; an event for every
//! condition that turned.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as ApiCondition, Time};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use signingkeyring_convert::{version_cause, version_end, version_state};
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    event::Action,
    ledger::Ledger,
    names,
    report::Report,
    snapshot::{LedgerFound, Snapshot},
    usable::Because,
};
use signingkeyring_crds::{
    PipelineStatus, PolicyStatus, SigningKeyRing, SigningKeyRingStatus, VersionStatus,
};

use crate::{
    context::Context,
    error::{Error, is_code},
    telemetry,
};

/// Writes the status if it differs from the one that was seen. One of the usual seconds
/// between two steps waits for what follows: then it is returned how long.
///
/// # Errors
/// If the API server refuses.
pub async fn write(
    context: &Context,
    object: &SigningKeyRing,
    snapshot: &Snapshot,
    report: &Report,
) -> Result<Option<Duration>, Error> {
    let name = object.name_any();
    let before = object.status.clone().unwrap_or_default();
    let status = build(object, &before, snapshot, report);
    if object.status.as_ref() == Some(&status) {
        context.reports.end(&name);
        return Ok(None);
    }
    // Who has none yet would be taken for done by those who go by the conditions.
    let follows = object.status.is_some()
        && report.is_passing
        && !report.conditions.iter().any(|c| turned(&before, c));
    if let Some(wait) = context.reports.wait(&name, follows) {
        return Ok(Some(wait));
    }
    if let Some(version) = patch(context, &name, &json!(status)).await? {
        context.cache.statuses.put(&name, version, status);
        // The watch may have been faster than the answer.
        match context.cache.rings.version(&name) {
            Some(seen) => context.cache.statuses.seen(&name, &seen),
            None => context.cache.statuses.forget(&name),
        }
    }
    let on = telemetry::ring_reference(&name, object.uid().as_deref());
    for condition in &report.conditions {
        if turned(&before, condition) {
            let (warning, reason) = (is_bad(condition), condition.reason);
            let note = &condition.message;
            context.events.publish(&on, warning, reason, Action::Reconcile, note).await;
        }
    }
    Ok(None)
}

/// Reports on a ring whose object cannot be read, leaving the rest of its
/// status as it is.
///
/// # Errors
/// If the API server refuses.
pub async fn write_unreadable(
    context: &Context,
    name: &str,
    generation: Option<i64>,
    why: &str,
) -> Result<(), Error> {
    let has_rule = context.cache.ledgers.exists(name);
    let rule = if has_rule {
        "Its rule stays in force as its ledger says"
    } else {
        "It has no ledger, so this operator writes no rule of its own for it"
    };
    let message = format!(
        "this operator cannot read the ring ({why}), perhaps because a newer one wrote it. {rule}; \
         upgrade the operator or take the field out"
    );
    let api: Api<kube::core::DynamicObject> = Api::all_with(
        context.client.clone(),
        &kube::core::ApiResource::erase::<SigningKeyRing>(&()),
    );
    let found = api.get_opt(name).await.map_err(|e| Error::api(format!("ring {name}"), e))?;
    let Some(found) = found else { return Ok(()) };
    let mut status = match found.data.get("status") {
        Some(Value::Object(status)) => status.clone(),
        _ => Map::new(),
    };
    let old: Vec<ApiCondition> = status
        .get("conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let new = |kind, status| Condition {
        kind,
        status,
        reason: Reason::SpecUnreadable,
        message: message.clone(),
    };
    let ours = [new(Kind::Ready, Status::False), new(Kind::Stalled, Status::True)];
    let replaced = [Kind::Ready, Kind::Stalled, Kind::Reconciling].map(Kind::as_str);
    let mut conditions: Vec<ApiCondition> =
        ours.iter().map(|c| condition(c, &old, generation, context.clock.now())).collect();
    conditions.extend(old.iter().filter(|c| !replaced.contains(&c.type_.as_str())).cloned());
    if conditions == old {
        return Ok(());
    }
    status.insert("conditions".to_owned(), json!(conditions));
    patch(context, name, &Value::Object(status)).await?;
    let on = telemetry::ring_reference(name, found.uid().as_deref());
    let reason = Reason::SpecUnreadable;
    context.events.publish(&on, true, reason, Action::Reconcile, &message).await;
    Ok(())
}

/// Returns the resourceVersion it made, if the ring still exists.
async fn patch(
    context: &Context,
    name: &str,
    status: &serde_json::Value,
) -> Result<Option<String>, Error> {
    let api: Api<kube::core::DynamicObject> = Api::all_with(
        context.client.clone(),
        &kube::core::ApiResource::erase::<SigningKeyRing>(&()),
    );
    let body = json!({
        "apiVersion": format!("{}/v1alpha1", names::GROUP),
        "kind": "SigningKeyRing",
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(names::MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(&body)).await {
        Ok(stored) => Ok(stored.resource_version()),
        // Deleted meanwhile: there is nobody to report to.
        Err(error) if is_code(&error, 404) => Ok(None),
        Err(error) => Err(Error::api(format!("status of ring {name}"), error)),
    }
}

fn build(
    object: &SigningKeyRing,
    before: &SigningKeyRingStatus,
    snapshot: &Snapshot,
    report: &Report,
) -> SigningKeyRingStatus {
    let generation = object.metadata.generation;
    let mut status = SigningKeyRingStatus {
        observed_generation: generation,
        observed_rotation: report.observed_rotation.clone(),
        enrolled_namespaces: u32::try_from(snapshot.enrolled.len()).unwrap_or(u32::MAX),
        next_rotation_time: report.next_rotation.map(Time),
        pipelines: report
            .pipelines
            .iter()
            .map(|line| PipelineStatus {
                namespace: line.pipeline.namespace.clone(),
                secret_name: line.pipeline.name.clone(),
                version: line.version,
                state: line.reason.as_str().to_owned(),
            })
            .collect(),
        conditions: report
            .conditions
            .iter()
            .map(|c| condition(c, &before.conditions, generation, snapshot.now))
            .collect(),
        ..SigningKeyRingStatus::default()
    };
    match &snapshot.ledger {
        LedgerFound::Present(ledger) if !report.keeps_versions => {
            let because = snapshot.ring.kind_because;
            from_ledger(&mut status, ledger, snapshot.name.as_str(), because);
        }
        _ => {
            status.current_version = before.current_version;
            status.accepted_versions.clone_from(&before.accepted_versions);
            status.versions.clone_from(&before.versions);
            status.policy.clone_from(&before.policy);
        }
    }
    status
}

fn from_ledger(status: &mut SigningKeyRingStatus, ledger: &Ledger, ring: &str, because: Because) {
    status.current_version = ledger.current().map(|v| v.number);
    status.accepted_versions = ledger.accepted().map(|v| v.number).collect();
    status.versions = ledger
        .versions
        .iter()
        .rev()
        .map(|version| VersionStatus {
            version: version.number,
            state: version_state(version.state()),
            fingerprint: version.fingerprint.to_string(),
            public_key: version.public_key.to_string(),
            created_at: Time(version.created_at),
            cause: version.record.cause.map(version_cause),
            acknowledged_at: version.acknowledged_at().map(Time),
            activated_at: version.activated_at().map(Time),
            ended_at: version.record.ended.map(|ended| Time(ended.at)),
            ended_by: version.record.ended.map(|ended| version_end(ended.by)),
        })
        .collect();
    let policy = ledger.rule.settings.policy;
    status.policy = Some(PolicyStatus {
        kind: policy.kind().as_str().to_owned(),
        name: policy.to_string(),
        rule: ring.to_owned(),
        because: because.as_str().to_owned(),
    });
}

fn condition(
    new: &Condition,
    before: &[ApiCondition],
    generation: Option<i64>,
    now: Timestamp,
) -> ApiCondition {
    let (type_, status) = (new.kind.as_str(), new.status.as_str());
    let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
    ApiCondition {
        last_transition_time: same.map_or_else(|| Time(now), |c| c.last_transition_time.clone()),
        message: new.message.chars().take(4096).collect(),
        observed_generation: generation,
        reason: new.reason.as_str().to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    }
}

/// Whether a condition is worth an event: it turned, or its reason did.
fn turned(before: &SigningKeyRingStatus, new: &Condition) -> bool {
    let old = before.conditions.iter().find(|c| c.type_ == new.kind.as_str());
    let same = old
        .is_some_and(|old| old.status == new.status.as_str() && old.reason == new.reason.as_str());
    // Ready only repeats what the others say, and the usual steps of a
    // rotation have events of their own.
    let worth = match new.kind {
        Kind::Ready => new.reason == Reason::Available,
        // That nothing is left out is no news of a new ring.
        Kind::EnforcementComplete => {
            !is_usual(new.reason) && (old.is_some() || new.status != Status::True)
        }
        Kind::Reconciling => {
            matches!(new.reason, Reason::DeletionBlocked | Reason::Retrying)
        }
        // Where it was on its way the steps tell that it came there, and Ready that all did.
        Kind::KeysAvailable | Kind::PolicyEnforced | Kind::PipelinesPublished => {
            let came = new.status == Status::True && old.is_none_or(|old| was_usual(&old.reason));
            !is_usual(new.reason) && (!came || new.reason == Reason::SecretLeftBehind)
        }
        _ => !is_usual(new.reason),
    };
    !same && worth
}

/// Reasons that pass by themselves in a ring's usual life.
fn is_usual(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::FirstVersionPending
            | Reason::PolicyPending
            | Reason::PublicationPending
            | Reason::GateNotAsked
            | Reason::RevocationPending
            | Reason::NotSeen
            | Reason::Deleting
    )
}

fn was_usual(reason: &str) -> bool {
    reason.parse().is_ok_and(is_usual)
}

fn is_bad(condition: &Condition) -> bool {
    match condition.kind {
        Kind::Stalled => true,
        // What a usual rotation says here has no event.
        Kind::Reconciling => true,
        _ => {
            condition.reason == Reason::SecretLeftBehind
                || (condition.status == Status::False && !is_usual(condition.reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, status: Status, reason: Reason) -> Condition {
        Condition { kind, status, reason, message: String::new() }
    }

    /// Whether a condition that comes after another has an event.
    fn has_event(before: Option<Condition>, new: &Condition) -> bool {
        let before = before.map(|before| condition(&before, &[], None, Timestamp::UNIX_EPOCH));
        let conditions = before.into_iter().collect();
        turned(&SigningKeyRingStatus { conditions, ..SigningKeyRingStatus::default() }, new)
    }

    #[test]
    fn the_usual_steps_have_no_events_of_their_own_and_what_is_mended_has() {
        let enforced = said(Kind::PolicyEnforced, Status::True, Reason::Enforced);
        let pending = said(Kind::PolicyEnforced, Status::False, Reason::PolicyPending);
        let open = said(Kind::PolicyEnforced, Status::False, Reason::GateOpen);
        assert!(!has_event(None, &enforced) && !has_event(Some(pending.clone()), &enforced));
        assert!(has_event(Some(open.clone()), &enforced) && has_event(Some(pending), &open));
        assert!(has_event(Some(enforced), &open) && !has_event(Some(open.clone()), &open));
        let ready = said(Kind::Ready, Status::True, Reason::Available);
        assert!(has_event(None, &ready) && !has_event(Some(ready.clone()), &ready));
        let revoked = said(Kind::RevocationsApplied, Status::True, Reason::RevocationsApplied);
        let revoking = said(Kind::RevocationsApplied, Status::False, Reason::RevocationPending);
        assert!(has_event(Some(revoking), &revoked));
        let left = said(Kind::PipelinesPublished, Status::True, Reason::SecretLeftBehind);
        assert!(has_event(None, &left));
    }
}
