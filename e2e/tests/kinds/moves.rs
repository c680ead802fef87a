//! Rings move from one kind of policy to the other and back: an image that nobody
//! signed and one of a retired key are refused all the time, and a signed one is
//! admitted all the time, by digest and by tag, as is one that is excluded by its
//! repository. One that is excluded by nothing but its tag is refused for a while.
//!
//! `MOVING_RINGS` says how many move: a few in `make test`, 60 in `make test-all`.

use std::{
    collections::BTreeMap,
    env,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, future, stream};
use kube::Client;
use signingkeyring_e2e_testbed::{
    images::{Verdict, admit},
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::in_turn;

/// How many rings move where nobody says it.
const FEW: usize = 2;

/// How many rings are set up at once: making a key takes most of a core.
const AT_ONCE: usize = 3;

/// How long from one round of probes to the next, as long as no more than [`ROUNDS`] wait.
const EVERY: Duration = Duration::from_millis(50);

/// How many rounds of probes may wait for their answers.
const ROUNDS: usize = 4;

/// A ring, and what is asked about it.
#[derive(Clone, Debug)]
struct Mover {
    ring: String,
    /// What is asked, the image, and whether it is admitted, if it always is or is not.
    images: [(&'static str, String, Option<bool>); 6],
}

/// What is not the same all the time.
const BY_TAG: &str = "excluded, by its tag alone";

/// What was asked so far: how often, and what was wrong.
#[derive(Debug, Default)]
struct Counts {
    asked: BTreeMap<&'static str, usize>,
    wrong: BTreeMap<&'static str, Vec<String>>,
    /// Of what is not the same all the time.
    refused: BTreeMap<&'static str, usize>,
    slowest: Duration,
}

fn spec(world: &World, ring: &str, kind: Kind) -> String {
    let images = format!("{}/{ring}", world.info.registry);
    format!(
        "  keepVersions: 1\n  rotation: {{soak: 1s}}\n  policy:\n    kind: {kind}\n    exclude:\n    \
         - {{image: '{images}/sidecar:v1', reason: test}}\n    \
         - {{image: '{images}/others:*', reason: test}}\n"
    )
}

/// A ring that stands in a ClusterPolicy, with its images.
async fn set_up(world: &World, number: usize, unsigned: &str) -> Result<Mover> {
    let ring = format!("mover-{number}");
    world.apply(&namespaces(&ring)).await?;
    world.apply(&manifest(&ring, &spec(world, &ring, Kind::ClusterPolicy))).await?;
    world.wait_for_condition(&ring, "Ready", "True").await?;
    let secret = format!("{ring}-ci/image-signing");
    let retired = world.push(&format!("{ring}/old"), "v1").await?;
    world.sign(&retired, &secret).await?;
    world.rotate(&ring, "next").await?;
    let signed = world.push(&format!("{ring}/app"), "v1").await?;
    world.sign(&signed, &secret).await?;
    let tag = format!("{}/{ring}/app:v1", world.info.registry);
    world.wait_until_admitted(&format!("{ring}-dev"), &tag).await?;
    world.wait_until_refused(&format!("{ring}-dev"), &retired).await?;
    for name in ["sidecar", "others"] {
        world.push(&format!("{ring}/{name}"), "v1").await?;
    }
    let excluded = |name: &str| format!("{}/{ring}/{name}:v1", world.info.registry);
    let images = [
        ("unsigned", unsigned.to_owned(), Some(false)),
        ("of a retired key", retired, Some(false)),
        ("signed, by digest", signed, Some(true)),
        ("signed, by tag", tag, Some(true)),
        ("excluded, by its repository", excluded("others"), Some(true)),
        (BY_TAG, excluded("sidecar"), None),
    ];
    Ok(Mover { ring, images })
}

/// Asks everything about the ring that moves, every [`EVERY`], until it is told of none.
async fn probe(
    client: &Client,
    moving: watch::Receiver<Option<Mover>>,
    counts: &Mutex<Counts>,
) -> Result<()> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = stream::unfold((ticks, moving), async |(mut ticks, mut moving)| {
        ticks.tick().await;
        let mover = moving.borrow_and_update().clone()?;
        Some((mover, (ticks, moving)))
    });
    rounds.for_each_concurrent(ROUNDS, |mover| round(client, mover, counts)).await;
    Ok(())
}

async fn round(client: &Client, mover: Mover, counts: &Mutex<Counts>) {
    let namespace = format!("{}-dev", mover.ring);
    let start = Instant::now();
    let asked = mover.images.iter().map(|(what, image, expected)| {
        let namespace = &namespace;
        async move { (*what, *expected, admit(client, namespace, &[image]).await) }
    });
    let answers = future::join_all(asked).await;
    let mut counts = counts.lock().unwrap();
    counts.slowest = counts.slowest.max(start.elapsed());
    for (what, expected, answer) in answers {
        *counts.asked.entry(what).or_default() += 1;
        let is_right = match (&answer, expected) {
            (Ok(verdict), Some(expected)) => (*verdict == Verdict::Admitted) == expected,
            (Ok(verdict), None) => {
                *counts.refused.entry(what).or_default() +=
                    usize::from(*verdict != Verdict::Admitted);
                true
            }
            (Err(_), _) => false,
        };
        if !is_right {
            let wrong = format!("{}: {answer:?}", mover.ring);
            counts.wrong.entry(what).or_default().push(wrong);
        }
    }
}

/// Moves a ring, and waits until it is there as a whole.
async fn move_to(world: &World, ring: &str, kind: Kind) -> Result<()> {
    world.apply(&manifest(ring, &spec(world, ring, kind))).await?;
    let generation = world.ring(ring, "{.metadata.generation}").await?;
    wait_until(&format!("{ring} is in a policy of kind {kind}"), async || {
        let path = "{.status.observedGeneration} {.status.policy.name}";
        let seen = world.ring(ring, path).await?;
        let (observed, policy) = seen.split_once(' ').context("no status")?;
        let rests = world.condition(ring, "Reconciling").await?.trim().is_empty();
        let enforced = world.condition(ring, "PolicyEnforced").await?;
        Ok(observed == generation
            && Kind::of(policy) == kind
            && rests
            && enforced.starts_with("True Enforced"))
    })
    .await?;
    // It left the other kind: nothing there holds its rule any more.
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        let all = world.kubectl(&["get", other.plural(), "--output=json"]).await?;
        let all: serde_json::Value = serde_json::from_str(&all)?;
        let mut all = all["items"].as_array().into_iter().flatten();
        ensure!(
            all.all(|policy| other.keys(&policy["spec"], ring).is_none()),
            "{ring} is still in a {other}"
        );
    }
    Ok(())
}

#[test]
fn rings_move_between_the_kinds_without_a_gap() {
    in_turn(async |shared| {
        let world = &shared.world;
        let rings = env::var("MOVING_RINGS").map_or(Ok(FEW), |text| text.parse())?;
        let unsigned = world.push("movers/unsigned", "v1").await?;
        let start = Instant::now();
        let movers: Vec<Mover> = stream::iter(0..rings)
            .map(|number| set_up(world, number, &unsigned))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        println!("{rings} rings are set up after {:.0} s", start.elapsed().as_secs_f64());

        let counts = Mutex::new(Counts::default());
        let client = world.client().await?;
        for (from, to) in [
            (Kind::ClusterPolicy, Kind::ImageValidatingPolicy),
            (Kind::ImageValidatingPolicy, Kind::ClusterPolicy),
        ] {
            let start = Instant::now();
            *counts.lock().unwrap() = Counts::default();
            let (told, moving) = watch::channel(movers.first().cloned());
            let moves = async {
                for mover in &movers {
                    told.send_replace(Some(mover.clone()));
                    move_to(world, &mover.ring, to).await?;
                }
                told.send_replace(None);
                Ok(())
            };
            future::try_join(moves, probe(&client, moving, &counts)).await?;
            let counts = counts.lock().unwrap();
            let told = counts.asked.iter().map(|(what, asked)| {
                format!("{what}: {} of {asked}", counts.wrong.get(what).map_or(0, Vec::len))
            });
            println!(
                "{from} -> {to}: {rings} rings in {:.0} s; wrong answers of those asked: {}; the slowest round took {} ms",
                start.elapsed().as_secs_f64(),
                told.collect::<Vec<_>>().join(", "),
                counts.slowest.as_millis(),
            );
            let refused = counts.refused.get(BY_TAG).copied().unwrap_or_default();
            println!("{BY_TAG}: refused {refused} of {}", counts.asked.get(BY_TAG).unwrap_or(&0));
            ensure!(counts.wrong.is_empty(), "{:#?}", counts.wrong);
            ensure!(counts.asked.values().all(|count| *count >= 5 * rings), "{counts:?}");
        }
        Ok(())
    });
}
