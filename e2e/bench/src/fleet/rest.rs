//! Many rings at rest: what it takes to get there after a restore, what they take there,
//! and what a restart of the operator writes.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;
use signingkeyring_e2e_testbed::audit;
use tokio::time::sleep;

use super::{
    Fleet,
    follow::{follow, is_true},
};
use crate::{
    asked::{self, Admission},
    bed::Arrangement,
    images::Images,
    process::Memory,
    requests::Requests,
    sizes::{Configurations, configurations},
};

/// For how long nothing may be written until all counts as settled, and then once more
/// for what a rest costs.
const REST: Duration = Duration::from_secs(60);

/// How long an operator that was started again may take for what it writes.
const RESTARTED: Duration = Duration::from_secs(60);

/// What was seen of such a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Rest {
    /// What it had.
    pub arrangement: Arrangement,
    /// How long after the operator's start all rings were ready, in seconds; nothing if
    /// they were not in time.
    pub settled: Option<f64>,
    /// How many of them were not.
    pub missing: usize,
    /// How often statuses were written meanwhile.
    pub statuses: usize,
    /// How many of those said of Kyverno what was not so.
    pub untrue: usize,
    /// The operator's resident memory at rest, and its peak until then, in MiB.
    pub resident: u64,
    /// Its peak.
    pub peak: u64,
    /// What a minute of rest takes of a core, in percent; nothing if it did not come to rest
    /// in time.
    pub cpu: Option<f64>,
    /// How many requests this minute has, and how many of them write.
    pub requests: u64,
    /// How many write.
    pub writes: u64,
    /// How long a restarted operator takes until it is ready, in seconds.
    pub restart: f64,
    /// What it writes in its first minute.
    pub restart_writes: u64,
    /// Its resident memory after that: it has listed everything.
    pub restart_resident: u64,
    /// What the other programs have.
    pub memory: Memory,
    /// What Kyverno tells the API server.
    pub configurations: Configurations,
    /// What a pod pays, without the operator.
    pub admission: Option<Admission>,
}

/// Restores a cluster's rings and measures.
///
/// # Errors
/// If something does not run.
pub async fn measure(
    arrangement: Arrangement,
    program: PathBuf,
    images: &Images,
    rounds: usize,
    patience: Duration,
) -> Result<Rest> {
    let mut fleet = Fleet::new(arrangement, program).await?;
    fleet.restore(images).await?;
    let start = Instant::now();
    fleet.start().await?;
    let ready = |ring: &_| is_true(ring, "Ready") && is_true(ring, "PolicyEnforced");
    let followed = follow(&fleet.client, arrangement.rings, patience, start, ready).await?;
    let settled = followed.times.last().map(Duration::as_secs_f64);
    let process = fleet.process()?;
    let Minute { resident, cpu, requests, writes } = rest(&fleet, patience).await?;
    let peak = process.peak()?;

    fleet.stop().await?;
    let written = audit::Requests::from_now(fleet.folder())?;
    let restart = Instant::now();
    fleet.start().await?;
    let restart = restart.elapsed().as_secs_f64();
    sleep(RESTARTED).await;
    let restart_writes = count(&written.writes_until_now(fleet.folder())?);
    let restart_resident = fleet.process()?.resident()?;
    let memory = fleet.programs()?.memory()?;
    fleet.stop().await?;
    let asked = [fleet.asked()];
    let admission = match followed.missing {
        0 => asked::ask(&asked, images, rounds).await?.pop(),
        // Nobody knows what is in force.
        _ => None,
    };
    Ok(Rest {
        arrangement,
        settled: settled.filter(|_| followed.missing == 0),
        missing: followed.missing,
        statuses: followed.changes,
        untrue: followed.untrue,
        resident,
        peak,
        cpu,
        requests,
        writes,
        restart,
        restart_writes,
        restart_resident,
        memory,
        configurations: configurations(&fleet.client).await?,
        admission,
    })
}

/// What a minute took.
struct Minute {
    resident: u64,
    cpu: Option<f64>,
    requests: u64,
    writes: u64,
}

/// Waits for a minute in which the operator writes nothing, after another one, since it may
/// still look at what it has written; or for the last one that there is time for. Kyverno
/// writes in every one: an event of each question that is asked of an ImageValidatingPolicy.
async fn rest(fleet: &Fleet, patience: Duration) -> Result<Minute> {
    let process = fleet.process()?;
    let deadline = Instant::now() + patience;
    let mut is_silent = false;
    loop {
        let written = audit::Requests::from_now(fleet.folder())?;
        let (before, cpu) = (Requests::now(&fleet.client).await?, process.cpu()?);
        sleep(REST).await;
        let used = process.cpu()? - cpu;
        let requests = Requests::now(&fleet.client).await?.since(&before).total();
        let writes = count(&written.writes_until_now(fleet.folder())?);
        let was_silent = std::mem::replace(&mut is_silent, writes == 0);
        let is_at_rest = is_silent && was_silent;
        if is_at_rest || Instant::now() > deadline {
            let cpu = is_at_rest.then(|| 100.0 * used.as_secs_f64() / REST.as_secs_f64());
            return Ok(Minute { resident: process.resident()?, cpu, requests, writes });
        }
    }
}

fn count(writes: &[audit::Request]) -> u64 {
    u64::try_from(writes.len()).unwrap_or(u64::MAX)
}
