//! The leader is killed at any moment of a rotation, a revocation and a birth: the other
//! replica takes over and finishes them, and its soak is its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signingkeyring_e2e_testbed::{replicas::Replicas, world::World};
use tokio::time::{Instant, sleep};

use crate::{
    clock::{Times, seconds},
    in_turn,
    rings::{Request, Rings, SOAK, stage},
    say, times,
};

const RINGS: [&str; 4] = ["kill-a", "kill-b", "kill-c", "kill-d"];

/// Within this the other one leads.
const TAKEN: Duration = Duration::from_secs(15);

/// Within this, and the soak, all that was under way is done.
const DONE: Duration = Duration::from_secs(20);

/// How long a lost request is waited for: longer than it may take, to say how late it was.
const PATIENCE: Duration = Duration::from_secs(90);

/// A soak is measured by the answers' own times, and here by when a commit was seen.
const TOLERANCE: Duration = Duration::from_millis(300);

/// A kill comes within this after the first request.
const WINDOW: Duration = Duration::from_millis(4500);

/// Some fraction of a time, other ones for each number, and the same in every run.
fn part(of: Duration, number: usize, salt: usize) -> Duration {
    // Multiples of the golden ratio are spread evenly.
    let fraction = ((number * 7 + salt) as f64 * 0.618_033_988_75).fract();
    of.mul_f64(fraction)
}

#[test]
fn whatever_is_under_way_survives_the_leader() {
    in_turn(async |world, replicas| {
        replicas.start().await?;
        replicas.start().await?;
        let mut rings = Rings::born(world, &RINGS, PATIENCE).await?;
        let kills = times("HA_KILLS", 5)?;
        let (mut taken, mut done) = (Times::default(), Times::default());
        say(&format!(
            "\n{:>4}  {:<44} {:>10} {:>8}",
            "kill", "what was under way", "taken over", "done"
        ));
        for number in 0..kills {
            let kill = kill(world, replicas, &mut rings, number).await?;
            let (over, end) = (kill.taken, kill.done);
            say(&format!(
                "{:>4}  {:<44} {:>10} {:>8}",
                number + 1,
                kill.under_way,
                seconds(over),
                seconds(end)
            ));
            taken.add(over);
            done.add(end);
        }
        say(&format!("taken over {}\ndone       {}", taken.summary(), done.summary()));
        rings.judge().await?;
        say(&format!(
            "{kills} kills, {} versions asked for and minted, none twice",
            rings.minted()
        ));
        ensure!(taken.max() <= TAKEN, "taken over after {:?}", taken.max());
        ensure!(done.max() <= DONE + SOAK, "done after {:?}", done.max());
        Ok(())
    });
}

struct Kill {
    under_way: String,
    taken: Duration,
    done: Duration,
}

async fn kill(
    world: &World,
    replicas: &mut Replicas,
    rings: &mut Rings<'_>,
    number: usize,
) -> Result<Kill> {
    replicas.until_led().await?;
    let ring = |offset: usize| RINGS[(number + offset) % RINGS.len()];
    let requests = [
        rings.rotation(ring(0), &format!("kill-{number}")),
        rings.revocation(ring(1)).context("no version signs")?,
        rings.birth(&format!("born-{number:02}")),
    ];
    let leader = replicas.take_leader().await?;
    let rings = &*rings;
    let ask = async |salt: usize, request: &Request| {
        sleep(part(WINDOW / 3, number, salt)).await;
        rings.ask(request).await
    };
    let [rotation, revocation, birth] = &requests;
    let end = async {
        sleep(part(WINDOW, number, 5)).await;
        leader.kill().await?;
        let at = Instant::now();
        let now = rings.now();
        replicas.until_led().await?;
        anyhow::Ok((at, Instant::now(), now))
    };
    let finish = async {
        tokio::try_join!(ask(1, rotation), ask(2, revocation), ask(3, birth))?;
        tokio::try_join!(
            rings.done(rotation, PATIENCE),
            rings.done(revocation, PATIENCE),
            rings.done(birth, PATIENCE)
        )?;
        anyhow::Ok(Instant::now())
    };
    let ((at, led, now), finished) = tokio::try_join!(end, finish)?;
    let under_way: Vec<String> = requests
        .iter()
        .map(|request| {
            let what = match request {
                Request::Rotation(..) => "rotation",
                Request::Revocation(..) => "revocation",
                Request::Birth(..) => "birth",
            };
            format!("{what} {}", stage(&now, request))
        })
        .collect();
    soaks_anew(rings, ring(0), at, led)?;
    // The policies are right by then, too.
    world.wait_for_condition(ring(0), "Ready", "True").await?;
    replicas.start().await?;
    let done = finished.saturating_duration_since(at);
    Ok(Kill { under_way: under_way.join(", "), taken: led - at, done })
}

/// What the old leader had heard of Kyverno counts for nothing: unless it had written down
/// that a version is acknowledged, its soak begins when the new leader has begun.
fn soaks_anew(rings: &Rings<'_>, ring: &str, killed: Instant, led: Instant) -> Result<()> {
    let states = rings.ledgers(ring)?;
    let Some((_, at_the_kill)) = states.iter().rev().find(|(at, _)| *at <= killed) else {
        return Ok(());
    };
    let Some((number, State::Pending)) = newest(at_the_kill) else { return Ok(()) };
    // What was on its way when the leader was killed comes before another one leads.
    let mut later = states.iter().filter(|(at, _)| *at >= led);
    let is_acknowledged = |(_, state): &&(Instant, Value)| {
        newest(state).is_some_and(|(n, state)| n >= number && state == State::Acknowledged)
    };
    let mut before = states.iter().filter(|(at, _)| *at < led);
    if before.any(|state| is_acknowledged(&state)) {
        return Ok(());
    }
    let (at, _) = later.find(is_acknowledged).context("no version was acknowledged")?;
    let soaked = at.saturating_duration_since(led);
    ensure!(
        soaked + TOLERANCE >= SOAK,
        "{ring} was acknowledged {soaked:?} after another leader began, and its soak is {SOAK:?}"
    );
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The pipelines are not to have it yet.
    Pending,
    /// Kyverno has answered with it for the whole soak.
    Acknowledged,
}

/// The newest version in a ledger, and how far it is.
fn newest(ledger: &Value) -> Option<(u64, State)> {
    let rows = ledger["versions"].as_array()?.iter();
    let newest = rows.max_by_key(|row| row["number"].as_u64())?;
    let is_acknowledged = newest["acknowledgedAt"].is_string();
    let state = if is_acknowledged { State::Acknowledged } else { State::Pending };
    Some((newest["number"].as_u64()?, state))
}
