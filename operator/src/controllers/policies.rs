//! One pass over one policy: render it from the ledgers placed there and the
//! exclusion lists, compare, write.

use std::collections::{BTreeMap, BTreeSet};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::Value;
use signingkeyring_core::{
    images::Pattern,
    ledger::Exclusion,
    render::{self, Input, KeptRule, Rendered},
    snapshot::WriteFailure,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    act::policies as write,
    cache::{LedgerRow, WrittenPolicy, is_newer},
    context::Context,
    error::{Error, brief},
    exclusions,
    observe::is_ours,
    queue::Outcome,
    telemetry,
};

mod refusal;
mod rules;

use rules::{found_rules, kept, rendered_ledgers};

const NAME: &str = "policies";
const CONCURRENCY: usize = 4;

/// Works on policies for ever.
pub async fn run(context: &Context) {
    context.policies.run(CONCURRENCY, |policy| pass(context, policy)).await;
}

async fn pass(context: &Context, policy: String) -> Outcome {
    let start = Instant::now();
    let result = reconcile(context, &policy).await;
    let (outcome, word) = match result {
        Ok(outcome) => (outcome, "success"),
        Err(error @ Error::Conflict(_)) => {
            debug!(policy, %error, "starting over");
            (Outcome::Failed, error.category())
        }
        Err(error) => {
            warn!(policy, %error, "policy not written");
            remember_failure(context, &policy, &error);
            (Outcome::Failed, error.category())
        }
    };
    context.metrics.reconciled(NAME, word, start.elapsed());
    context.metrics.queue_depth(NAME, context.policies.depth());
    outcome
}

async fn reconcile(context: &Context, policy: &str) -> Result<Outcome, Error> {
    if !context.cache.kyverno_served() {
        return Ok(Outcome::Done);
    }
    let found = context.cache.policy(policy);
    let found = found.as_deref();
    let written = context.cache.written.get(policy);
    if let (Some(found), Some(written)) = (found, &written)
        && is_newer(&version(&written.stored), &version(found))
    {
        // The watch has yet to bring what this process wrote; it wakes us.
        return Ok(Outcome::Done);
    }
    let placed = context.cache.ledgers.placed_in(policy);
    if found.is_some_and(|found| !is_ours(found)) {
        warn_of_conflict(context, policy, &placed);
        return Ok(Outcome::Done);
    }
    let lists = exclusions::read(context);
    let kept = kept(context, found, written.as_ref());
    announce_orphans(context, policy, &placed, &kept).await;
    let ledgers = rendered_ledgers(context, &placed, &kept);
    let input = Input {
        policy,
        ledgers: ledgers.iter().map(|(ring, ledger)| (*ring, ledger.as_ref())).collect(),
        kept: kept.iter().map(|(ring, kept)| (ring.as_str(), kept.clone())).collect(),
        excluded: &lists.exclusions,
        operator_namespace: &context.settings.namespace,
        enrolment_label: &context.settings.enrolment_label,
        now: context.clock.now(),
    };
    let Some(wanted) = render::render(&input) else {
        return remove(context, policy, found).await;
    };
    if context.cache.written.measured(policy, refusal::size(&wanted.spec)) {
        wake_rings(context, &placed);
    }
    let before = found.map(found_rules).unwrap_or_default();
    let accepted = refusal::without_refused(context, &input, &before, &wanted);
    let held_back = accepted.ledgers.len() < input.ledgers.len();
    let Some(mut rendered) = render::render(&accepted) else {
        return Ok(Outcome::DoneFor(refusal::PAUSE));
    };
    let drift = drifted(found, written.as_ref());
    let outcome = exclusions::next_expiry(&lists, &placed, context.clock.now())
        .map_or(Outcome::Done, Outcome::DoneFor);
    let outcome = if held_back { Outcome::DoneFor(refusal::PAUSE) } else { outcome };
    if let Some(found) = found.filter(|found| holds(found, &rendered, written.as_ref())) {
        // Another replica wrote it, or the answer to our write was lost. What
        // was written before is not to stand in for it.
        let stored = found.clone();
        context.cache.written.stands(policy, WrittenPolicy { sent: rendered.spec, stored });
        if context.cache.written.fine(policy) {
            wake_rings(context, &placed);
        }
        return Ok(outcome);
    }
    let stored = match write::write(context, policy, found, &rendered, false).await {
        Ok(stored) => stored,
        Err(error) => {
            let Some(words) = refusal::words(&error) else { return Err(error) };
            let rest = refusal::write_the_rest(context, found, &accepted, &rendered, words).await?;
            let Some((rest, stored)) = rest else { return Err(error) };
            rendered = rest;
            stored
        }
    };
    info!(policy, rings = placed.len(), marks = %rendered.marks, "policy written");
    context.metrics.policy_written();
    if drift {
        context.metrics.drift_undone("ClusterPolicy");
        let on = telemetry::policy_reference(policy, stored.uid().as_deref());
        let note = "somebody else had edited or deleted this policy; it was restored";
        context.events.publish(&on, true, "PolicyRestored", "Restore", note).await;
    }
    if let Some(found) = found {
        exclusions::announce_expired(context, &lists, &placed, &skipped(&found.data)).await;
    }
    let written = WrittenPolicy { sent: rendered.spec, stored };
    context.cache.written.succeeded(policy, written);
    context.gate.poke();
    wake_rings(context, &placed);
    Ok(outcome)
}

