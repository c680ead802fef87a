//! One pass over one policy: render it from the ledgers placed there and the
//! exclusion lists, compare, write.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::Value;
use signingkeyring_core::{
    high_water::{self, HighWater},
    images::Pattern,
    ledger::{Exclusion, Ledger},
    names,
    render::{self, Input, KeptRule, Rendered},
    snapshot::{Revoked, WriteFailure},
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    act::policies as write,
    cache::{LedgerRow, WrittenPolicy, is_newer},
    context::Context,
    error::{Error, brief},
    exclusions,
    keys::fingerprint_of,
    observe::{is_ours, marks, ring, witness},
    queue::Outcome,
    telemetry,
};

mod refusal;

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

/// The ledgers that speak for themselves. One that is older than what its
/// ring's object remembers is not to bring a revoked version back; and where a
/// ring is stalled, so that its ledger takes no revocation in, what its object
/// revokes is left out all the same.
fn rendered_ledgers<'a>(
    context: &Context,
    placed: &'a [(String, LedgerRow)],
    kept: &BTreeMap<String, KeptRule>,
) -> BTreeMap<&'a str, Cow<'a, Ledger>> {
    placed
        .iter()
        .filter(|(ring, _)| !kept.contains_key(ring))
        .filter_map(|(ring, row)| Some((ring.as_str(), row, row.table()?)))
        .filter(|(_, _, ledger)| !ledger.removed)
        .map(|(ring, row, ledger)| {
            let mut remembered = HighWater::default();
            if let Some(Ok(object)) = context.cache.ring(ring).as_deref().map(|ring| &ring.0) {
                for witness in witness::of_ring(object) {
                    remembered.raise(&witness.high_water);
                }
            }
            if row.ledger.is_ok() && ledger.knows(&remembered) {
                return (ring, Cow::Borrowed(ledger));
            }
            let revoked = revoked(context, ring);
            let named = ledger.versions.iter().filter(|v| revoked.iter().any(|r| r.names(v)));
            remembered.revoked.extend(named.map(|v| high_water::short(&v.fingerprint)));
            (ring, Cow::Owned(ledger.without(&remembered.revoked)))
        })
        .collect()
}

/// The rules that stay word for word, but for keys that the ring's object
/// revokes: those of rings whose ledger is gone or damaged, and those that a
/// newer state of a ledger than ours has written.
/// What this process last wrote stands in for a policy that was edited or
/// deleted.
fn kept(
    context: &Context,
    found: Option<&DynamicObject>,
    written: Option<&WrittenPolicy>,
) -> BTreeMap<String, KeptRule> {
    let mut kept = BTreeMap::new();
    let sources = [found, written.map(|written| &written.stored)];
    for source in sources.into_iter().flatten() {
        for (ring, rule) in found_rules(source) {
            let row = context.cache.ledgers.get(&ring);
            let ledger = row.as_ref().and_then(LedgerRow::table);
            if ledger.is_none_or(|ledger| ledger.rule.sequence < rule.mark.sequence) {
                let revoked = revoked(context, &ring);
                let accepts = |key: &str| !revoked.iter().any(|r| names_key(r, key, ledger));
                let rule = if revoked.is_empty() {
                    rule
                } else {
                    KeptRule { rule: render::narrowed(&rule.rule, accepts), ..rule }
                };
                kept.insert(ring, rule);
            }
        }
    }
    kept
}

/// What a ring's object revokes.
fn revoked(context: &Context, ring: &str) -> Vec<Revoked> {
    let found = context.cache.ring(ring);
    let object = found.as_deref().and_then(|ring| ring.0.as_ref().ok());
    object.map(|object| ring::revoked(&object.spec)).unwrap_or_default()
}

/// Whether a revocation means a public key. By number it needs the table.
fn names_key(revoked: &Revoked, key: &str, table: Option<&Ledger>) -> bool {
    let mut rows = table.into_iter().flat_map(|table| &table.versions);
    match revoked {
        Revoked::Fingerprint(named) => fingerprint_of(key).is_ok_and(|real| real == *named),
        Revoked::Version(_) => rows.any(|row| row.public_key == key && revoked.names(row)),
    }
}

/// The rules of rings as they stand in a policy.
fn found_rules(policy: &DynamicObject) -> BTreeMap<String, KeptRule> {
    let annotation = policy.annotations().get(names::ANNOTATION_HIGH_WATER);
    let rules = marks(policy).0.into_iter().filter_map(|(ring, mark)| {
        let rule = rule_of(&policy.data["spec"], &ring)?.clone();
        let high_water = witness::recorded(annotation, &ring).unwrap_or_default();
        Some((ring, KeptRule { mark, high_water, rule }))
    });
    rules.collect()
}

/// A ring's rule in a policy's spec.
fn rule_of<'a>(spec: &'a Value, ring: &str) -> Option<&'a Value> {
    spec["rules"].as_array()?.iter().find(|rule| rule["name"] == *ring)
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
