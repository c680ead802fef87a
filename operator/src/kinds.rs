//! Looks from time to time whether Kyverno still works with the kinds of policies: it
//! ends them in steps, while the API goes on to serve them. A ring is to say so before
//! its next rotation is due, and with `--policy-kind=Auto` it moves.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    Resource, ResourceExt,
    api::PostParams,
    core::{DynamicObject, ObjectMeta, TypeMeta},
};
use serde_json::json;
use signingkeyring_core::{
    event::{Action as Doing, Occurrence},
    names,
    policy::{
        Inputs, Renderer,
        unknown::{CoverContent, Covering},
    },
    policy_ref::{Action, PolicyKind, PolicyRef},
    usable::{Preference, Unusable, UnusableKinds},
};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    context::Context,
    error::brief,
    kyverno::{self, resource},
    observe::probe_missing,
    telemetry,
    watches::wake_all,
};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(35);

/// So long no policy of a kind may have been heard of before it counts as not loaded.
const UNHEARD: Duration = Duration::from_secs(60);

/// Where a policy says how long Kyverno may take, whatever its kind.
const TIMEOUT: &str = "/spec/webhookConfiguration/timeoutSeconds";

/// Looks for ever.
pub(crate) async fn run(context: &Context) {
    loop {
        sleep(INTERVAL).await;
        look(context).await;
        count(context).await;
    }
}

/// From so many rings in ClusterPolicies on, their cost is said: each pod of the cluster
/// waits some hundredths of a millisecond for each ring, enrolled or not.
const MANY: usize = 300;

/// Counts what stands in policies of each kind, and says once where it is much.
async fn count(context: &Context) {
    for kind in PolicyKind::ALL {
        let (rings, first) = context.cache.ledgers.placed_in_kind(kind);
        context.metrics.placed_rings(kind.as_str(), rings);
        let Some(policy) = first.filter(|_| kind == PolicyKind::ClusterPolicy && rings >= MANY)
        else {
            continue;
        };
        if !context.announced.first_time("many rings in ClusterPolicies") {
            continue;
        }
        let note = format!(
            "{rings} rings stand in ClusterPolicies, which Kyverno evaluates for every pod of the \
             cluster, enrolled or not: with 10,000 rings some 0.3 s each. Rings in \
             ImageValidatingPolicies cost a pod the same however many there are: apply \
             manifests/probe and start the operator with --policy-kind=ImageValidatingPolicy, or \
             move rings one by one by spec.policy.kind"
        );
        warn!(rings, "{note}");
        let uid = context.cache.policy(policy).and_then(|policy| policy.uid());
        let on = telemetry::policy_reference(policy, uid.as_deref());
        context.events.publish(&on, true, Occurrence::ManyRings, Doing::Count, &note).await;
    }
}

/// Looks once.
pub(crate) async fn look(context: &Context) {
    let mut unusable = UnusableKinds::new();
    let mut missing = BTreeSet::new();
    for kind in PolicyKind::ALL {
        if !context.cache.policies.of(kind).is_executed() {
            missing.insert(kind);
            continue;
        }
        let why = match timeout(PATIENCE, is_frozen(context, kind)).await {
            Ok(Tried::Taken) => None,
            Ok(Tried::Refused(text)) => Some(Unusable::Frozen(text)),
            // No word on what was known.
            Ok(Tried::Untold) | Err(_) => {
                context.cache.usable.unusable().get(&kind).filter(|w| is_about_changes(w)).cloned()
            }
        };
        let why = why.or_else(|| is_unheard(context, kind).then_some(Unusable::NotLoaded));
        unusable.extend(why.map(|why| (kind, why)));
    }
    let before = context.cache.usable.unusable();
    if context.cache.usable.put(&unusable, missing) {
        for kind in PolicyKind::ALL.into_iter().filter(|k| before.get(k) != unusable.get(k)) {
            match unusable.get(&kind) {
                Some(why) => warn!(kind = kind.as_str(), ?why, "such policies are of no use"),
                None => info!(kind = kind.as_str(), "such policies are of use again"),
            }
        }
        wake_all(context);
    }
}

