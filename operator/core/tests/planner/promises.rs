//! Every condition keeps what it promises, and nothing is blocked without a way out:
//! a state for each reason, and any history of events.

use std::collections::BTreeSet;

use proptest::prelude::*;
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    policy_ref::Action as RuleAction,
    promise::Promise,
    snapshot::{Layout, Revoked},
};

use crate::world::{ENFORCE, Obstacle, World, pipeline};

mod states;

use states::states;

/// More than anybody has to do one after the other.
const MOST_ACTS: usize = 8;

fn is_good(condition: Option<&Condition>, kind: Kind) -> bool {
    match kind {
        Kind::Reconciling | Kind::Stalled => condition.is_none(),
        Kind::RevocationsApplied => condition.is_none_or(|c| c.status == Status::True),
        _ => condition.is_some_and(|c| c.status == Status::True),
    }
}

/// Follows the first way that a condition shows until the ring is ready, or gone.
fn gets_out(mut world: World) -> Result<(), String> {
    for _ in 0..MOST_ACTS {
        come_to_rest(&mut world);
        let Some(report) = world.report() else { return Ok(()) };
        let said = everything(&world);
        let ready = &report.conditions[0];
        let ways = report.promises.iter().find_map(|promise| match promise {
            Promise::After(ways) => ways.first(),
            _ => None,
        });
        match ways {
            Some(way) => way.iter().try_for_each(|act| world.obey(act, &said))?,
            None if ready.status == Status::True => return Ok(()),
            None => break,
        }
    }
    Err(format!("nothing leads on: {:?}", world.report().map(|report| report.conditions)))
}

/// Nobody does anything any more, and Kyverno was asked since.
fn come_to_rest(world: &mut World) {
    world.settle();
    world.load();
    world.ask();
}

/// All that is said.
fn everything(world: &World) -> String {
    let conditions = world.report().map(|report| report.conditions).unwrap_or_default();
    conditions.into_iter().map(|c| c.message + "\n").collect()
}

/// What a state says that is not so.
fn broken(world: &World) -> Vec<String> {
    let Some(report) = world.report() else { return Vec::new() };
    let (said, mut broken) = (everything(world), Vec::new());
    if said.contains("  ") {
        broken.push(format!("it is torn apart by spaces: {said}"));
    }
    if ["about to be minted", "is being minted"].iter().any(|words| said.contains(words)) {
        let mut world = world.clone();
        let minted = world.minted;
        come_to_rest(&mut world);
        if world.minted == minted {
            broken.push(format!("nothing is minted: {said}"));
        }
    }
    for (condition, promise) in report.conditions.iter().zip(&report.promises) {
        let kind = condition.kind;
        let after = |mut world: World| {
            come_to_rest(&mut world);
            let Some(report) = world.report() else { return (true, None, world) };
            let mut said = report.conditions.into_iter().zip(report.promises);
            let now = said.find(|(condition, _)| condition.kind == kind);
            (is_good(now.as_ref().map(|(condition, _)| condition), kind), now, world)
        };
        let mut fails = |why: String| broken.push(format!("{why}: {condition:?}"));
        match promise {
            Promise::Nothing if is_good(Some(condition), kind) => {}
            Promise::Nothing => fails("it promises nothing".into()),
            Promise::Itself => {
                let mut world = world.clone();
                // The others do their part.
                (world.kyverno_up, world.stuck) = (true, None);
                world.rid_of(Obstacle::goes_by_itself);
                let (good, now, _) = after(world);
                // These say of one thing at a time.
                let of_another = [Kind::Ready, Kind::Reconciling].contains(&kind)
                    && now.as_ref().is_some_and(|(now, _)| now.reason != condition.reason);
                if !good && !of_another {
                    fails(format!("it does not go by itself, but comes to {now:?}"));
                }
            }
            Promise::After(ways) if ways.is_empty() => fails("it knows no way".into()),
            Promise::After(ways) => {
                for way in ways {
                    let mut world = world.clone();
                    if let Err(why) = way.iter().try_for_each(|act| world.obey(act, &said)) {
                        fails(why);
                        continue;
                    }
                    let (good, now, world) = after(world);
                    let as_before = |(now, next): (Condition, Promise)| {
                        now.reason == condition.reason && next == *promise
                    };
                    let moved = !now.is_some_and(as_before);
                    if !good && !moved {
                        fails(format!("after {way:?} it is as before"));
                    } else if let Err(why) = gets_out(world) {
                        fails(format!("after {way:?} {why}"));
                    }
                }
            }
        }
    }
    broken
}

