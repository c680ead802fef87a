//! One pass over one policy: observe, plan, write, remember what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, ResourceExt, core::DeserializeGuard};
use signingkeyring_core::{
    event::{Action, Occurrence},
    names::RingName,
    policy::{Content, Step, Write, image_validating::pin, plan_policy},
    policy_ref::PolicyRef,
    snapshot::{Difference, WriteFailure},
};
use signingkeyring_crds::SigningKeyRing;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    announcements::{announce_expired, announce_kept},
    exclusions,
    panics::{PANICKED, catching_panics},
    progress, unknown,
};
use crate::{
    act::{ledger, policies as act},
    cache::{FailedWrite, WATCHED_WITHIN, WrittenPolicy},
    context::Context,
    error::{Error, brief},
    kyverno::Object,
    observe::{ObservedPolicy, ReadAnew, observe_policy, spec_digest},
    telemetry, watches,
    workqueue::{Key, Outcome, Pass},
};

mod culprits;

use culprits::{find_culprits, refusal, shorten};

const NAME: &str = "policies";
const CONCURRENCY: usize = 4;

/// So many of those that are not urgent are worked on at once while one is that is.
const WHILE_REVOKING: usize = 2;

/// After this long a policy is looked at again of whose rings one is about to look at its
/// ledger.
const UNCHECKED: Duration = Duration::from_secs(5);

/// So many ledgers a pass looks at at once.
const CHECKS: usize = 8;

/// How soon a policy is looked at again whose ring the guard is yet to hear of.
const UNTIL_TOLD: Duration = Duration::from_millis(100);

/// Works on policies for ever.
pub async fn run(context: &Context) {
    let others = || if context.revoking.needs_room() { WHILE_REVOKING } else { CONCURRENCY };
    context.policies.run(CONCURRENCY, others, |policy| pass(context, policy)).await;
}

async fn pass(context: &Context, policy: PolicyRef) -> Pass {
    let start = Instant::now();
    if context.policies.is_held_back(&policy) {
        info!(%policy, "no progress: somebody may undo what is written, or wake it all the time");
    }
    let mut key = None;
    let result = catching_panics(reconcile(context, policy, &mut key)).await;
    let (outcome, word) = match result {
        Ok(outcome) => (outcome, "success"),
        Err(Failed { error: error @ Error::Conflict(_), .. }) => {
            debug!(%policy, %error, "starting over");
            (Outcome::Failed, error.category())
        }
        Err(Failed { error, differences }) => {
            warn!(%policy, %error, "policy not written");
            let message = match &error {
                Error::Api { source, .. } => Some(shorten(&brief(source))),
                Error::Foreign(_) => Some(error.to_string()),
                _ => None,
            };
            if let Some(message) = message {
                // Which ring's rule is refused is remembered for that ring: of its neighbours,
                // or where it is the pin that is refused, that would not be true.
                let failure = WriteFailure { refused: false, message };
                failed(context, policy, FailedWrite { failure, differences });
            }
            if let Error::Panic(_) = error {
                let message = PANICKED.to_owned();
                failed(context, policy, WriteFailure { refused: false, message }.into());
                let uid = context.cache.policy(policy).and_then(|policy| policy.uid());
                let on = telemetry::policy_reference(policy, uid.as_deref());
                let (reason, doing) = (Occurrence::PassPanicked, Action::Reconcile);
                context.events.publish(&on, true, reason, doing, PANICKED).await;
            }
            (Outcome::Failed, error.category())
        }
    };
    // What it stands before may have changed, too.
    context.gate.look_at([policy]);
    context.metrics.reconciled(NAME, word, start.elapsed());
    context.metrics.queue_depth(NAME, context.policies.depth());
    Pass { outcome, key, under_way: false }
}

/// Why a pass failed.
struct Failed {
    error: Error,
    /// What the policy that could not be written holds meanwhile.
    differences: BTreeMap<String, Difference>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, differences: BTreeMap::new() }
    }
}

