//! What a term of leadership means for the work, by a clock that is moved.

use std::{cell::Cell, future::pending, sync::atomic::AtomicU32};

use super::*;

fn leadership(term: Term) -> (watch::Sender<Term>, Leadership) {
    let (sender, term) = watch::channel(term);
    (sender, Leadership { term, has_looked: Arc::default(), _unlimited: None })
}

#[test]
fn a_leader_stops_before_anybody_else_may_start() {
    // Somebody else counts from when the renewal was seen, which is after it was asked for.
    // What is left is for a step that has begun.
    assert!(RENEW_DEADLINE + Duration::from_secs(2) < record::DURATION);
    // One renewal may fail, and the next one take as long as it may.
    assert!(RENEW_EVERY + PATIENCE + LOOK_EVERY + PATIENCE <= RENEW_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn work_ends_at_the_deadline_unless_it_is_moved() {
    let start = Instant::now();
    let (sender, leadership) = leadership(Term::Until(start + RENEW_DEADLINE));
    let renewals = async {
        for _ in 0..3 {
            sleep(RENEW_EVERY).await;
            sender.send_replace(Term::Until(Instant::now() + RENEW_DEADLINE));
        }
        pending::<()>().await;
    };
    assert_eq!(leadership.while_it_lasts(renewals).await, None);
    assert_eq!(start.elapsed().as_secs(), (3 * RENEW_EVERY + RENEW_DEADLINE).as_secs());
    assert!(!leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn work_ends_at_once_when_another_leads() {
    let start = Instant::now();
    let (sender, leadership) = leadership(Term::Until(start + RENEW_DEADLINE));
    let loss = async {
        sleep(RENEW_EVERY).await;
        sender.send_replace(Term::Standby);
        pending::<()>().await;
    };
    assert_eq!(leadership.while_it_lasts(loss).await, None);
    assert_eq!(start.elapsed().as_secs(), RENEW_EVERY.as_secs());
}

/// As one that was stopped and is woken: all timers are due, and the work comes first.
#[tokio::test(start_paused = true)]
async fn no_step_begins_after_the_deadline() {
    let (_sender, leadership) = leadership(Term::Until(Instant::now() + RENEW_DEADLINE));
    let steps = AtomicU32::new(0);
    let late = Cell::new(false);
    let work = async {
        loop {
            steps.fetch_add(1, Ordering::Relaxed);
            late.set(late.get() || !leadership.is_leader());
            // Past the deadline without a look at any timer.
            tokio::time::advance(RENEW_DEADLINE * 2).await;
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(leadership.while_it_lasts(work).await, None::<()>);
    assert_eq!(steps.load(Ordering::Relaxed), 1);
    assert!(!late.get());
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_and_one_without_others_does_not() {
    let (sender, leadership) = leadership(Term::Standby);
    let waited = timeout(record::DURATION, leadership.begins()).await;
    assert!(waited.is_err());
    sender.send_replace(Term::Until(Instant::now() + RENEW_DEADLINE));
    leadership.begins().await;
    assert_eq!(leadership.while_it_lasts(async { 1 }).await, Some(1));
    let alone = Leadership::unlimited();
    alone.begins().await;
    let works = timeout(record::DURATION, alone.while_it_lasts(pending::<()>())).await;
    assert!(works.is_err(), "for ever");
}
