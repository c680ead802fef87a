use std::sync::Arc;

use super::*;

type Log = Arc<Mutex<Vec<(String, Duration)>>>;

/// Runs the queue for `time` and returns who was worked on, and when.
async fn run(
    queue: &WorkQueue<String>,
    time: Duration,
    concurrency: usize,
    work: impl Fn(usize) -> (Duration, Pass),
) -> Vec<(String, Duration)> {
    let log: Log = Arc::default();
    let start = Instant::now();
    let job = queue.run(
        concurrency,
        || concurrency,
        |name| {
            let count = log.lock().iter().filter(|(n, _)| *n == name).count();
            log.lock().push((name, start.elapsed()));
            let (takes, pass) = work(count);
            async move {
                tokio::time::sleep(takes).await;
                pass
            }
        },
    );
    let _ = tokio::time::timeout(time, job).await;
    std::mem::take(&mut log.lock())
}

const SECOND: Duration = Duration::from_secs(1);

/// A pass that comes to the same as every other.
fn writes(value: u64) -> Option<Key> {
    Some(Key { value, is_idle: false })
}

fn same(outcome: Outcome) -> Pass {
    Pass { outcome, key: writes(0), under_way: false }
}

/// Wakes a name for ever, this often.
async fn keep_waking(queue: &WorkQueue<String>, every: Duration) {
    loop {
        queue.wake("a");
        tokio::time::sleep(every).await;
    }
}

fn seconds(log: &[(String, Duration)]) -> Vec<u64> {
    log.iter().map(|(_, at)| at.as_secs()).collect()
}

/// Twelve at once, and then after 1, 2, 4, 8, 16, 30 and 30 seconds.
const SLOWED: [u64; 19] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 7, 15, 31, 61, 91];

/// Ends between two seconds, so that it is clear what still counts.
const LONG: Duration = Duration::from_millis(99_500);

#[tokio::test(start_paused = true)]
async fn a_name_woken_twice_runs_once() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    queue.wake("a");
    let log = run(&queue, SECOND, 4, |_| (Duration::ZERO, same(Outcome::Done))).await;
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_woken_while_it_runs_runs_again_and_never_twice_at_once() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let waker = async {
        tokio::time::sleep(SECOND / 2).await;
        queue.wake("a");
        std::future::pending::<()>().await;
    };
    let job = run(&queue, SECOND * 10, 4, |_| (SECOND, same(Outcome::Done)));
    let log = tokio::select! { log = job => log, () = waker => unreachable!() };
    assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded() {
    let queue = WorkQueue::<String>::default();
    for name in ["a", "b", "c", "d"] {
        queue.wake(name);
    }
    let log = run(&queue, SECOND * 10, 2, |_| (SECOND, same(Outcome::Done))).await;
    assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn failures_pause_longer_and_longer_and_success_forgets_them() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, Duration::from_secs(3), 1, |count| {
        (Duration::ZERO, same(if count < 3 { Outcome::Failed } else { Outcome::Done }))
    })
    .await;
    let at: Vec<u128> = log.iter().map(|(_, at)| at.as_millis()).collect();
    assert_eq!(at, [0, 250, 750, 1750]);
    assert_eq!(backoff(40), LONGEST_BACKOFF);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_what_was_ordered_between_two_failures_is_no_success() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let ordered = async {
        tokio::time::sleep(SECOND).await;
        queue.wake_with_news("a");
        std::future::pending::<()>().await;
    };
    let job = run(&queue, SECOND * 3, 1, |count| {
        let outcome = match count {
            0 | 2 => Outcome::Failed,
            1 => Outcome::Awaits,
            _ => Outcome::Done,
        };
        (Duration::ZERO, same(outcome))
    });
    let log = tokio::select! { log = job => log, () = ordered => unreachable!() };
    let at: Vec<u128> = log.iter().map(|(_, at)| at.as_millis()).collect();
    assert_eq!(at, [0, 250, 1000, 1500]);
}

