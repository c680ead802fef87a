//! One pass over one ring: observe, plan, act, report.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kube::ResourceExt;
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    event::{Action as Doing, Occurrence},
    ledger::{Change, Mint},
    names::RingName,
    pass,
    plan::{Action, Plan},
    report::Report,
    snapshot::{Finding, LedgerFound},
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    panics::{PANICKED, catching_panics},
    progress,
};
use crate::{
    act::{self, Done, act},
    cache::{Outline, is_newer},
    context::Context,
    error::Error,
    observe::{Fresh, Observed, observe, touches_pipelines},
    rotations::Standing,
    telemetry::{self, RingSeries},
    watches,
    workqueue::{Key, Outcome, Pass},
};

const NAME: &str = "rings";

/// Nothing is waited for longer than this without a look at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// So many rings are worked on at once while policies go first: what else is asked of the API
/// server holds these up.
const WHILE_POLICIES_GO_FIRST: usize = 2;

/// For so long after it has begun to work, at most, policies go first until all were looked at,
/// as after a restore: what is verified matters more than what is said of it, and of a ring
/// whose policy is not there yet it would have to be said twice.
const BEGINS: Duration = Duration::from_secs(120);

/// Works on rings for ever.
pub async fn run(context: &Context) {
    let all = usize::from(context.settings.concurrency);
    let (begun, begins) = (Instant::now(), AtomicBool::new(true));
    let is_beginning = || {
        let still = begins.load(Ordering::Relaxed)
            && begun.elapsed() < BEGINS
            && context.policies.depth() > 0;
        begins.store(still, Ordering::Relaxed);
        still
    };
    let others = || {
        // A policy is written without a revoked key, and Kyverno is yet to answer with that.
        let go_first = is_beginning() || context.revoking.needs_room();
        if go_first { WHILE_POLICIES_GO_FIRST } else { all }
    };
    context.rings.run(all, others, |ring| pass(context, ring)).await;
}

