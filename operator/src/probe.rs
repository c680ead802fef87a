//! Asks Kyverno whether it enforces a policy.
//!
//! The question is the server-side dry run of an object that only the policy takes
//! an interest in. It takes the way of every pod to Kyverno, nothing that is asked
//! of pods stops it, and it creates nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use signingkeyring_core::{names::RingName, policy_ref::PolicyRef, snapshot::Answer};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::{
    cache::Outline,
    context::Context,
    gate::{Group, Heard, PATIENCE, Response, State, Turn, Wanted, group},
    kyverno::{Object, asked_by, is_ours, marks},
    observe::{is_covered, unsettled_cover},
};

mod herald;
mod question;
mod turns;
mod webhooks;

use herald::Herald;
use question::ask;
use turns::Turns;
use webhooks::Webhooks;

/// How often it is looked whether somebody is to be asked.
const TICK: Duration = Duration::from_millis(50);

/// An answer that took this long is a slow one.
const SLOW: Duration = Duration::from_secs(2);

/// How often it is looked which policies there are. What changes about one is said.
const SWEEP: Duration = Duration::from_secs(2);

/// Asks for ever: what is on its way every second, what rests in turn, and never more
/// than Kyverno has time for.
pub async fn run(context: &Context) {
    let webhooks = Webhooks::default();
    let mut asking = FuturesUnordered::new();
    let start = Instant::now();
    let mut turns = Turns::new(context.settings.gate_interval, start);
    let mut herald = Herald::new(start);
    let mut next_sweep = start;
    loop {
        tokio::select! {
            Some(asked) = asking.next() => take_in(context, &mut turns, &mut herald, asked),
            policies = context.gate.wanted() => {
                policies.into_iter().for_each(|policy| settle(context, &mut turns, policy));
            }
            () = sleep(TICK) => {}
        }
        let now = Instant::now();
        if now >= next_sweep {
            next_sweep = now + SWEEP;
            sweep(context, &mut turns);
        }
        while let Some((ring, is_open)) = herald.next(now) {
            if is_open {
                context.rings.wake_soon(&ring);
            } else {
                context.rings.wake(&ring);
            }
        }
        for (of, at) in context.gate.faults() {
            if at <= now {
                turns.ask_one_of(of, None);
            }
        }
        for policy in turns.hanging(now) {
            turns.ask_one_of(group(policy), Some(policy));
        }
        while let Some(policy) = turns.next(now) {
            let (webhooks, members) = (&webhooks, turns.members(group(policy)));
            asking.push(ask_one(context, webhooks, policy, members));
        }
    }
}

/// What a question has come to.
struct Asked {
    policy: PolicyRef,
    took: Duration,
    /// It failed, which is not believed yet.
    is_suspect: bool,
    turn: Turn,
    /// The rings that have something else to say by now, and do not wait for it.
    tell: Vec<String>,
}

/// Takes in what a question has come to: who is asked because of it, and who is told.
fn take_in(context: &Context, turns: &mut Turns, herald: &mut Herald, asked: Asked) {
    let Asked { policy, took, is_suspect, turn, tell } = asked;
    turns.answered(policy, took);
    settle(context, turns, policy);
    let of = group(policy);
    if is_suspect {
        turns.ask_one_of(of, Some(policy));
    }
    let opened = context.gate.answer(policy, "").is_open(policy.kind());
    tell.into_iter().for_each(|ring| herald.tell(ring, opened));
    let members = || turns_of(turns, of);
    match turn {
        Turn::None => {}
        Turn::Fails => {
            for member in members() {
                report_fault(context, member);
                rings_of(context, member).into_iter().for_each(|ring| herald.tell(ring, opened));
                // None of them is asked on its own any more.
                settle(context, turns, member);
            }
        }
        // What they say is told as each is asked.
        Turn::Recovers => {
            members().into_iter().for_each(|member| settle(context, turns, member));
        }
    }
}

fn turns_of(turns: &Turns, of: Group) -> Vec<PolicyRef> {
    turns.known().filter(|policy| group(*policy) == of).collect()
}

/// Says of a policy that it fails as all of its group do, whether it was asked or not.
fn report_fault(context: &Context, policy: PolicyRef) {
    if let Some(state) = context.gate.state(policy) {
        context.metrics.gate_says(&policy.to_string(), state);
    }
}