#[tokio::test(start_paused = true)]
async fn a_later_pass_replaces_the_delay() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, SECOND * 7, 1, |count| {
        let next = if count == 0 { SECOND } else { SECOND * 5 };
        (Duration::ZERO, same(Outcome::RequeueAfter(next)))
    })
    .await;
    assert_eq!(log.iter().map(|(_, at)| at.as_secs()).collect::<Vec<_>>(), [0, 1, 6]);
}

#[tokio::test(start_paused = true)]
async fn who_always_wants_to_go_on_and_comes_to_the_same_is_slowed() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, LONG, 1, |_| (Duration::ZERO, same(Outcome::Requeue))).await;
    assert_eq!(seconds(&log), SLOWED);
    assert!(queue.is_held_back("a"));
    assert!(!queue.is_held_back("b"));
}

#[tokio::test(start_paused = true)]
async fn who_is_wanted_in_vain_is_slowed_less_than_who_writes_in_vain() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let idle = Some(Key { value: 0, is_idle: true });
    let pass = Pass { outcome: Outcome::Requeue, key: idle, under_way: false };
    let log = run(&queue, SECOND * 10, 1, |_| (Duration::ZERO, pass)).await;
    assert_eq!(seconds(&log)[12..], [1, 3, 5, 7, 9]);

    // Looking at what was written does not shorten the pauses.
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, LONG, 1, |count| {
        let key = Some(Key { value: 0, is_idle: count % 2 == 1 });
        (Duration::ZERO, Pass { outcome: Outcome::Requeue, key, under_way: false })
    })
    .await;
    assert!(log.len() < 24, "{:?}", seconds(&log));
}

#[tokio::test(start_paused = true)]
async fn who_ends_before_it_has_decided_anything_is_slowed() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let pass = Pass { outcome: Outcome::Requeue, key: None, under_way: false };
    let log = run(&queue, LONG, 1, |_| (Duration::ZERO, pass)).await;
    assert_eq!(seconds(&log), SLOWED);
}

#[tokio::test(start_paused = true)]
async fn who_takes_turns_in_what_it_comes_to_is_slowed() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, LONG, 1, |count| {
        let key = writes(count as u64 % 2);
        (Duration::ZERO, Pass { outcome: Outcome::Requeue, key, under_way: false })
    })
    .await;
    assert_eq!(log.len(), SLOWED.len() + 1, "the second was new too");
}