/// Makes the pass; `key` tells it from others as soon as it has a plan.
async fn reconcile(
    context: &Context,
    policy: PolicyRef,
    key: &mut Option<Key>,
) -> Result<Outcome, Failed> {
    if !policy.holds_rings() {
        return Ok(unknown::reconcile(context, policy, key).await?);
    }
    if !check_ledgers(context, policy).await {
        *key = Some(progress::WAITS);
        return Ok(Outcome::RequeueAfter(UNCHECKED));
    }
    let mut observed = observe_policy(context, policy, &ReadAnew::new());
    let mut plan = plan_policy(&observed.snapshot, &observed.backend(context));
    if let Step::ReadAnew(rings) = &plan.step {
        let anew = read_anew(context, rings)
            .await
            .map_err(|error| Failed { error, differences: observed.snapshot.unvouched() })?;
        observed = observe_policy(context, policy, &anew);
        plan = plan_policy(&observed.snapshot, &observed.backend(context));
    }
    *key = Some(progress::of_policy(&observed.snapshot.rings, &plan.step));
    announce_kept(context, &observed, &plan.kept).await;
    exclusions::report(context, policy, &observed.exclusions).await;
    for ring in &plan.outdated_refusals {
        context.cache.written.clear_refusal(policy, ring);
    }
    if let Some(bytes) = plan.bytes {
        let before = context.cache.written.record_size(policy, bytes);
        if before.is_some_and(|before| bytes < before) {
            context.cache.ledgers.has_shrunk(policy);
        }
        if before != Some(bytes) && bytes > context.settings.policy_limit(policy.kind()).bytes {
            // The one that is to leave.
            let placed = context.cache.ledgers.placed_in(policy);
            placed.last().iter().for_each(|(ring, _)| context.rings.wake(ring.as_str()));
        }
    }
    let requeue_after = plan.requeue_after.into_iter().chain(observed.exclusions.until).min();
    let outcome = requeue_after.map_or(Outcome::Done, Outcome::RequeueAfter);
    match plan.step {
        // It brings it, and wakes the policy, or has nothing to bring.
        Step::Wait if observed.snapshot.written.as_ref().is_some_and(|w| w.is_ahead) => {
            Ok(Outcome::RequeueAfter(WATCHED_WITHIN))
        }
        Step::Wait | Step::AllRefused => Ok(outcome),
        // Something else has changed meanwhile, and needs a look as well.
        Step::ReadAnew(_) => Ok(Outcome::Requeue),
        Step::Conflict => {
            report_conflict(context, policy);
            Ok(outcome)
        }
        Step::UpToDate(content) => {
            settle_companion(context, &observed).await.map_err(|error| {
                let differs = |ring: &String| (ring.clone(), Difference::Unpinned);
                Failed { error, differences: content.rules.keys().map(differs).collect() }
            })?;
            up_to_date(context, &observed, &content);
            Ok(outcome)
        }
        Step::Delete => {
            delete(context, &observed).await?;
            Ok(outcome)
        }
        Step::Write(write) => {
            let can_wait = write.urgent_for.is_none() && !write.drifted;
            // The guard would refuse what Kyverno notes by the rule of a ring that it takes for
            // none. It does so for as long, where others cannot wait.
            if can_wait && context.cache.unknown_told.names_any(write.content.rules.keys()) {
                context.wake_unknown();
                *key = Some(progress::WAITS);
                return Ok(Outcome::RequeueAfter(UNTIL_TOLD));
            }
            if can_wait
                && let Some(wait) = context.gathering.wait(&policy, others_follow(context, policy))
            {
                return Ok(Outcome::RequeueAfter(wait));
            }
            self::write(context, observed, write, outcome).await
        }
    }
}

/// Looks at the ledgers that decide what a policy holds and that nobody has looked at yet, as
/// after a start: a write is for all of them, and comes before what else is done for each. One
/// whose look fails does not hold up the others: the next pass tries that again. What is urgent
/// waits for none. Returns whether that is all: a ring that is worked on looks at its own, or
/// has just written it, and wakes the policy.
async fn check_ledgers(context: &Context, policy: PolicyRef) -> bool {
    let ledgers = &context.cache.ledgers;
    let placed = ledgers.placed_in(policy).into_iter().map(|(ring, _)| ring);
    let unchecked = placed.filter(|ring| ledgers.is_unchecked(ring.as_str()));
    let (theirs, unchecked): (Vec<_>, Vec<_>) =
        unchecked.partition(|ring| context.rings.is_running(ring.as_str()));
    let check = |ring: RingName| async move {
        if !context.policies.is_urgent(&policy)
            && let Some(row) = ledgers.get(ring.as_str())
            && let Err(error) = ledger::check(context, &ring, &row, Some(policy)).await
        {
            debug!(%policy, ring = ring.as_str(), %error, "ledger not looked at");
        }
    };
    stream::iter(unchecked).for_each_concurrent(CHECKS, check).await;
    let is_left = |ring: &RingName| ledgers.is_unchecked(ring.as_str());
    context.policies.is_urgent(&policy) || !theirs.iter().any(is_left)
}

