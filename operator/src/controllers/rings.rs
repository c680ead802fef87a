//! One pass over one ring: observe, plan, act, report.

use std::time::Duration;

use kube::ResourceExt;
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    event::{Action as Doing, Occurrence},
    names::RingName,
    pass,
    plan::Action,
    report::Report,
    snapshot::Finding,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    panics::{PANICKED, catching_panics},
    progress,
};
use crate::{
    act::{self, Done, act},
    context::Context,
    error::Error,
    observe::{observe, touches_pipelines},
    telemetry, watches,
    workqueue::{Key, Outcome, Pass},
};

const NAME: &str = "rings";

/// Works on rings for ever.
pub async fn run(context: &Context) {
    let concurrency = usize::from(context.settings.concurrency);
    context.rings.run(concurrency, |ring| pass(context, ring)).await;
}

async fn pass(context: &Context, ring: String) -> Pass {
    let start = Instant::now();
    if context.rings.is_held_back(ring.as_str()) {
        info!(ring, "no progress: somebody may undo what is written, or wake it all the time");
    }
    let mut key = None;
    let result = catching_panics(reconcile(context, &ring, &mut key)).await;
    let (outcome, word) = match result {
        Ok(outcome) => (outcome, "success"),
        Err(error @ (Error::Conflict(_) | Error::Change(_))) => {
            debug!(ring, %error, "starting over");
            (Outcome::Failed, error.category())
        }
        Err(error) => {
            warn!(ring, %error, "pass failed");
            if let Error::Panic(_) = error {
                let uid = context.cache.ring(&ring).and_then(|ring| ring.uid());
                let on = telemetry::ring_reference(&ring, uid.as_deref());
                let (reason, doing) = (Occurrence::PassPanicked, Doing::Reconcile);
                context.events.publish(&on, true, reason, doing, PANICKED).await;
            }
            (Outcome::Failed, error.category())
        }
    };
    context.metrics.reconciled(NAME, word, start.elapsed());
    context.metrics.queue_depth(NAME, context.rings.depth());
    Pass { outcome, key }
}

/// Makes the pass; `key` tells it from others as soon as it has a plan.
async fn reconcile(context: &Context, ring: &str, key: &mut Option<Key>) -> Result<Outcome, Error> {
    let Some(found) = context.cache.ring(ring) else {
        if let Ok(name) = ring.parse() {
            context.cache.ledgers.release(&name);
        }
        // A ring taken away by force keeps its rule; the policy's pass says so.
        // Without ledger and rule, the labels that name it name no ring.
        context.wake_unknown_of(ring);
        context.metrics.ring_state(ring, None);
        return Ok(Outcome::Done);
    };
    let mut object = match &found.0 {
        Ok(object) => object.clone(),
        Err(invalid) => {
            let generation = invalid.metadata.generation;
            act::status::write_unreadable(context, ring, generation, &invalid.error).await?;
            context.metrics.ring_state(ring, Some("stalled"));
            return Ok(Outcome::RequeueAfter(context.settings.recheck_interval));
        }
    };
    let seen = object.resource_version().unwrap_or_default();
    if let Some(status) = context.cache.statuses.newer_than(ring, &seen) {
        object.status = Some(status);
    }
    let object = &object;
    let name: RingName = match ring.parse() {
        Ok(name) => name,
        // The API server refuses such names, unless its validation is off.
        Err(why) => {
            let generation = object.metadata.generation;
            act::status::write_unreadable(context, ring, generation, &why.to_string()).await?;
            context.metrics.ring_state(ring, Some("stalled"));
            return Ok(Outcome::RequeueAfter(context.settings.recheck_interval));
        }
    };
    check_ledger(context, &name).await?;
    let mut observed = observe(context, &name, object).await;
    if observed.is_doubtful() {
        // What is to be said now is grave, and what was seen may be old.
        watches::refresh(context, &name).await?;
        check_ledger(context, &name).await?;
        observed = observe(context, &name, object).await;
        // A stalled ring's revocations are its policies' to apply.
        for policy in observed.snapshot.policies.keys() {
            context.policies.wake_with_news(policy);
        }
    }
    let plan = pass::plan(&observed.snapshot);
    debug!(ring, actions = ?plan.actions, "planned");
    *key = Some(progress::of_ring(observed.snapshot.ledger.table(), &plan.actions));
    let Done { wrote, mut findings, mut failed } =
        act(context, object, &observed, &plan.actions).await;
    let starts_over =
        |e: &mut Error| matches!(e, Error::Conflict(_) | Error::Change(_) | Error::Interrupted);
    if let Some(error) = failed.take_if(starts_over) {
        return Err(error);
    }
    findings.extend(failed.as_ref().map(|error| Finding::Trouble(error.to_string())));
    if failed.is_none() && plan.actions.contains(&Action::RemoveFinalizer) {
        context.metrics.ring_state(ring, None);
        return Ok(Outcome::Done);
    }
    for finding in findings {
        observed.snapshot.learn(finding);
    }
    let report = pass::report(&observed.snapshot);
    act::status::write(context, object, &observed.snapshot, &report).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    context.metrics.ring_state(ring, Some(state(&report)));
    let is_incomplete =
        |said: &Condition| said.kind == Kind::EnforcementComplete && said.status == Status::False;
    context.metrics.ring_is_incomplete(ring, report.conditions.iter().any(is_incomplete));
    if plan.actions.iter().any(Action::is_commit) {
        context.gate.notify();
    }
    // The ledger and the finalizer are watched; pipeline Secrets are not.
    let look_again = wrote
        && (plan.actions.iter().any(touches_pipelines)
            || plan.actions.iter().any(Action::is_commit));
    if look_again {
        return Ok(Outcome::Requeue);
    }
    let wake = plan.wake.into_iter().chain(report.look_again).min();
    Ok(Outcome::RequeueAfter(next_look(context, ring, wake)))
}

/// Looks at what somebody else wrote of a ledger before anything is made of it.
async fn check_ledger(context: &Context, ring: &RingName) -> Result<(), Error> {
    match context.cache.ledgers.get(ring.as_str()) {
        Some(row) if row.unchecked().is_some() => act::ledger::check(context, ring, &row).await?,
        _ => {}
    }
    act::ledger::check_key_secrets(context, ring).await
}

/// When to look again although nothing changes: at the latest after the
/// recheck interval, spread by name so that the rings do not move in step.
fn next_look(context: &Context, ring: &str, wake: Option<Duration>) -> Duration {
    let interval = context.settings.recheck_interval;
    let spread = ring.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    let early = interval / 5 * (spread % 100) / 100;
    let recheck = interval - early;
    wake.map_or(recheck, |wake| recheck.min(wake + Duration::from_secs(1)))
}

/// A ring's state for metrics.
fn state(report: &Report) -> &'static str {
    let find = |kind| report.conditions.iter().find(|c| c.kind == kind);
    let deleting = |reason| matches!(reason, Reason::Deleting | Reason::DeletionBlocked);
    match (find(Kind::Ready), find(Kind::Stalled), find(Kind::Reconciling)) {
        (Some(ready), _, _) if deleting(ready.reason) => "deleting",
        (_, Some(_), _) => "stalled",
        (Some(ready), _, _) if ready.status != Status::True => "not_ready",
        (_, _, Some(_)) => "rotating",
        _ => "ready",
    }
}