/// The rings that are placed in a policy, and those that it names.
fn rings_of(context: &Context, policy: PolicyRef) -> BTreeSet<String> {
    let placed = context.cache.ledgers.placed_in(policy).into_iter();
    let placed = placed.map(|(ring, _)| ring.to_string());
    let named = context.cache.policy(policy);
    let named = named.iter().flat_map(|object| marks(object).0.into_keys());
    placed.chain(named).collect()
}

/// Says when a policy is to be asked, if it is.
fn settle(context: &Context, turns: &mut Turns, policy: PolicyRef) {
    let now = Instant::now();
    if is_asked(context, policy) {
        turns.place(policy, context.gate.due(policy, unsettled(context, policy), now), now);
    } else {
        turns.forget(policy);
    }
}

/// Looks which policies there are to ask, and says how soon it shows what becomes of them.
fn sweep(context: &Context, turns: &mut Turns) {
    let there = policies(context);
    let gone: Vec<_> = turns.known().filter(|policy| !there.contains(policy)).collect();
    gone.into_iter().for_each(|policy| turns.forget(policy));
    for policy in there {
        if !turns.knows(policy) || !policy.holds_rings() {
            settle(context, turns, policy);
        }
    }
    let rings = context.cache.rings.len();
    context.metrics.gate_bounds(turns.round() + PATIENCE, Herald::bound(rings));
}

/// The policies that ledgers name, those that hold rules whose ledgers are gone,
/// and those without rings, until it is heard that one that is gone was let go of.
fn policies(context: &Context) -> BTreeSet<PolicyRef> {
    let ours = context.cache.our_policies().map(|(policy, _)| policy);
    let covers = PolicyRef::UNKNOWN.into_iter().filter(|p| unsettled_cover(context, *p));
    let policies = context.cache.ledgers.policies().into_iter().chain(ours).chain(covers);
    let questions = context.cache.questions.uid();
    policies.filter(|policy| can_answer(context, *policy, questions.as_deref())).collect()
}

/// Whether a policy is one of these.
fn is_asked(context: &Context, policy: PolicyRef) -> bool {
    let is_there = context.cache.policy(policy).is_some_and(|object| is_ours(&object))
        || !context.cache.ledgers.placed_in(policy).is_empty()
        || !policy.holds_rings() && unsettled_cover(context, policy);
    is_there && can_answer(context, policy, context.cache.questions.uid().as_deref())
}

/// Whether the policy as it stands answers to questions of this kind. One that
/// was written before them, by an older operator, does not, and that would look
/// as if Kyverno had not loaded it.
fn can_answer(context: &Context, policy: PolicyRef, questions: Option<&str>) -> bool {
    if !context.cache.policies.of(policy.kind()).is_executed() {
        return false;
    }
    if !policy.kind().has_question_kind() {
        return true;
    }
    let Some(questions) = questions else { return false };
    let object = context.cache.policy(policy);
    object.is_none_or(|object| !is_ours(&object) || asked_by(&object) == Some(questions))
}

