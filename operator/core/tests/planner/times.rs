//! Times in the future, which a clock that was ahead has left in a ledger, and the
//! windows in which the schedule may rotate.

use jiff::Timestamp;
use signingkeyring_core::{
    ledger::Change,
    plan::Action,
    schedule::{Window, Windows},
};

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

/// A ring that rotates every 100 hours, from ten to eleven in the evening.
fn by_night() -> World {
    let mut world = settled();
    let window = Window::parse(Vec::new(), "22:00", "23:00", "UTC").unwrap();
    let ring = world.ring_mut();
    ring.every = Some(std::time::Duration::from_secs(100 * 3600));
    ring.windows = Windows::only(vec![window]);
    world
}

fn next_rotation(world: &World) -> Timestamp {
    world.report().unwrap().next_rotation.unwrap()
}

fn wait_until(world: &mut World, time: Timestamp) {
    world.tick(time.duration_since(world.now).as_secs());
}

#[test]
fn the_schedule_rotates_in_a_window_at_the_time_that_the_status_says() {
    let mut world = by_night();
    let next = next_rotation(&world);
    assert!(next.to_string().ends_with("T22:00:00Z"), "{next}");
    // It is woken for it, however far that is, and not before.
    let wake = world.plan().unwrap().wake.unwrap();
    assert_eq!(i64::try_from(wake.as_secs()).unwrap(), next.duration_since(world.now).as_secs());
    wait_until(&mut world, next);
    world.tick(-1);
    assert_eq!(actions(&world), []);
    world.tick(1);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn what_missed_its_window_waits_for_the_next_one_and_says_when_that_is() {
    let mut world = by_night();
    let missed = next_rotation(&world);
    wait_until(&mut world, missed);
    world.tick(HOUR);
    assert_eq!(actions(&world), []);
    let next = next_rotation(&world);
    assert_eq!(next.duration_since(missed).as_secs(), 24 * HOUR);
    wait_until(&mut world, next);
    // A rotation that has begun in it goes on when it is over.
    world.tick(HOUR - 1);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn what_is_asked_for_waits_for_no_window() {
    let mut world = by_night();
    rotate(&mut world, "b");
    assert_eq!(current(&world), 2);
    let mut world = by_night();
    world.ring_mut().revoked.push(signingkeyring_core::snapshot::Revoked::Version(1));
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn a_ring_that_stands_by_takes_over_in_a_window_alone() {
    let mut world = by_night();
    world.ring_mut().standby = true;
    assert!(world.settle());
    let due = next_rotation(&world);
    wait_until(&mut world, due);
    world.tick(HOUR);
    assert_eq!(actions(&world), []);
    let next = next_rotation(&world);
    wait_until(&mut world, next);
    assert!(world.settle());
    assert_eq!(current(&world), 2);
}

#[test]
fn without_a_window_that_can_be_read_the_schedule_rests_and_names_no_time() {
    let mut world = by_night();
    world.ring_mut().windows = Windows::only(Vec::new());
    world.tick(1_000 * HOUR);
    assert_eq!((actions(&world), world.report().unwrap().next_rotation), (vec![], None));
}

#[test]
fn a_suspended_ring_names_no_time_and_is_not_woken_for_one() {
    let mut world = settled();
    world.ring_mut().every = Some(std::time::Duration::from_secs(100 * 3600));
    world.ring_mut().suspend = true;
    world.tick(1_000 * HOUR);
    let plan = world.plan().unwrap();
    assert_eq!((plan.wake, world.report().unwrap().next_rotation), (None, None));
}
