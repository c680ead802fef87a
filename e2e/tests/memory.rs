//! The operator stays within the memory that its manifest gives it, however
//! many rings are born at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use signingkeyring_e2e_testbed::{tools, world::manifest};

use common::run;

const RINGS: usize = 100;

/// They are born one after the other by design; a busy machine takes minutes.
const PATIENCE: Duration = Duration::from_secs(420);

/// The memory limit of the manifest, in KiB.
fn limit() -> Result<u64> {
    let text = fs::read_to_string(tools::root().join("manifests/deployment.yaml"))?;
    let (_, rest) = text.split_once("limits: {memory: ").context("no memory limit")?;
    let (number, _) = rest.split_once("Mi}").context("the limit is not in Mi")?;
    Ok(number.parse::<u64>()? * 1024)
}

#[test]
fn a_hundred_rings_born_at_once_stay_within_the_manifests_limit() {
    run(async |shared| {
        let world = &shared.world;
        let ring = |number: usize| {
            let name = format!("many-{number:03}");
            manifest(&name, "").replace(&format!("[{{namespace: {name}-ci}}]"), "[]")
        };
        let rings: Vec<String> = (0..RINGS).map(ring).collect();
        world.apply(&rings.join("---\n")).await?;

        let start = Instant::now();
        loop {
            let path = "{range .items[*]}{.metadata.name} \
                        {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
            let text = world.get(&["skr"], path).await?;
            let ready: BTreeSet<&str> =
                text.lines().filter_map(|line| line.strip_suffix(" True")).collect();
            if ready.len() >= RINGS {
                break;
            }
            let peak = peak(shared).await.context("was it killed?")?;
            if start.elapsed() > PATIENCE {
                bail!("{} of {RINGS} rings are ready, peak {peak} KiB:\n{text}", ready.len());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let (peak, limit) = (peak(shared).await?, limit()?);
        eprintln!("{RINGS} rings in {:?}, peak {peak} KiB of {limit} KiB", start.elapsed());
        ensure!(peak < limit, "the operator took {peak} KiB, its limit is {limit} KiB");
        Ok(())
    });
}

async fn peak(shared: &common::Shared) -> Result<u64> {
    let operator = shared.operator.lock().await;
    operator.as_ref().context("no operator")?.peak_memory_kib()
}