fn is_about_changes(why: &Unusable) -> bool {
    matches!(why, Unusable::Frozen(_))
}

/// What came of a change that was tried.
enum Tried {
    Taken,
    Refused(String),
    /// Nothing that would tell.
    Untold,
}

/// Tries to change a policy of this kind by a dry run: one that is there, or, where it
/// matters for rings that are yet to come, one that is not.
async fn is_frozen(context: &Context, kind: PolicyKind) -> Tried {
    let mut ours = context.cache.our_policies().filter(|(policy, _)| policy.kind() == kind);
    let (replaces, object) = match ours.next() {
        Some((_, found)) => (true, changed(found.whole())),
        None if context.settings.policy_kind.preference() == Preference::Auto => {
            (false, anew(context, kind))
        }
        None => return Tried::Untold,
    };
    let api = kyverno::api(context.client.clone(), &resource(kind));
    let dry_run = PostParams { dry_run: true, field_manager: Some(names::MANAGER.to_owned()) };
    let name = object.meta().name.clone().unwrap_or_default();
    let result = if replaces {
        api.replace(&name, &dry_run, &object).await
    } else {
        api.create(&dry_run, &object).await
    };
    match result {
        Ok(_) => Tried::Taken,
        Err(error) if is_refusal(&error) => {
            Tried::Refused(brief(&error).chars().take(500).collect())
        }
        Err(error) => {
            debug!(kind = kind.as_str(), %error, "a change could not be tried");
            Tried::Untold
        }
    }
}

/// Whether somebody refused the change as such: admission, the schema, or the API server
/// that does not take the verb any more.
fn is_refusal(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let denied =
        status.message.contains("denied the request") || status.message.contains("denied request");
    denied || matches!(status.code, 405 | 410 | 422)
}

/// A policy that gives Kyverno another second.
fn changed(mut object: DynamicObject) -> DynamicObject {
    if let Some(place) = object.data.pointer_mut(TIMEOUT)
        && let Some(seconds) = place.as_u64()
    {
        *place = json!(seconds.saturating_sub(1).max(1));
    }
    object
}

/// A policy that the operator might write.
fn anew(context: &Context, kind: PolicyKind) -> DynamicObject {
    let policy = PolicyRef::unknown(Action::Audit).of_kind(kind);
    let questions = context.cache.questions.uid();
    let inputs = Inputs {
        excluded: &[],
        operator_namespace: &context.settings.namespace,
        probe_namespace: &context.settings.probe_namespace,
        enrolment_label: &context.settings.enrolment_label,
        questions: questions.as_deref(),
        lists: None,
        now: context.clock.now(),
    };
    let renderer = Renderer::new(policy, inputs);
    // No namespace has this label.
    let values = ["none".to_owned()].into();
    let mark = renderer.cover_mark(&values, 0);
    let whole = renderer.cover_whole(&values, &mark);
    let rendered = renderer.render_cover(&CoverContent { values, mark, whole });
    DynamicObject {
        types: Some(TypeMeta {
            api_version: kind.api_version().to_owned(),
            kind: kind.as_str().to_owned(),
        }),
        metadata: ObjectMeta {
            name: Some(policy.to_string()),
            annotations: Some(rendered.annotations),
            labels: Some(rendered.labels),
            ..ObjectMeta::default()
        },
        data: json!({"spec": rendered.spec}),
    }
}

/// Whether Kyverno has passed the questions to all policies of this kind for long, where
/// they can be asked.
fn is_unheard(context: &Context, kind: PolicyKind) -> bool {
    if !kind.has_question_kind() && probe_missing(context).is_some() {
        return false;
    }
    let ours = context.cache.our_policies().filter(|(policy, _)| policy.kind() == kind);
    let mut passed = ours.map(|(policy, _)| context.gate.passed_for(policy)).peekable();
    passed.peek().is_some() && passed.all(|held| held.is_some_and(|held| held >= UNHEARD))
}
