//! Asks Kyverno whether it enforces a policy.
//!
//! The question is the server-side dry run of a `GateQuestion` in the operator's
//! own namespace that has the policy's name; the policy's gate rule stamps its
//! answer on it. It takes the way of every pod to Kyverno, nothing that is asked
//! of pods stops it, and it creates nothing.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use signingkeyring_core::{
    ledger::Ledger, names::RingName, policy_ref::PolicyRef, snapshot::Answer,
};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    context::Context,
    gate::{Response, Wanted},
    kyverno::{asked_by, is_ours, marks},
    observe::{is_covered, unsettled_cover},
};

mod question;
mod turns;
mod webhooks;

use question::ask;
use turns::Turns;
use webhooks::Webhooks;

/// How often it is looked which policies are to be asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks for ever: what is on its way every second, what rests in turn.
pub async fn run(context: &Context) {
    let webhooks = Webhooks::default();
    let mut asking = FuturesUnordered::new();
    let mut turns = Turns::default();
    let mut last_at_rest = Instant::now();
    let mut turn = 0;
    let mut next_look = Instant::now();
    loop {
        tokio::select! {
            Some((policy, lost)) = asking.next() => {
                turns.answered(policy);
                if lost {
                    // One that is open or unreachable: ask the others at once.
                    let (_, at_rest) = due(context, Instant::now());
                    turns.want(at_rest);
                }
            }
            () = sleep_until(next_look) => {
                next_look = Instant::now() + INTERVAL;
                let (due, at_rest) = due(context, Instant::now());
                turns.want(due);
                if last_at_rest.elapsed() >= context.settings.gate_interval && !at_rest.is_empty() {
                    last_at_rest = Instant::now();
                    turn += 1;
                    turns.want(at_rest.get(turn % at_rest.len()).copied());
                }
            }
            () = context.gate.notified() => next_look = Instant::now(),
        }
        while let Some(policy) = turns.next(Instant::now()) {
            let webhooks = &webhooks;
            asking.push(async move { (policy, ask_one(context, webhooks, policy).await) });
        }
    }
}

/// The policies that are to be asked now, and those that rest.
fn due(context: &Context, now: Instant) -> (Vec<PolicyRef>, Vec<PolicyRef>) {
    let (mut due, mut at_rest) = (Vec::new(), Vec::new());
    let policies = if context.cache.kyverno_served() { policies(context) } else { BTreeSet::new() };
    for policy in policies {
        match context.gate.due(policy, unsettled(context, policy), now) {
            Some(pause) if pause.is_zero() => due.push(policy),
            Some(_) => {}
            None => at_rest.push(policy),
        }
    }
    (due, at_rest)
}

/// The policies that ledgers name, those that hold rules whose ledgers are gone,
/// and those without rings, until it is heard that one that is gone was let go of.
fn policies(context: &Context) -> BTreeSet<PolicyRef> {
    let ours = context.cache.our_policies().map(|(policy, _)| policy);
    let covers = PolicyRef::UNKNOWN.into_iter().filter(|p| unsettled_cover(context, *p));
    let policies = context.cache.ledgers.policies().into_iter().chain(ours).chain(covers);
    let Some(questions) = context.cache.questions.uid() else { return BTreeSet::new() };
    policies.filter(|policy| can_answer(context, *policy, &questions)).collect()
}

/// Whether the policy as it stands answers to questions of this kind. One that
/// was written before them, by an older operator, does not, and that would look
/// as if Kyverno had not loaded it.
fn can_answer(context: &Context, policy: PolicyRef, questions: &str) -> bool {
    let object = context.cache.policy(policy);
    object.is_none_or(|object| !is_ours(&object) || asked_by(&object) == Some(questions))
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

/// Asks a policy; returns whether it had answered before and does not any more.
async fn ask_one(context: &Context, webhooks: &Webhooks, policy: PolicyRef) -> bool {
    let placed = context.cache.ledgers.placed_in(policy);
    let stands = context.cache.policy(policy).map(|policy| marks(&policy)).unwrap_or_default();
    let wanted = placed.iter().filter_map(|(ring, row)| {
        let stands = stands.0.get(ring.as_str()).cloned();
        let covered = is_covered(context, ring.as_str(), row);
        Some((ring.clone(), Wanted { state: row.state.clone()?, stands, covered }))
    });
    let wanted = wanted.collect();
    let asked = Instant::now();
    let response = ask(context, webhooks, policy).await;
    let took = asked.elapsed();
    let state = response.state();
    debug!(%policy, state, latency = ?took, "gate asked");
    let is_gone = !policy.holds_rings() && context.cache.policy(policy).is_none();
    if !is_gone {
        let asked_at = context.clock.now().as_second();
        context.metrics.gate_answered(&policy.to_string(), state, asked_at, took);
    }
    let failed = !matches!(response, Response::Marks(_));
    let answered = asked + took;
    let Ok(before) = context.gate.record(policy, response.clone(), asked, answered, &wanted) else {
        return false;
    };
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
            Response::Silent(why) => {
                warn!(%policy, ?why, "the gate is silent: a question passed without an answer");
            }
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