fn version(policy: &DynamicObject) -> String {
    policy.resource_version().unwrap_or_default()
}

fn wake_rings(context: &Context, placed: &[(String, LedgerRow)]) {
    for (ring, _) in placed {
        context.rings.wake(ring);
    }
}

/// Whether the policy holds what was rendered. Where the API server makes
/// something else of it (a later Kyverno's defaults), what it made of our last
/// write counts, so that the two do not write against each other for ever.
fn holds(found: &DynamicObject, rendered: &Rendered, written: Option<&WrittenPolicy>) -> bool {
    let spec = &found.data["spec"];
    let same_spec = *spec == rendered.spec
        || written.is_some_and(|w| w.sent == rendered.spec && w.stored.data["spec"] == *spec);
    let has = |have: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
        want.iter().all(|(key, value)| have.get(key) == Some(value))
    };
    same_spec
        && has(found.annotations(), &rendered.annotations)
        && has(found.labels(), &rendered.labels)
}

/// Whether somebody else edited or deleted what this process wrote.
fn drifted(found: Option<&DynamicObject>, written: Option<&WrittenPolicy>) -> bool {
    match (found, written) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(found), Some(written)) => {
            let stored = &written.stored;
            found.data["spec"] != stored.data["spec"]
                || found.annotations() != stored.annotations()
                || found.labels() != stored.labels()
        }
    }
}

async fn remove(
    context: &Context,
    policy: &str,
    found: Option<&DynamicObject>,
) -> Result<Outcome, Error> {
    if let Some(found) = found {
        write::delete(context, found).await?;
        info!(policy, "policy deleted: no ring is left in it");
    }
    context.cache.written.forget(policy);
    let placed = context.cache.ledgers.placed_in(policy);
    if placed.is_empty() {
        context.gate.forget(policy);
        context.metrics.gate_gone(policy);
    }
    wake_rings(context, &placed);
    Ok(Outcome::Done)
}

fn warn_of_conflict(context: &Context, policy: &str, placed: &[(String, LedgerRow)]) {
    let failure = WriteFailure {
        refused: false,
        message: "an object of that name is not the operator's".to_owned(),
    };
    if !placed.is_empty() && context.cache.written.failed(policy, failure) {
        warn!(policy, "left alone: an object of that name is not the operator's");
        wake_rings(context, placed);
    }
}

fn remember_failure(context: &Context, policy: &str, error: &Error) {
    let Error::Api { source, .. } = error else { return };
    let message = brief(source);
    let failure = WriteFailure {
        refused: refusal::words(error).is_some(),
        message: refusal::shorten(&message),
    };
    if context.cache.written.failed(policy, failure) {
        wake_rings(context, &context.cache.ledgers.placed_in(policy));
    }
}

/// Says, once a process, that a rule stays although its ring or ledger is gone.
async fn announce_orphans(
    context: &Context,
    policy: &str,
    placed: &[(String, LedgerRow)],
    kept: &BTreeMap<String, KeptRule>,
) {
    let gone = placed
        .iter()
        .filter(|(ring, row)| {
            let removed = row.ledger.as_ref().is_ok_and(|ledger| ledger.removed);
            !removed && context.cache.ring(ring).is_none()
        })
        .map(|(ring, _)| (ring, "its SigningKeyRing is gone without having been torn down"));
    let lost = kept.keys().map(|ring| (ring, "its ledger cannot be read or is older"));
    let uid = context.cache.policy(policy).and_then(|policy| policy.uid());
    let on = telemetry::policy_reference(policy, uid.as_deref());
    for (ring, why) in gone.chain(lost) {
        if context.announced.first_time(&format!("{policy} {ring} {why}")) {
            warn!(policy, ring, why, "rule stays in force");
            let note = format!("the rule of ring {ring} stays in force: {why}");
            context.events.publish(&on, true, "RuleKept", "Keep", &note).await;
        }
    }
}

/// The image globs that a policy's rules skip.
fn skipped(policy: &Value) -> BTreeSet<String> {
    let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
    rules
        .filter_map(|rule| rule["verifyImages"][0]["skipImageReferences"].as_array())
        .flatten()
        .filter_map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

/// Whether an exclusion is among the skipped globs.
pub(crate) fn is_skipped(exclusion: &Exclusion, skipped: &BTreeSet<String>) -> bool {
    Pattern::parse(&exclusion.image)
        .is_ok_and(|pattern| pattern.spellings().iter().any(|glob| skipped.contains(glob)))
}
