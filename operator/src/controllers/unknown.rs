//! One pass over a policy for namespaces whose label names no ring: which they
//! are is said, and the policy is written.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use signingkeyring_core::{
    event::{Action as Doing, Occurrence},
    policy::unknown::{CoverContent, UnknownPlan, UnknownSnapshot, UnknownStep, plan_unknown},
    policy_ref::{Action, PolicyRef},
    snapshot::CoverAnswer,
};
use tracing::{info, warn};

use super::{exclusions, progress};
use crate::{
    act::{policies as act, unknown_rings::tell_guard},
    cache::{WATCHED_WITHIN, WrittenPolicy},
    context::Context,
    error::Error,
    kyverno::Object,
    observe::{ObservedUnknown, observe_unknown},
    telemetry,
    workqueue::{Key, Outcome},
};

/// So long a label may name no ring before that is said: who applies a namespace
/// and its ring together applies one of them first.
const GRACE: Duration = Duration::from_secs(10);

/// So long it may be before Kyverno was heard to cover it: it is said once, and what it says
/// is to stay true.
const GRACE_TO_COVER: Duration = Duration::from_secs(60);

/// How soon the guard is told again what it could not be told.
const RETELL: Duration = Duration::from_secs(10);

/// So many events are written by one pass; the others wait for the next.
const EVENTS_AT_ONCE: usize = 25;

/// How long they wait.
const BREATH: Duration = Duration::from_secs(1);

/// Makes the pass; `key` tells it from others as soon as it has a plan.
pub(super) async fn reconcile(
    context: &Context,
    policy: PolicyRef,
    key: &mut Option<Key>,
) -> Result<Outcome, Error> {
    let observed = observe_unknown(context, policy);
    let UnknownPlan { step, left_out, requeue_after } =
        plan_unknown(&observed.snapshot, &observed.backend(context));
    *key = Some(progress::of_unknown(&step));
    exclusions::report(context, policy, &observed.exclusions).await;
    if left_out > 0 && context.announced.first_time(&format!("{policy} {left_out} left out")) {
        warn!(%policy, left_out, "too many labels name no ring: some are not covered");
    }
    let executed = execute(context, &observed, step).await;
    if let (Ok(Some(_)), Some(key)) = (&executed, key.as_mut()) {
        // Nothing is written while changes are gathered.
        key.is_idle = true;
    }
    let (mut said_later, mut told_later) = (None, None);
    if policy == context.unknown_policy() {
        if let Err(error) = tell_guard(context, observed.snapshot.naming_nobody()).await {
            if context.announced.first_time(&format!("guard not told: {error}")) {
                warn!(%error, "the guard is not told which labels name no ring; tried again");
            }
            told_later = Some(RETELL);
        }
        said_later = announce(context, &observed).await;
    }
    let next = executed?.into_iter().chain(requeue_after).chain(said_later).chain(told_later);
    let next = next.chain(observed.exclusions.until).min();
    Ok(next.map_or(Outcome::Done, Outcome::RequeueAfter))
}

/// Returns when it is to be looked again, where changes are being gathered.
async fn execute(
    context: &Context,
    observed: &ObservedUnknown,
    step: UnknownStep,
) -> Result<Option<Duration>, Error> {
    let policy = observed.snapshot.policy;
    match step {
        UnknownStep::Wait => {
            let is_ahead = observed.snapshot.written.as_ref().is_some_and(|w| w.is_ahead);
            return Ok(is_ahead.then_some(WATCHED_WITHIN));
        }
        UnknownStep::Rest => {}
        UnknownStep::Conflict => {
            if context.announced.first_time(&format!("{policy} conflict")) {
                warn!(%policy, "left alone: an object of that name is not the operator's, so \
                    namespaces whose label names no ring are not covered");
            }
        }
        UnknownStep::UpToDate(content) => {
            if let Some(object) = &observed.object {
                remember(context, policy, &content, Arc::clone(object));
            }
        }
        UnknownStep::Write { content, drifted } => {
            if let Some(pause) = context.gathering.pause(&policy).filter(|_| !drifted) {
                return Ok(Some(pause));
            }
            write(context, observed, &content, drifted).await?;
            context.gathering.wrote(&policy);
        }
        UnknownStep::Delete => {
            if let Some(object) = &observed.object {
                act::delete(context, policy.kind(), object).await?;
                info!(%policy, "policy deleted: every label names a ring");
            }
            context.cache.written.forget(policy);
            context.metrics.gate_gone(&policy.to_string());
            ask_anew(context, policy);
        }
    }
    Ok(None)
}

