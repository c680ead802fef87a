//! Times in the future, which a clock that was ahead has left in a ledger.

use jiff::Timestamp;
use signingkeyring_core::{ledger::Change, plan::Action};

use crate::{
    cases::{actions, current, rotate, settled},
    world::World,
};

const HOUR: i64 = 3600;
const CORRECT: Action = Action::Commit(Change::CorrectTimes);

/// A ring whose second version was minted and activated while the clock was so
/// many seconds ahead.
fn after_a_jump(seconds: i64) -> World {
    let mut world = settled();
    world.ring_mut().every = Some(std::time::Duration::from_secs(100 * 3600));
    world.tick(seconds);
    world.restart();
    rotate(&mut world, "b");
    world.tick(-seconds);
    world.restart();
    world
}

/// The ledger's times, all of them.
fn times(world: &World) -> Vec<Timestamp> {
    let versions = world.ledger.as_ref().unwrap().versions.iter();
    let times = versions.flat_map(|v| [Some(v.created_at), v.acknowledged_at(), v.activated_at()]);
    times.flatten().collect()
}

#[test]
fn what_happened_in_the_future_happened_by_now_and_the_schedule_goes_on() {
    let mut world = after_a_jump(HOUR);
    let (state, before) = (world.ledger.as_ref().unwrap().rule_state(), times(&world));
    assert_eq!(actions(&world), [CORRECT]);
    world.pass(1);
    assert_ne!(actions(&world), [CORRECT], "once is enough");
    let now = world.now;
    let expected: Vec<Timestamp> = before.iter().map(|time| now.min(*time)).collect();
    assert_eq!(times(&world), expected);
    assert_ne!(times(&world), before);
    // The policies do not show it, so nobody has to be asked again.
    assert_eq!(world.ledger.as_ref().unwrap().rule_state(), state);
    let writes = world.writes;
    assert!(world.settle());
    assert_eq!((world.writes, current(&world)), (writes, 2));
    let due = world.report().unwrap().next_rotation.unwrap();
    let hours = due.duration_since(now).as_hours();
    assert!((90..=100).contains(&hours), "due after {hours} h");
    world.tick(due.duration_since(world.now).as_secs());
    assert!(world.settle());
    assert_eq!(current(&world), 3);
}

#[test]
fn clocks_that_differ_by_a_little_are_none_of_it() {
    let mut world = after_a_jump(240);
    assert_eq!(actions(&world), []);
    assert!(world.settle());
    assert_ne!(actions(&after_a_jump(400)), []);
}

#[test]
fn a_rotation_goes_on_where_the_clock_is_set_right() {
    let mut world = settled();
    world.tick(HOUR);
    world.restart();
    world.ring_mut().token = Some("b".to_owned());
    world.pass(1);
    assert!(world.ledger.as_ref().unwrap().pending().is_some());
    world.tick(-HOUR);
    world.restart();
    assert_eq!(actions(&world), [CORRECT]);
    assert!(world.settle());
    assert_eq!((current(&world), world.minted), (2, 2));
    assert!(times(&world).iter().all(|time| *time <= world.now));
}

#[test]
fn a_revocation_comes_first_and_a_suspended_ring_is_corrected_too() {
    let mut world = after_a_jump(HOUR);
    world.ring_mut().suspend = true;
    assert_eq!(actions(&world), [CORRECT]);
    world.ring_mut().revoked.push(signingkeyring_core::snapshot::Revoked::Version(1));
    assert!(matches!(&actions(&world)[..], [Action::Commit(Change::Revoke { .. })]));
    assert!(world.settle());
    assert!(times(&world).iter().all(|time| *time <= world.now));
}

#[test]
fn the_ends_of_time_are_no_reason_to_panic() {
    for time in [Timestamp::MIN, Timestamp::MAX] {
        for now in [Timestamp::MIN, Timestamp::MAX] {
            let mut world = settled();
            // The longest that a ring can write.
            let every = u64::from(u32::MAX) * 86_400;
            world.ring_mut().every = Some(std::time::Duration::from_secs(every));
            world.ledger.as_mut().unwrap().versions[0].created_at = time;
            world.restart();
            world.now = now;
            let planned = actions(&world);
            let ahead = now == Timestamp::MIN;
            assert_eq!(planned.contains(&CORRECT), ahead, "{time} {now}: {planned:?}");
            world.pass(1);
            let _ = world.report().unwrap();
        }
    }
}