/// Whether more of a policy's rings are worked on, or wait for a key pair, than the one for
/// which it is written.
fn others_follow(context: &Context, policy: PolicyRef) -> bool {
    let follows =
        |ring: &str| context.rings.is_wanted(ring) || context.key_orders.has_ordered(ring);
    let placed = context.cache.ledgers.placed_in(policy);
    placed.iter().filter(|(ring, _)| follows(ring.as_str())).nth(1).is_some()
}

/// Wakes the rings that are placed in a policy, and those that it names.
fn wake_rings(context: &Context, policy: PolicyRef) {
    for (ring, _) in context.cache.ledgers.placed_in(policy) {
        context.rings.wake(ring.as_str());
    }
    if let Some(object) = context.cache.policy(policy) {
        object.marks().0.keys().for_each(|ring| context.rings.wake(ring));
    }
}

/// Remembers why a policy does not hold what it should.
fn failed(context: &Context, policy: PolicyRef, failed: FailedWrite) {
    if context.cache.written.record_failure(policy, failed) {
        wake_rings(context, policy);
    }
}

fn report_conflict(context: &Context, policy: PolicyRef) {
    let message = "an object of that name is not the operator's".to_owned();
    let failure = WriteFailure { refused: false, message };
    if !context.cache.ledgers.placed_in(policy).is_empty()
        && context.cache.written.record_failure(policy, failure.into())
    {
        warn!(%policy, "left alone: an object of that name is not the operator's");
        wake_rings(context, policy);
    }
}

/// Remembers what is there as if this process had written it: another replica
/// did, or the answer was lost. What was written before does not count any more.
fn up_to_date(context: &Context, observed: &ObservedPolicy, content: &Content) {
    let policy = observed.snapshot.policy;
    if let Some(object) = &observed.object {
        remember(context, policy, content, Arc::clone(object));
    }
    if context.cache.written.clear_failure(policy) {
        wake_rings(context, policy);
    }
}

fn remember(context: &Context, policy: PolicyRef, content: &Content, stored: Arc<Object>) {
    let sent = content.whole.spec.digest;
    context.cache.written.record(policy, WrittenPolicy { sent, stored });
}

/// Reads the ledgers and objects of rings from the API server: what the watches
/// have brought may be older than what a policy was written from.
async fn read_anew(context: &Context, rings: &BTreeSet<String>) -> Result<ReadAnew, Error> {
    let api: Api<DeserializeGuard<SigningKeyRing>> = Api::all(context.client.clone());
    let mut anew = ReadAnew::new();
    for ring in rings {
        if let Ok(name) = ring.parse() {
            watches::refresh(context, &name).await?;
        }
        let object = api.get_opt(ring).await;
        let object = object.map_err(|error| Error::api(format!("ring {ring}"), error))?;
        anew.insert(ring.clone(), object);
    }
    Ok(anew)
}

/// Brings what goes with a policy to where it should be.
async fn settle_companion(context: &Context, observed: &ObservedPolicy) -> Result<(), Error> {
    let companion = observed.companion(context);
    if let Some(restored) = act::settle_companion(context, companion).await? {
        context.metrics.drift_undone(pin::KIND);
        say_restored(context, &telemetry::companion_reference(&restored)).await;
    }
    Ok(())
}

async fn say_restored(context: &Context, on: &ObjectReference) {
    let note = "somebody else had edited or deleted this policy; it was restored";
    context.events.publish(on, true, Occurrence::PolicyRestored, Action::Restore, note).await;
}

