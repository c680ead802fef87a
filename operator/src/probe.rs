//! Asks Kyverno whether it enforces a policy.
//!
//! The question is the server-side dry run of a Pod in the operator's own
//! namespace that names the policy in a label; the policy's gate rule stamps
//! its answer on the Pod. It goes the way of every pod and creates nothing.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use signingkeyring_core::{
    ledger::Ledger, names::RingName, policy_ref::PolicyRef, snapshot::Answer,
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::{
    context::Context,
    gate::{Response, Wanted},
    kyverno::marks,
    observe::{is_covered, unsettled_cover},
};

mod question;

use question::ask;

/// How often it is looked which policies are to be asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// How many policies are asked at once.
const CONCURRENCY: usize = 8;

/// Asks for ever: what is on its way every second, what rests in turn.
pub async fn run(context: &Context) {
    let mut last_at_rest = Instant::now();
    let mut turn = 0;
    loop {
        let now = Instant::now();
        let policies =
            if context.cache.kyverno_served() { policies(context) } else { BTreeSet::new() };
        let mut due = Vec::new();
        let mut at_rest = Vec::new();
        for policy in policies {
            match context.gate.due(policy, unsettled(context, policy), now) {
                Some(pause) if pause.is_zero() => due.push(policy),
                Some(_) => {}
                None => at_rest.push(policy),
            }
        }
        if !at_rest.is_empty() && now.duration_since(last_at_rest) >= context.settings.gate_interval
        {
            last_at_rest = now;
            turn += 1;
            due.extend(at_rest.get(turn % at_rest.len()));
        }
        let failed = ask_all(context, due).await;
        if failed {
            // One that is open or unreachable: ask the others at once.
            ask_all(context, at_rest).await;
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            () = context.gate.notified() => {}
        }
    }
}

/// The policies that ledgers name, those that hold rules whose ledgers are gone,
/// and those without rings, until it is heard that one that is gone was let go of.
fn policies(context: &Context) -> BTreeSet<PolicyRef> {
    let ours = context.cache.our_policies().map(|(policy, _)| policy);
    let covers = PolicyRef::UNKNOWN.into_iter().filter(|p| unsettled_cover(context, *p));
    context.cache.ledgers.policies().into_iter().chain(ours).chain(covers).collect()
}

/// Asks policies; returns whether one that had answered before does not any more.
async fn ask_all(context: &Context, policies: Vec<PolicyRef>) -> bool {
    stream::iter(policies)
        .map(|policy| ask_one(context, policy))
        .buffer_unordered(CONCURRENCY)
        .fold(false, |any, lost| async move { any || lost })
        .await
}

/// Whether something about a policy's rings is on its way.
fn unsettled(context: &Context, policy: PolicyRef) -> bool {
    if !policy.holds_rings() {
        return unsettled_cover(context, policy);
    }
    context.cache.ledgers.placed_in(policy).iter().any(|(ring, row)| {
        let Ok(ledger) = &row.ledger else { return is_behind(context, policy, ring) };
        in_progress(ledger)
            || !matches!(
                context.gate.answer(policy, ring.as_str()),
                Answer::Answered { mark, behind: Duration::ZERO, .. }
                    if mark.as_ref().map(|mark| &mark.state) == row.state.as_ref()
            )
    })
}

/// Whether Kyverno has not answered with what a policy says of a ring whose
/// ledger says nothing.
fn is_behind(context: &Context, policy: PolicyRef, ring: &RingName) -> bool {
    let stands = context.cache.policy(policy);
    let stands = stands.and_then(|policy| marks(&policy).0.remove(ring.as_str()));
    match context.gate.answer(policy, ring.as_str()) {
        Answer::Answered { mark, .. } => mark != stands,
        _ => true,
    }
}

fn in_progress(ledger: &Ledger) -> bool {
    ledger.pending().is_some() || ledger.rule.settings.leaving.is_some() || ledger.removed
}

async fn ask_one(context: &Context, policy: PolicyRef) -> bool {
    let placed = context.cache.ledgers.placed_in(policy);
    let stands = context.cache.policy(policy).map(|policy| marks(&policy)).unwrap_or_default();
    let wanted = placed.iter().filter_map(|(ring, row)| {
        let stands = stands.0.get(ring.as_str()).cloned();
        let covered = is_covered(context, ring.as_str(), row);
        Some((ring.clone(), Wanted { state: row.state.clone()?, stands, covered }))
    });
    let wanted = wanted.collect();
    let asked = Instant::now();
    let response = ask(context, policy).await;
    let took = asked.elapsed();
    let state = response.state();
    debug!(%policy, state, latency = ?took, "gate asked");
    let is_gone = !policy.holds_rings() && context.cache.policy(policy).is_none();
    if !is_gone {
        let asked_at = context.clock.now().as_second();
        context.metrics.gate_answered(&policy.to_string(), state, asked_at, took);
    }
    let failed = !matches!(response, Response::Marks(_));
    let before = context.gate.record(policy, response.clone(), asked, asked + took, &wanted);
    let changed = before.as_ref() != Some(&response);
    if changed {
        wake_for_covers(context, policy);
    }
    if is_gone {
        // That nobody answers is as it should be.
        return false;
    }
    if before.as_ref().map(Response::state) != Some(state) {
        match &response {
            Response::Marks(_) => info!(%policy, "the gate answers"),
            Response::Open => warn!(%policy, "the gate is open: images are not verified"),
            Response::Unreachable(text) => {
                warn!(%policy, text, "the gate is mute: pods are refused");
            }
            Response::Unreadable(text) => warn!(%policy, text, "the gate's answer is unreadable"),
        }
        // Kyverno may take policies again.
        context.policies.wake(&policy);
    }
    if changed && let Some(policy) = context.cache.policy(policy) {
        for ring in marks(&policy).0.keys() {
            context.rings.wake(ring);
        }
    }
    let turned = before.as_ref().map(Response::state) != Some(state);
    let said = |response: Option<&Response>, ring: &RingName| match response {
        Some(Response::Marks(marks)) => marks.0.get(ring.as_str()).cloned(),
        _ => None,
    };
    for (ring, row) in &placed {
        let in_progress = row.ledger.as_ref().is_ok_and(|ledger| in_progress(ledger));
        let now = said(Some(&response), ring);
        let acknowledged = now.is_some()
            && now.as_ref().map(|mark| &mark.state) == row.state.as_ref()
            && now.as_ref() == stands.0.get(ring.as_str());
        let changed = turned || (changed && failed) || now != said(before.as_ref(), ring);
        if changed || in_progress || (!failed && !acknowledged) {
            context.rings.wake(ring.as_str());
        }
    }
    failed && matches!(before, Some(Response::Marks(_)))
}

/// What was heard anew may have a value leave the policies without rings, or
/// have a ring go on that waits for that.
fn wake_for_covers(context: &Context, policy: PolicyRef) {
    if PolicyRef::UNKNOWN.into_iter().any(|policy| context.cache.policy(policy).is_some()) {
        context.wake_unknown();
    }
    if policy.holds_rings() {
        return;
    }
    for ring in context.cache.ledgers.rings() {
        let row = context.cache.ledgers.get(ring.as_str());
        let waits = row.is_some_and(|row| {
            let pending = row.table().and_then(Ledger::pending);
            pending.is_some_and(|pending| pending.acknowledged_at().is_none())
        });
        if waits {
            context.rings.wake(ring.as_str());
        }
    }
}