async fn write(
    context: &Context,
    observed: &ObservedUnknown,
    content: &CoverContent,
    drifted: bool,
) -> Result<(), Error> {
    let policy = observed.snapshot.policy;
    let stored = act::write_unknown(context, observed, content).await?;
    info!(%policy, values = content.values.len(), "policy written");
    context.metrics.policy_written();
    if drifted {
        context.metrics.drift_undone(policy.kind().as_str());
        let on = telemetry::policy_reference(policy, stored.uid().as_deref());
        let note = "somebody else had edited or deleted this policy; it was restored";
        context.events.publish(&on, true, Occurrence::PolicyRestored, Doing::Restore, note).await;
    }
    remember(context, policy, content, Arc::new(stored));
    ask_anew(context, policy);
    Ok(())
}

fn remember(context: &Context, policy: PolicyRef, content: &CoverContent, stored: Arc<Object>) {
    let sent = content.whole.spec.digest;
    context.cache.written.record(policy, WrittenPolicy { sent, stored });
    context.cache.written.clear_failure(policy);
}

/// What was answered before does not count any more.
fn ask_anew(context: &Context, policy: PolicyRef) {
    context.gate.forget(policy);
}

/// Says of each namespace whose label names no ring, once a process, that it
/// does not. Returns when there is more to say.
async fn announce(context: &Context, observed: &ObservedUnknown) -> Option<Duration> {
    let unknown = observed.unknown(context);
    context.metrics.unknown_rings(unknown.len());
    let policy = observed.snapshot.policy;
    let stands = context.cache.policy(policy).map(|policy| policy.marks().clone());
    let loaded = context.gate.cover(policy, stands.as_ref()) == CoverAnswer::AsFound;
    let mut events = 0;
    let mut next: Option<Duration> = None;
    for (namespace, value, age) in context.cache.unknown_since.ages(unknown) {
        let meets = Meets::observe(&observed.snapshot, &value, loaded);
        let grace = if meets == Meets::NotYetHeard { GRACE_TO_COVER } else { GRACE };
        let later = grace.saturating_sub(age);
        let later = if later.is_zero() && events >= EVENTS_AT_ONCE { BREATH } else { later };
        if !later.is_zero() {
            next = next.into_iter().chain([later]).min();
            continue;
        }
        let uid = context.cache.namespaces.uid(&namespace);
        if !context.announced.first_time(&format!("{namespace} {uid:?} {value} unknown")) {
            continue;
        }
        events += 1;
        let label = &context.settings.enrolment_label;
        warn!(namespace, label, value, "the label names no ring");
        let note = format!(
            "label {label}={value} names no SigningKeyRing, so {}. It may be a typo, or the ring \
             is not applied yet: kubectl get skr. Correct it: kubectl label --overwrite namespace \
             {namespace} {label}=RING, or take it off: kubectl label namespace {namespace} {label}-",
            meets.text(policy),
        );
        let on = telemetry::namespace_reference(&namespace, uid.as_deref());
        context.events.publish(&on, true, Occurrence::RingUnknown, Doing::Enrol, &note).await;
    }
    next
}

/// What pods of a namespace meet whose label names no ring, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// No policy is to cover them.
    Nothing,
    /// One that Kyverno is too old to execute.
    NotExecuted,
    /// One that Kyverno was not heard to have loaded.
    NotYetHeard,
    Covered,
}

impl Meets {
    /// `loaded`: whether Kyverno answers with the policy as it stands.
    fn observe(snapshot: &UnknownSnapshot, value: &str, loaded: bool) -> Self {
        if !snapshot.served || snapshot.asked.is_none() {
            return Self::Nothing;
        }
        let covered = snapshot.ours().is_some_and(|held| held.values.contains(value));
        if !snapshot.executed && covered {
            return Self::NotExecuted;
        }
        if covered && loaded { Self::Covered } else { Self::NotYetHeard }
    }

    fn text(self, policy: PolicyRef) -> String {
        const NOTHING: &str = "the images of its pods are not verified";
        match (self, policy.action()) {
            (Self::Nothing, _) => NOTHING.to_owned(),
            (Self::NotExecuted, _) => format!(
                "policy {policy} covers it, and this cluster's Kyverno is too old for that, so \
                 it is not known what its pods meet"
            ),
            (Self::NotYetHeard, _) => format!(
                "policy {policy} is to cover it. Kyverno was not heard to have loaded that, and \
                 until it has, {NOTHING}"
            ),
            (Self::Covered, Action::Enforce) => format!(
                "Kyverno refuses its pods, by policy {policy}, but for images that an exclusion \
                 list names"
            ),
            (Self::Covered, Action::Audit) => {
                format!("{NOTHING}: Kyverno reports them and refuses none, by policy {policy}")
            }
        }
    }
}