#[tokio::test(start_paused = true)]
async fn who_is_woken_all_the_time_is_slowed_whatever_its_passes_say() {
    for outcome in [Outcome::Done, Outcome::RequeueAfter(SECOND), Outcome::Requeue] {
        for takes in [0, 15] {
            let queue = WorkQueue::<String>::default();
            let takes = Duration::from_millis(takes);
            let job = run(&queue, LONG, 1, |_| (takes, same(outcome)));
            let log = tokio::select! {
                log = job => log,
                () = keep_waking(&queue, SECOND / 100) => unreachable!(),
            };
            let first_minute = log.iter().filter(|(_, at)| *at < SECOND * 60).count();
            assert!((17..=20).contains(&first_minute), "{outcome:?}: {first_minute}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_woken_all_the_time_and_fails_is_tried_no_more_often() {
    let queue = WorkQueue::<String>::default();
    let job = run(&queue, SECOND * 60, 1, |_| (Duration::ZERO, same(Outcome::Failed)));
    let log = tokio::select! {
        log = job => log,
        () = keep_waking(&queue, SECOND / 100) => unreachable!(),
    };
    assert!(log.len() <= 20, "{}", log.len());
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_something_else_each_time_is_never_slowed() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, SECOND * 10, 1, |count| {
        (
            SECOND / 100,
            Pass { outcome: Outcome::Requeue, key: writes(count as u64), under_way: false },
        )
    })
    .await;
    assert!(log.len() > 900, "{}", log.len());
    assert!(!queue.is_held_back("a"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_was_ordered_is_not_slowed_by_who_wakes_it_meanwhile() {
    let queue = WorkQueue::<String>::default();
    let waker = keep_waking(&queue, SECOND / 10);
    // What was ordered comes after ten seconds, and everything goes on from there.
    let work = |count| {
        let outcome = if count < 100 { Outcome::Awaits } else { Outcome::Done };
        (Duration::ZERO, same(outcome))
    };
    let log = tokio::select! {
        log = run(&queue, 11 * SECOND - SECOND / 20, 1, work) => log,
        () = waker => unreachable!(),
    };
    assert_eq!(log.len(), 110);
}

#[tokio::test(start_paused = true)]
async fn once_a_second_is_never_slowed() {
    let queue = WorkQueue::<String>::default();
    let job = run(&queue, LONG, 1, |_| (SECOND / 20, same(Outcome::Done)));
    let log = tokio::select! {
        log = job => log,
        () = keep_waking(&queue, SECOND) => unreachable!(),
    };
    assert_eq!(seconds(&log), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_to_do_any_more_is_looked_at_often_again() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    // The noise ends after 20 passes, at 121 s.
    let log = run(&queue, SECOND * 160 - SECOND / 2, 1, |count| {
        let is_idle = count >= 19;
        let outcome = if is_idle { Outcome::RequeueAfter(SECOND) } else { Outcome::Requeue };
        (Duration::ZERO, Pass { outcome, key: Some(Key { value: 0, is_idle }), under_way: false })
    })
    .await;
    assert_eq!(seconds(&log)[SLOWED.len()..], [121, 151, 153, 155, 157, 159]);
}

#[tokio::test(start_paused = true)]
async fn news_shorten_a_pause_to_the_first_and_not_further() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let news = async {
        tokio::time::sleep(SECOND * 70).await;
        assert!(queue.is_held_back("a"), "for 30 seconds from 61 on");
        loop {
            queue.wake_with_news("a");
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    let job =
        run(&queue, SECOND * 74 - SECOND / 2, 1, |_| (Duration::ZERO, same(Outcome::Requeue)));
    let log = tokio::select! { log = job => log, () = news => unreachable!() };
    assert_eq!(seconds(&log)[SLOWED.len() - 1..], [70, 71, 72, 73]);
}

#[tokio::test(start_paused = true)]
async fn another_key_ends_the_pauses() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let log = run(&queue, SECOND * 4 - SECOND / 2, 1, |count| {
        (
            Duration::ZERO,
            Pass {
                outcome: Outcome::Requeue,
                key: writes(u64::from(count >= 13)),
                under_way: false,
            },
        )
    })
    .await;
    let expected = [&[0; 12][..], &[1], &[3; 12]].concat();
    assert_eq!(seconds(&log), expected, "the one at 3 seconds has news");
}

#[tokio::test(start_paused = true)]
async fn names_that_rest_are_forgotten() {
    let queue = WorkQueue::<String>::default();
    let waker = async {
        for number in 0..20_000_u32 {
            queue.wake(&number.to_string());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let job = run(&queue, LONG * 10, 8, |_| (Duration::ZERO, same(Outcome::Done)));
    let _ = tokio::join!(waker, job);
    let state = queue.state.lock();
    assert!(state.paces.len() <= 512, "{}", state.paces.len());
    let others = state.ready.len() + state.running.len() + state.dirty.len();
    assert_eq!(others + state.delayed.len() + state.failures.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_wave_little_is_kept() {
    let queue = WorkQueue::<String>::default();
    (0..2_000_u32).for_each(|number| queue.wake(&number.to_string()));
    run(&queue, LONG * 10, 8, |_| (Duration::ZERO, same(Outcome::Done))).await;
    let state = queue.state.lock();
    assert_eq!(state.paces.len(), 0);
    assert!(state.paces.capacity() <= 2 * LEAST_SWEEP, "{}", state.paces.capacity());
}

fn names(log: &[(String, Duration)]) -> Vec<&str> {
    log.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_is_worked_on_before_all_others() {
    let queue = WorkQueue::<String>::default();
    for name in ["a", "b", "c", "d"] {
        queue.wake(name);
    }
    queue.wake_urgently("c");
    queue.wake_urgently("e");
    // One that is not urgent has a place of its own.
    let log = run(&queue, SECOND * 10, 1, |_| (SECOND, same(Outcome::Done))).await;
    assert_eq!(names(&log), ["c", "e", "a", "b", "d"]);
    assert_eq!(seconds(&log), [0, 0, 0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_finds_room_although_all_of_it_is_taken() {
    let queue = WorkQueue::<String>::default();
    for name in ["a", "b", "c"] {
        queue.wake(name);
    }
    let waker = async {
        tokio::time::sleep(SECOND / 2).await;
        queue.wake_urgently("z");
        std::future::pending::<()>().await;
    };
    let job = run(&queue, SECOND * 9, 2, |_| (SECOND * 4, same(Outcome::Done)));
    let log = tokio::select! { log = job => log, () = waker => unreachable!() };
    assert_eq!(names(&log), ["a", "b", "z", "c"]);
    assert_eq!(log[2].1, SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_soon_takes_every_other_place_and_what_is_urgent_goes_before() {
    let queue = WorkQueue::<String>::default();
    for name in ["rest-1", "rest-2", "rest-3"] {
        queue.wake(name);
    }
    for number in 1..=5 {
        queue.wake_soon(&format!("soon-{number}"));
    }
    queue.wake("rest-3");
    queue.wake_soon("rest-3");
    queue.wake_urgently("soon-5");
    let log = run(&queue, SECOND * 20, 1, |_| (SECOND, same(Outcome::Done))).await;
    // Beside the urgent one, which has a place of its own.
    let order = ["soon-5", "rest-3", "rest-1", "soon-1", "rest-2", "soon-2", "soon-3", "soon-4"];
    assert_eq!(names(&log), order);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_nothing_where_all_rings_are_to_be_soon() {
    let queue = WorkQueue::<String>::default();
    for number in 0..10_000 {
        queue.wake_soon(&format!("deleted-{number}"));
    }
    let waker = async {
        tokio::time::sleep(SECOND * 5 + SECOND / 2).await;
        queue.wake_urgently("revoked");
        std::future::pending::<()>().await;
    };
    let job = run(&queue, SECOND * 9, 4, |_| (SECOND * 4, same(Outcome::Done)));
    let log = tokio::select! { log = job => log, () = waker => unreachable!() };
    let (_, at) = log.iter().find(|(name, _)| name == "revoked").unwrap();
    assert_eq!(*at, SECOND * 5 + SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_stays_so_until_it_has_succeeded() {
    let queue = WorkQueue::<String>::default();
    queue.wake_urgently("a");
    for number in 0..4 {
        queue.wake(&format!("b{number}"));
    }
    let outcomes = [Outcome::Failed, Outcome::Requeue, Outcome::Done];
    let log = Arc::new(Mutex::new(Vec::new()));
    let job = queue.run(
        1,
        || 1,
        |name| {
            let count = log.lock().iter().filter(|n| **n == name).count();
            log.lock().push(name.clone());
            let outcome = if name == "a" { outcomes[count] } else { Outcome::Done };
            let urgent = queue.is_urgent("a");
            async move {
                assert!(urgent || name != "a");
                tokio::time::sleep(FIRST_BACKOFF).await;
                same(outcome)
            }
        },
    );
    let _ = tokio::time::timeout(SECOND * 10, job).await;
    // Its backoff is as long as one of the others takes, and they have a place of their own.
    assert_eq!(*log.lock(), ["a", "b0", "b1", "a", "b2", "a", "b3"]);
    assert!(!queue.is_urgent("a"));
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_finished_before_something_else_is_begun() {
    let queue = WorkQueue::<String>::default();
    for number in 0..6 {
        queue.wake(&number.to_string());
    }
    // Three passes each, the first two of which leave something begun.
    let log = run(&queue, SECOND * 60, 1, |count| {
        let outcome = if count < 2 { Outcome::Requeue } else { Outcome::Done };
        (SECOND, Pass { outcome, key: None, under_way: count < 2 })
    })
    .await;
    let expected: Vec<String> = (0..6).flat_map(|n| vec![n.to_string(); 3]).collect();
    assert_eq!(names(&log), expected);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_more_than_five_minutes_whatever_else_comes() {
    for flood_of in ["urgent", "soon", "under way"] {
        let queue = WorkQueue::<String>::default();
        queue.wake("rest");
        // More than can be worked on, for ever.
        let flood = async {
            for number in 0_u64.. {
                let name = format!("flood-{number}");
                match flood_of {
                    "urgent" => queue.wake_urgently(&name),
                    "soon" => queue.wake_soon(&name),
                    _ => queue.wake(&name),
                }
                tokio::time::sleep(SECOND / 4).await;
            }
        };
        let flooded = |count| Pass {
            outcome: if count < 3 { Outcome::Requeue } else { Outcome::Done },
            key: writes(count as u64),
            under_way: count < 3,
        };
        let job = run(&queue, SECOND * 600, 1, |count| (SECOND, flooded(count)));
        queue.wake_urgently("first");
        let log = tokio::select! { log = job => log, () = flood => unreachable!() };
        let (_, at) = log.iter().find(|(name, _)| name == "rest").unwrap();
        assert!(*at <= SECOND * 300, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_long_takes_turns_with_what_is_under_way() {
    let queue = WorkQueue::<String>::default();
    for number in 0..500 {
        queue.wake(&format!("rest-{number}"));
    }
    queue.state.lock().ready.passed(&"begun".to_owned(), true, true);
    let waker = async {
        // By then all of the rest have waited for long.
        tokio::time::sleep(SECOND * 300 + SECOND / 2).await;
        queue.wake("begun");
        std::future::pending::<()>().await;
    };
    let job = run(&queue, SECOND * 400, 1, |_| (SECOND, same(Outcome::Done)));
    let log = tokio::select! { log = job => log, () = waker => unreachable!() };
    let (_, at) = log.iter().find(|(name, _)| name == "begun").unwrap();
    assert!(*at <= SECOND * 302, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn news_during_a_pass_that_fails_do_not_wait_for_its_backoff() {
    let queue = WorkQueue::<String>::default();
    queue.wake("a");
    let job = run(&queue, SECOND * 20, 1, |_| (SECOND / 10, same(Outcome::Failed)));
    let waker = async {
        // In the middle of the sixth pass, whose backoff is eight seconds.
        tokio::time::sleep(Duration::from_millis(7750 + 500 + 50)).await;
        queue.wake_urgently("a");
        std::future::pending::<()>().await;
    };
    let log = tokio::select! { log = job => log, () = waker => unreachable!() };
    let at: Vec<u128> = log.iter().map(|(_, at)| at.as_millis()).collect();
    assert_eq!(at[5], 8250, "{at:?}");
    assert_eq!(at[6], 8250 + 100 + 250, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn how_many_are_worked_on_may_change_while_they_are() {
    let queue = WorkQueue::<String>::default();
    for name in ["a", "b", "c", "d", "e"] {
        queue.wake(name);
    }
    let (start, log) = (Instant::now(), Log::default());
    let job = queue.run(
        3,
        || if start.elapsed() < SECOND * 2 { 1 } else { 3 },
        |name| {
            log.lock().push((name, start.elapsed()));
            async {
                tokio::time::sleep(SECOND).await;
                same(Outcome::Done)
            }
        },
    );
    let _ = tokio::time::timeout(SECOND * 10, job).await;
    assert_eq!(seconds(&log.lock()), [0, 1, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_has_all_room_however_little_others_have() {
    let queue = WorkQueue::<String>::default();
    for number in 0..4 {
        queue.wake(&format!("other-{number}"));
        queue.wake_urgently(&format!("urgent-{number}"));
    }
    let (start, log) = (Instant::now(), Log::default());
    let job = queue.run(
        3,
        || 1,
        |name| {
            log.lock().push((name, start.elapsed()));
            async {
                tokio::time::sleep(SECOND).await;
                same(Outcome::Done)
            }
        },
    );
    let _ = tokio::time::timeout(SECOND * 5 / 2, job).await;
    let log = log.lock();
    assert!(log.iter().take(4).all(|(name, _)| name.starts_with("urgent")), "{log:?}");
    assert_eq!(seconds(&log), [0, 0, 0, 0, 0, 1, 2]);
}