/// Whether something about a policy's rings is on its way.
fn unsettled(context: &Context, policy: PolicyRef) -> bool {
    if !policy.holds_rings() {
        return unsettled_cover(context, policy);
    }
    context.cache.ledgers.placed_in(policy).iter().any(|(ring, ledger)| {
        if !ledger.is_sound {
            return is_behind(context, policy, ring);
        }
        ledger.in_progress()
            || !matches!(
                context.gate.answer(policy, ring.as_str()),
                Answer::Answered { mark, behind: Duration::ZERO, .. }
                    if mark.as_ref().is_some_and(|mark| mark.state == ledger.state)
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

/// Asks a policy, which is one of so many that are asked in the same way.
async fn ask_one(
    context: &Context,
    webhooks: &Webhooks,
    policy: PolicyRef,
    members: usize,
) -> Asked {
    let placed = context.cache.ledgers.placed_in(policy);
    let stands = context.cache.policy(policy).map(|policy| marks(&policy)).unwrap_or_default();
    let wanted = placed.iter().map(|(ring, ledger)| {
        let stands = stands.0.get(ring.as_str()).cloned();
        let covered = is_covered(context, ring.as_str(), ledger);
        (ring.clone(), Wanted { state: ledger.state.clone(), stands, covered })
    });
    let wanted = wanted.collect();
    let asked = Instant::now();
    let response = ask(context, webhooks, policy).await;
    let took = asked.elapsed();
    let what = format!("{response:?}");
    debug!(%policy, what, latency = ?took, "gate asked");
    let mut over = Asked { policy, took, is_suspect: false, turn: Turn::None, tell: Vec::new() };
    let times = (asked, asked + took);
    let Ok(heard) = context.gate.record(policy, response, times, members, &wanted) else {
        return over;
    };
    (over.is_suspect, over.turn) = (heard.is_suspect, heard.turn);
    let Some(now) = heard.now.clone().filter(|_| !heard.is_suspect) else { return over };
    let is_gone = !policy.holds_rings() && context.cache.policy(policy).is_none();
    if !is_gone {
        let asked_at = context.clock.now().as_second();
        let state = if is_slow(&now, took) { Some(State::Slow) } else { heard.state };
        if let Some(state) = state {
            context.metrics.gate_answered(&policy.to_string(), state, asked_at, took);
        }
    }
    if heard.before.as_ref() != Some(&now) {
        wake_for_covers(context, policy);
    }
    // That nobody answers for one that is gone is as it should be.
    if !is_gone {
        let stands = context.cache.policy(policy);
        over.tell = wake(context, policy, &heard, &placed, stands.as_deref());
    }
    over
}

/// Whether an answer took so long that a pod's would be felt.
fn is_slow(response: &Response, took: Duration) -> bool {
    matches!(response, Response::Marks(_)) && took >= SLOW
}

/// Wakes the rings that wait for what was heard, and returns the others that have
/// something else to say by now.
fn wake(
    context: &Context,
    policy: PolicyRef,
    heard: &Heard,
    placed: &[(RingName, Arc<Outline>)],
    stands: Option<&Object>,
) -> Vec<String> {
    let Some(now) = &heard.now else { return Vec::new() };
    let turned = heard.turned;
    if let Some(state) = heard.state.filter(|_| turned) {
        say(policy, state, now);
        // Kyverno may take policies again.
        context.policies.wake(&policy);
    }
    let stands = stands.map(marks).unwrap_or_default();
    let failed = !matches!(now, Response::Marks(_));
    let changed = heard.before.as_ref() != Some(now);
    let said = |response: Option<&Response>, ring: &str| match response {
        Some(Response::Marks(marks)) => marks.0.get(ring).cloned(),
        _ => None,
    };
    let is_news = |ring: &str| {
        turned || (changed && failed) || said(Some(now), ring) != said(heard.before.as_ref(), ring)
    };
    let mut tell = Vec::new();
    for (ring, ledger) in placed {
        let ring = ring.as_str();
        let mark = said(Some(now), ring);
        let acknowledged = mark.as_ref().is_some_and(|mark| mark.state == ledger.state)
            && mark.as_ref() == stands.0.get(ring);
        let is_on_its_way = ledger.is_sound && ledger.in_progress();
        if is_news(ring) && context.revoking.waits(ring) {
            context.rings.wake_urgently(ring);
        } else if is_on_its_way || !(failed || acknowledged) {
            context.rings.wake(ring);
        } else if is_news(ring) {
            tell.push(ring.to_owned());
        }
    }
    // Of those whose ledgers are lost only the marks tell that they are here.
    let is_placed = |ring: &String| placed.iter().any(|(placed, _)| placed.as_str() == ring);
    tell.extend(stands.0.into_keys().filter(|ring| !is_placed(ring) && is_news(ring)));
    tell
}

fn say(policy: PolicyRef, state: State, said: &Response) {
    match state {
        State::Answered => info!(%policy, "the gate answers"),
        State::Open => warn!(%policy, ?said, "the gate is open: images are not verified"),
        State::Silent => {
            warn!(%policy, ?said, "the gate is silent: a question passed without an answer");
        }
        State::Slow => warn!(%policy, ?said, "the gate is slow: no answer in time"),
        State::Mute => warn!(%policy, ?said, "the gate is mute: pods are refused"),
        State::Unreadable => warn!(%policy, ?said, "the gate's answer is unreadable"),
    }
}

/// What was heard anew may have a value leave the policies without rings, or
/// have a ring go on that waits for that.
fn wake_for_covers(context: &Context, policy: PolicyRef) {
    context.wake_covers();
    if policy.holds_rings() {
        return;
    }
    for ring in context.cache.ledgers.rings() {
        let ledger = context.cache.ledgers.outline(ring.as_str());
        if ledger.is_some_and(|ledger| ledger.awaits_kyverno) {
            context.rings.wake(ring.as_str());
        }
    }
}