async fn delete(context: &Context, observed: &ObservedPolicy) -> Result<(), Error> {
    let policy = observed.snapshot.policy;
    if let Some(object) = &observed.object {
        act::delete(context, policy.kind(), object).await?;
        info!(%policy, "policy deleted: no ring is left in it");
    } else {
        settle_companion(context, observed).await?;
    }
    context.cache.written.forget(policy);
    context.cache.ledgers.has_shrunk(policy);
    if context.cache.ledgers.placed_in(policy).is_empty() {
        context.gate.forget(policy);
        context.metrics.gate_gone(&policy.to_string());
    }
    wake_rings(context, policy);
    Ok(())
}

async fn write(
    context: &Context,
    mut observed: ObservedPolicy,
    mut write: Write,
    mut outcome: Outcome,
) -> Result<Outcome, Failed> {
    let policy = observed.snapshot.policy;
    let failed = |error, observed: &ObservedPolicy, write: &Write| {
        let differences = write.differences(&observed.snapshot, &observed.backend(context));
        Failed { error, differences }
    };
    // Without it tags are refused, which is no reason to let a revoked key stay.
    if write.urgent_for.is_none() {
        act::write_companion_before(context, &observed, &write.content)
            .await
            .map_err(|error| failed(error, &observed, &write))?;
    }
    let mut result = act::write(context, &observed, &write.content, false).await;
    let mut in_place = false;
    if write.urgent_for.is_some()
        && result.as_ref().is_err_and(|error| !matches!(error, Error::Conflict(_)))
        && let Some(Ok(stored)) = act::write_in_place(context, &observed, &write.content).await
    {
        (result, in_place) = (Ok(stored), true);
    }
    if let Err(error) = &result
        && !matches!(error, Error::Conflict(_))
        && let Some(whole) = write.beyond_urgent(&observed.backend(context))
    {
        // What is refused may be what is to change anyhow.
        warn!(%policy, %error, "revoked keys not taken out alone, trying all that is to change");
        write = whole;
        result = act::write(context, &observed, &write.content, false).await;
    }
    let stored = match result {
        Ok(stored) => stored,
        Err(error) => {
            let Some(message) = refusal(&error) else {
                return Err(failed(error, &observed, &write));
            };
            match find_culprits(context, &observed, &write.content, message).await {
                Ok(true) => {}
                Ok(false) => return Err(failed(error, &observed, &write)),
                Err(error) => return Err(failed(error, &observed, &write)),
            }
            observed.observe_refusals(context);
            let plan = plan_policy(&observed.snapshot, &observed.backend(context));
            outcome = plan.requeue_after.map_or(outcome, Outcome::RequeueAfter);
            match plan.step {
                Step::Write(Write { content, .. }) => write.content = content,
                Step::UpToDate(content) => {
                    up_to_date(context, &observed, &content);
                    return Ok(outcome);
                }
                _ => return Err(failed(error, &observed, &write)),
            }
            match act::write(context, &observed, &write.content, false).await {
                Ok(stored) => stored,
                Err(error) => return Err(failed(error, &observed, &write)),
            }
        }
    };
    let rings = context.cache.ledgers.placed_in(policy).len();
    let urgent = write.urgent_for.is_some();
    info!(%policy, rings, urgent, marks = %write.content.marks(), "policy written");
    context.metrics.policy_written();
    if write.drifted {
        context.metrics.drift_undone(policy.kind().as_str());
        let on = telemetry::policy_reference(policy, stored.uid().as_deref());
        say_restored(context, &on).await;
    }
    for (origin, exclusion) in &write.expired {
        announce_expired(context, origin, exclusion).await;
    }
    if in_place {
        // What stands around the rules is not what was planned.
        let sent = spec_digest(policy, &stored);
        context.cache.written.record(policy, WrittenPolicy { sent, stored: Arc::new(stored) });
    } else {
        remember(context, policy, &write.content, Arc::new(stored));
    }
    context.gathering.end(&policy);
    if context.cache.written.clear_failure(policy) {
        wake_rings(context, policy);
    }
    for ring in write.content.changed(observed.snapshot.ours()) {
        context.rings.wake(ring);
    }
    Ok(outcome)
}
