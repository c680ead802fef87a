//! Any history of events, with crashes between any two writes and with stale
//! passes of a second replica, breaks no invariant and comes to rest.

use crate::world::{RING, World, pipeline};
use proptest::prelude::*;
use signingkeyring_core::{
    ledger::State,
    policy_ref::{Action as RuleAction, PolicyKind},
    snapshot::{Layout, Revoked},
};

#[derive(Clone, Debug)]
enum Event {
    Rotate(u8),
    Keep(u32),
    Pipeline(u8, bool),
    Consent(u8, bool),
    DeleteSecret(u8),
    /// A pipeline's namespace is being deleted, and consent goes first.
    EndNamespace(u8),
    Audit(bool),
    /// Another kind of policy is asked for.
    Kind(PolicyKind),
    Kyverno(bool),
    Revoke(u32),
    Standby(bool),
    Suspend(bool),
    /// The ring is written as its manifest has it: without finalizer and mark.
    Replace,
    Sync,
    Load,
    Ask,
    Tick(i64),
    /// The clock is set forward or back, and the operator starts.
    Clock(i64),
    Pass,
    Crash(usize),
    /// A pass planned now and executed after the next event.
    Stale,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..6u8).prop_map(Event::Rotate),
        1 => (1..6u32).prop_map(Event::Keep),
        1 => (1..4u8, any::<bool>()).prop_map(|(p, there)| Event::Pipeline(p, there)),
        1 => (1..4u8, any::<bool>()).prop_map(|(p, given)| Event::Consent(p, given)),
        1 => (1..4u8).prop_map(Event::DeleteSecret),
        1 => (1..4u8).prop_map(Event::EndNamespace),
        1 => any::<bool>().prop_map(Event::Audit),
        1 => prop::sample::select(&PolicyKind::ALL[..]).prop_map(Event::Kind),
        1 => any::<bool>().prop_map(Event::Kyverno),
        1 => (1..6u32).prop_map(Event::Revoke),
        1 => any::<bool>().prop_map(Event::Standby),
        1 => any::<bool>().prop_map(Event::Suspend),
        1 => Just(Event::Replace),
        3 => Just(Event::Sync),
        3 => Just(Event::Load),
        4 => Just(Event::Ask),
        3 => (1..12i64).prop_map(Event::Tick),
        1 => (-900..900i64).prop_map(Event::Clock),
        6 => Just(Event::Pass),
        2 => (0..3usize).prop_map(Event::Crash),
        2 => Just(Event::Stale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_history_settles(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        let mut asked = std::collections::BTreeSet::new();
        let mut stale = None;
        for event in events {
            let pending_stale = stale.take();
            match event {
                Event::Rotate(token) => {
                    asked.insert(token);
                    world.ring_mut().token = Some(format!("{RING}-{token}"));
                }
                Event::Keep(keep) => world.ring_mut().keep = keep,
                Event::Pipeline(number, true) => {
                    world.ring_mut().pipelines.insert(pipeline(number), Layout::Cosign);
                }
                Event::Pipeline(number, false) => {
                    world.ring_mut().pipelines.remove(&pipeline(number));
                }
                Event::Consent(number, true) => { world.forbidden.remove(&pipeline(number)); }
                Event::Consent(number, false) => { world.forbidden.insert(pipeline(number)); }
                Event::DeleteSecret(number) => { world.secrets.remove(&pipeline(number)); }
                Event::EndNamespace(number) => world.end_namespace(&pipeline(number)),
                Event::Audit(true) => world.ring_mut().action = RuleAction::Audit,
                Event::Audit(false) => world.ring_mut().action = RuleAction::Enforce,
                Event::Kind(kind) => world.ring_mut().kind = kind,
                Event::Revoke(number) => {
                    world.ring_mut().revoked.push(Revoked::Version(number));
                }
                Event::Standby(on) => world.ring_mut().standby = on,
                Event::Suspend(on) => world.ring_mut().suspend = on,
                Event::Replace => {
                    world.ring_mut().finalizer = false;
                    world.recorded = None;
                }
                Event::Kyverno(up) => world.kyverno_up = up,
                Event::Sync => world.sync_policies(),
                Event::Load => world.load(),
                Event::Ask => world.ask(),
                Event::Tick(seconds) => world.tick(seconds),
                Event::Clock(seconds) => {
                    world.tick(seconds);
                    world.restart();
                }
                Event::Pass => world.pass(usize::MAX),
                Event::Crash(after) => {
                    world.pass(after);
                    world.restart();
                }
                Event::Stale => {
                    let sequence = world.ledger.as_ref().map(|ledger| ledger.sequence);
                    stale = Some((sequence, world.plan().unwrap().actions));
                }
            }
            if let Some((sequence, actions)) = pending_stale {
                for action in &actions {
                    world.execute_from(sequence, action);
                }
            }
        }

        world.kyverno_up = true;
        world.forbidden.clear();
        world.ring_mut().suspend = false;
        // Where a namespace ends, the ring rests without it.
        prop_assert!(world.settle(), "it does not settle: {:?}", world.plan().map(|p| p.actions));
        world.namespaces_are_created_anew();
        prop_assert!(world.settle(), "it does not settle: {:?}", world.plan().map(|p| p.actions));

        // Exactly the newest versions that signed are accepted, less those
        // that were revoked, and one that stands by where one is asked for.
        let ring = world.ring.as_ref().unwrap();
        let ledger = world.ledger.as_ref().unwrap();
        let mut expected: Vec<u32> = ledger
            .versions
            .iter()
            .rev()
            .filter(|v| v.has_signed())
            .take(ring.keep as usize)
            .filter(|v| !ring.revoked.contains(&Revoked::Version(v.number)))
            .map(|v| v.number)
            .collect();
        let standby = ledger.versions.iter().find(|v| v.state() == State::Standby);
        prop_assert_eq!(standby.is_some(), ring.standby);
        expected.extend(standby.map(|v| v.number));
        expected.sort_unstable_by(|a, b| b.cmp(a));
        let accepted: Vec<u32> = ledger.accepted().map(|v| v.number).collect();
        prop_assert_eq!(accepted, expected);
        let signing = ledger.versions.iter().rev().find(|v| v.has_signed());
        prop_assert_eq!(signing.map(|v| v.state()), Some(State::Current));

        // Nothing is to happen in the future.
        let latest = world.now.checked_add(jiff::SignedDuration::from_mins(5)).unwrap();
        for version in &ledger.versions {
            let times = [Some(version.created_at), version.acknowledged_at(), version.activated_at()];
            prop_assert!(times.into_iter().flatten().all(|time| time <= latest));
        }

        // At most one version for the birth, one for each request and for each
        // that was taken out, and one that stands by each time it is asked for.
        let spare = world.standbys + ring.revoked.len();
        prop_assert!(world.minted as usize <= 1 + asked.len() + spare);
        prop_assert!(world.key_secrets.len() <= usize::from(ring.standby) + 1);

        // Exactly the pipelines asked for hold the key that signs.
        let current = ledger.current().unwrap().fingerprint.clone();
        let wanted: Vec<_> = world.ring.as_ref().unwrap().pipelines.keys().cloned().collect();
        prop_assert_eq!(&world.secrets.keys().cloned().collect::<Vec<_>>(), &wanted);
        prop_assert!(world.secrets.values().all(|held| *held == current));
        prop_assert_eq!(ledger.publications.iter().cloned().collect::<Vec<_>>(), wanted);

        // It remembers what a replacement took away.
        prop_assert!(ring.finalizer);
        prop_assert_eq!(world.recorded.as_ref(), Some(&ledger.high_water()));

        // And it stays quiet.
        let writes = world.writes;
        for _ in 0..30 {
            world.sync_policies();
            world.load();
            world.ask();
            world.pass(usize::MAX);
            world.tick(7);
        }
        prop_assert_eq!(world.writes, writes);
    }
}