async fn pass(context: &Context, ring: String) -> Pass {
    let start = Instant::now();
    if context.rings.is_held_back(ring.as_str()) {
        info!(ring, "no progress: somebody may undo what is written, or wake it all the time");
    }
    let mut said = Said::default();
    let result = catching_panics(reconcile(context, &ring, &mut said)).await;
    let (outcome, word) = match result {
        Ok(outcome) => (outcome, "success"),
        Err(error @ Error::Overtaken(_)) => {
            debug!(ring, %error, "starting over");
            (Outcome::Failed, error.category())
        }
        Err(error @ (Error::Conflict(_) | Error::Change(_))) => {
            debug!(ring, %error, "starting over");
            context.cache.looks.forget(&ring);
            // The watch may be behind a ledger that is there already.
            if let (false, Ok(name)) = (context.cache.ledgers.exists(&ring), ring.parse())
                && let Err(error) = watches::refresh(context, &name).await
            {
                debug!(ring, %error, "ledger not looked up");
            }
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
    context.cache.settle(&ring);
    let ledger = context.cache.ledgers.outline(&ring);
    note_rotation(context, &ring, ledger.as_deref(), &said);
    if said.is_gone {
        context.rechecks.forget(&ring);
        context.key_orders.forget(&ring);
        context.reports.end(&ring);
    } else {
        let at = said.looked_at.unwrap_or_else(Instant::now);
        context.rechecks.looked_at(&ring, at, said.requests, said.waits);
    }
    // What was done is told before something else is begun: otherwise all of a wave would be
    // through at its end.
    let has_more = outcome == Outcome::Requeue || said.status_waits;
    let under_way = said.awaits_key
        || ledger.is_some_and(|ledger| {
            ledger.has_pending || ledger.removed || (ledger.signs && has_more)
        });
    Pass { outcome, key: said.key, under_way }
}

/// What becomes known in the course of a pass.
#[derive(Debug, Default)]
struct Said {
    /// What tells it from other passes, as soon as it has a plan.
    key: Option<Key>,
    /// There is no such ring any more.
    is_gone: bool,
    /// How many requests it takes to look at its pipelines.
    requests: usize,
    /// When it was looked at them, if not in this pass.
    looked_at: Option<Instant>,
    /// It waits for somebody, of whose doing nobody tells.
    waits: bool,
    /// The ring's soak.
    soak: Duration,
    /// A rotation is due and waits for those of others.
    is_queued: bool,
    /// Its next version waits for the key pair that was ordered.
    awaits_key: bool,
    /// Its status is not written yet: it tells of a step that another one follows.
    status_waits: bool,
}

/// Takes in whether the ring rotates or waits for others, and wakes who has room by now.
fn note_rotation(context: &Context, ring: &str, ledger: Option<&Outline>, said: &Said) {
    // Its room is taken up before its key is ordered.
    let is_begun = context.key_orders.has_ordered(ring) && context.rotations.is_under_way(ring);
    let standing = if !said.is_gone && (is_begun || ledger.is_some_and(|ledger| ledger.rotates)) {
        Standing::UnderWay(said.soak)
    } else if said.is_queued {
        Standing::Waiting
    } else {
        Standing::Neither
    };
    for next in context.rotations.note(ring, standing) {
        context.rings.wake(&next);
    }
    let (under_way, waiting) = context.rotations.counts();
    context.metrics.rotating(under_way, waiting);
}

/// Makes the pass.
async fn reconcile(context: &Context, ring: &str, said: &mut Said) -> Result<Outcome, Error> {
    let written = context.cache.statuses.get(ring);
    let Some(found) = context.cache.ring(ring) else {
        if let Ok(name) = ring.parse() {
            context.cache.ledgers.release(&name);
        }
        // A ring taken away by force keeps its rule; the policy's pass says so.
        // Without ledger and rule, the labels that name it name no ring.
        context.wake_unknown_of(ring);
        context.metrics.ring_state(ring, None);
        context.revoking.end(ring);
        said.is_gone = true;
        return Ok(Outcome::Done);
    };
    let mut object = match &found.0 {
        Ok(object) => object.clone(),
        Err(invalid) => {
            let generation = invalid.metadata.generation;
            context.key_orders.forget(ring);
            act::status::write_unreadable(context, ring, generation, &invalid.error).await?;
            context.metrics.ring_state(ring, Some(RingSeries::stalled(Reason::SpecUnreadable)));
            context.metrics.ring_is_incomplete(ring, false);
            return Ok(Outcome::Done);
        }
    };
    let seen = object.resource_version().unwrap_or_default();
    if let Some((_, status)) = written.filter(|(version, _)| is_newer(version, &seen)) {
        object.status = Some(status);
    }
    let object = &object;
    let name: RingName = match ring.parse() {
        Ok(name) => name,
        // The API server refuses such names, unless its validation is off.
        Err(why) => {
            let generation = object.metadata.generation;
            context.key_orders.forget(ring);
            act::status::write_unreadable(context, ring, generation, &why.to_string()).await?;
            context.metrics.ring_state(ring, Some(RingSeries::stalled(Reason::SpecUnreadable)));
            context.metrics.ring_is_incomplete(ring, false);
            return Ok(Outcome::Done);
        }
    };
    check_ledger(context, &name).await?;
    let mut observed = observe(context, &name, object).await;
    let is_present = matches!(observed.snapshot.ledger, LedgerFound::Present(_));
    if !is_present {
        // A key in a pipeline's Secret is a sign that there was a ledger.
        observed.look_at_pipelines(context, Fresh::ToAct).await;
    }
    let is_doubtful = observed.is_doubtful();
    if is_doubtful {
        // What is to be said now is grave, and what was seen may be old.
        watches::refresh(context, &name).await?;
        check_ledger(context, &name).await?;
        observed = observe(context, &name, object).await;
        observed.look_at_pipelines(context, Fresh::ToAct).await;
        // A stalled ring's revocations are its policies' to apply.
        for policy in observed.snapshot.policies.keys() {
            if context.rings.is_urgent(ring) {
                context.policies.wake_urgently(policy);
            } else {
                context.policies.wake_with_news(policy);
            }
        }
    }
    let mut plan = pass::plan(&observed.snapshot);
    if is_present && !is_doubtful && !goes_on_without_pipelines(context, &observed, &plan) {
        observed.look_at_pipelines(context, Fresh::ToWait).await;
        plan = pass::plan(&observed.snapshot);
        if observed.is_remembered() && !observed.needs_no_fresh_look(&plan.actions) {
            observed.look_at_pipelines(context, Fresh::ToAct).await;
            plan = pass::plan(&observed.snapshot);
        }
    }
    debug!(ring, actions = ?plan.actions, "planned");
    said.soak = observed.snapshot.ring.soak;
    said.is_queued = plan.waits_for_others;
    said.requests = observed.snapshot.pipelines.len();
    said.looked_at = observed.looked_at();
    said.key = Some(progress::of_ring(observed.snapshot.ledger.table(), &plan.actions));
    // It may be written although it is answered with an error.
    let revokes = |action: &Action| matches!(action, Action::Commit(Change::Revoke { .. }));
    if plan.actions.iter().any(revokes) {
        context.revoking.begin(ring);
    }
    // What another commit goes before, as that of a revocation, is wanted still.
    let wants_key = |action: &Action| match action {
        Action::Mint(mint) => !matches!(mint, Mint::Import { .. }),
        other => other.is_commit(),
    };
    if !plan.actions.iter().any(wants_key) {
        context.key_orders.forget(ring);
    }
    let Done { wrote, mut findings, awaits_key, mut failed } =
        act(context, object, &observed, &plan.actions).await;
    said.awaits_key = awaits_key;
    if awaits_key {
        // The pass that takes the key comes to the same, and is no repetition of this one.
        said.key = None;
    }
    let is_wanted_soon = context.rings.is_urgent(ring) || context.rings.is_soon(ring);
    if awaits_key && !is_wanted_soon && !context.revoking.waits(ring) {
        // As soon as it is there, more is to be told.
        return Ok(Outcome::Awaits);
    }
    let starts_over = |error: &mut Error| {
        matches!(
            error,
            Error::Conflict(_) | Error::Overtaken(_) | Error::Change(_) | Error::Interrupted
        )
    };
    if let Some(error) = failed.take_if(starts_over) {
        return Err(error);
    }
    findings.extend(failed.as_ref().map(|error| Finding::Trouble(error.to_string())));
    if failed.is_none() && plan.actions.contains(&Action::RemoveFinalizer) {
        context.metrics.ring_state(ring, None);
        said.is_gone = true;
        return Ok(Outcome::Done);
    }
    // The ledger and the finalizer are watched; pipeline Secrets are not.
    let look_again = wrote
        && (plan.actions.iter().any(touches_pipelines)
            || plan.actions.iter().any(Action::is_commit));
    if look_again && failed.is_none() && findings.is_empty() && !context.rings.is_held_back(ring) {
        // What would be reported now is over in a moment.
        look_at_policies(context, ring, &plan.actions);
        return Ok(Outcome::Requeue);
    }
    if !observed.has_pipelines() {
        observed.look_at_pipelines(context, Fresh::ToWait).await;
        said.looked_at = observed.looked_at();
    }
    for finding in findings {
        observed.snapshot.learn(finding);
    }
    let report = pass::report(&observed.snapshot);
    let is_lacking = |c: &Condition| {
        matches!(c.kind, Kind::KeysAvailable | Kind::PipelinesPublished) && c.status != Status::True
    };
    said.waits = report.conditions.iter().any(is_lacking);
    // Also of a ring whose pass fails.
    let series = RingSeries::of(&observed.snapshot, &report, state(&report));
    context.metrics.ring_state(ring, Some(series));
    let is_incomplete =
        |said: &Condition| said.kind == Kind::EnforcementComplete && said.status == Status::False;
    context.metrics.ring_is_incomplete(ring, report.conditions.iter().any(is_incomplete));
    let status_waits = act::status::write(context, object, &observed.snapshot, &report).await?;
    said.status_waits = status_waits.is_some();
    let is_unapplied =
        |c: &Condition| c.kind == Kind::RevocationsApplied && c.status != Status::True;
    if status_waits.is_none() && !report.conditions.iter().any(is_unapplied) {
        context.revoking.end(ring);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    look_at_policies(context, ring, &plan.actions);
    if look_again {
        return Ok(Outcome::Requeue);
    }
    let wake = plan.wake.into_iter().chain(report.look_again).min();
    // A moment later, so that it is not looked a moment too early.
    let wake = wake.map(|wake| wake.min(LONGEST_SLEEP) + Duration::from_secs(1));
    let wake = wake.into_iter().chain(status_waits).min();
    Ok(wake.map_or(Outcome::Done, Outcome::RequeueAfter))
}

/// Has it looked whether the policies of a ring are to be asked, if its ledger has changed.
fn look_at_policies(context: &Context, ring: &str, actions: &[Action]) {
    if actions.iter().any(Action::is_commit)
        && let Some(ledger) = context.cache.ledgers.outline(ring)
    {
        context.gate.look_at(ledger.settings.policies());
    }
}

/// Whether a pass does what it would do whatever the pipelines' Secrets hold, and another
/// one follows at once, so that nothing is to be said of them: it need not look.
fn goes_on_without_pipelines(context: &Context, observed: &Observed, plan: &Plan) -> bool {
    let is_a_commit = plan.actions.iter().any(Action::is_commit);
    is_a_commit
        && observed.needs_no_pipelines(&plan.actions)
        && !context.rings.is_held_back(observed.snapshot.name.as_str())
}

/// Looks at what somebody else wrote of a ledger before anything is made of it.
async fn check_ledger(context: &Context, ring: &RingName) -> Result<(), Error> {
    if context.cache.ledgers.is_unchecked(ring.as_str())
        && let Some(row) = context.cache.ledgers.get(ring.as_str())
    {
        act::ledger::check(context, ring, &row, None).await?;
    }
    act::ledger::check_key_secrets(context, ring).await
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