/// What the operator says where there is nothing to report on.
const ELSEWHERE: [Reason; 1] = [Reason::SpecUnreadable];

#[test]
fn every_reason_keeps_its_promise() {
    let (mut told, mut wrong) = (BTreeSet::from(ELSEWHERE.map(Reason::as_str)), Vec::new());
    for (name, world) in states() {
        for condition in world.report().into_iter().flat_map(|report| report.conditions) {
            told.insert(condition.reason.as_str());
        }
        wrong.extend(broken(&world).into_iter().map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let untold: Vec<_> = Reason::ALL.iter().filter(|r| !told.contains(r.as_str())).collect();
    assert!(untold.is_empty(), "no state here gives {untold:?}");
}

/// What befalls a ring in the middle of whatever it is doing.
#[derive(Clone, Debug)]
enum Event {
    Rotate(u8),
    Pipeline(u8, bool),
    Withdraw(u8),
    EndNamespace(u8),
    Fix(u8),
    Audit(bool),
    KyvernoGoes,
    Revoke(u32),
    Standby(bool),
    Suspend(bool),
    Delete,
    Unenrol,
    LoseLedger,
    Stuck,
    Restart,
    Pass(usize),
    Sync,
    Load,
    Ask,
    Tick(i64),
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    prop_oneof![
        3 => (0..4u8).prop_map(Rotate),
        1 => (1..3u8, any::<bool>()).prop_map(|(p, there)| Pipeline(p, there)),
        1 => (1..3u8).prop_map(Withdraw),
        1 => (1..3u8).prop_map(EndNamespace),
        1 => (1..3u8).prop_map(Fix),
        1 => any::<bool>().prop_map(Audit),
        1 => Just(KyvernoGoes),
        2 => (1..5u32).prop_map(Revoke),
        1 => any::<bool>().prop_map(Standby),
        1 => any::<bool>().prop_map(Suspend),
        1 => Just(Delete),
        1 => Just(Unenrol),
        1 => Just(LoseLedger),
        1 => Just(Stuck),
        1 => Just(Restart),
        6 => (1..4usize).prop_map(Pass),
        3 => Just(Sync),
        3 => Just(Load),
        4 => Just(Ask),
        3 => (1..20i64).prop_map(Tick),
    ]
}

impl Event {
    fn befalls(self, world: &mut World) {
        if world.ring.is_none() {
            return;
        }
        match self {
            Self::Rotate(token) => world.ring_mut().token = Some(token.to_string()),
            Self::Pipeline(number, true) => {
                world.ring_mut().pipelines.insert(pipeline(number), Layout::Cosign);
            }
            Self::Pipeline(number, false) => {
                world.ring_mut().pipelines.remove(&pipeline(number));
            }
            Self::Withdraw(number) => {
                world.forbidden.insert(pipeline(number));
            }
            Self::EndNamespace(number) => world.end_namespace(&pipeline(number)),
            Self::Fix(number) if world.secrets.contains_key(&pipeline(number)) => {
                world.fixed.insert(pipeline(number));
            }
            Self::Fix(_) => {}
            Self::Audit(true) => world.ring_mut().action = RuleAction::Audit,
            Self::Audit(false) => world.ring_mut().action = RuleAction::Enforce,
            Self::KyvernoGoes => world.kyverno_up = false,
            // One that there is: what comes of others is not known before.
            Self::Revoke(number) => {
                if world.ledger.as_ref().is_some_and(|l| l.by_number(number).is_some()) {
                    world.ring_mut().revoked.push(Revoked::Version(number));
                }
            }
            Self::Standby(on) => world.ring_mut().standby = on,
            Self::Suspend(on) => world.ring_mut().suspend = on,
            // Without a finalizer it is gone at once.
            Self::Delete if !world.ring_mut().finalizer => world.ring = None,
            Self::Delete => world.ring_mut().deleting = true,
            Self::Unenrol => world.enrolled.clear(),
            Self::LoseLedger => {
                let lost = world.ledger.take();
                world.backup = lost.or(world.backup.take());
            }
            Self::Stuck => world.stuck = Some(ENFORCE),
            Self::Restart => world.restart(),
            Self::Pass(actions) => world.pass(actions),
            Self::Sync => world.sync_policies(),
            Self::Load => world.load(),
            Self::Ask => world.ask(),
            Self::Tick(seconds) => world.tick(seconds),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn in_the_middle_of_anything_too(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        events.into_iter().for_each(|event| event.befalls(&mut world));
        let wrong = broken(&world);
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}
