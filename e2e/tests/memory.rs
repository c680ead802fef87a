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
    fs, io,
    path::{Path, PathBuf},
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

/// A cgroup with the manifest's memory limit, as the kubelet makes one: whoever
/// takes more is killed.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Nothing if this machine has no cgroups for memory, or lets us make none.
    fn new(limit_kib: u64) -> Option<Self> {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (parent, file) = if first.is_dir() {
            (first.to_owned(), "memory.limit_in_bytes")
        } else {
            // Of the second version: the processes may not stand beside it.
            let parent = Path::new("/sys/fs/cgroup");
            fs::write(parent.join("cgroup.subtree_control"), "+memory").ok()?;
            (parent.to_owned(), "memory.max")
        };
        let cgroup = Self(parent.join(format!("signingkeyring-test-{}", std::process::id())));
        fs::create_dir(&cgroup.0).ok()?;
        fs::write(cgroup.0.join(file), (limit_kib * 1024).to_string()).ok()?;
        Some(cgroup)
    }

    fn add(&self, process: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), process.to_string())
    }

    /// How often somebody in it was killed for want of memory.
    fn kills(&self) -> Result<u64> {
        let text = ["memory.oom_control", "memory.events"]
            .iter()
            .find_map(|file| fs::read_to_string(self.0.join(file)).ok());
        let text = text.context("the cgroup does not tell of kills")?;
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(kills.context("no count of kills")?.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The operator is still there: it goes back to where it came from.
        let parent = self.0.parent().unwrap().join("cgroup.procs");
        for process in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            drop(fs::write(&parent, process));
        }
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_hundred_rings_born_at_once_stay_within_the_manifests_limit() {
    run(async |shared| {
        let world = &shared.world;
        let limit = limit()?;
        let cgroup = Cgroup::new(limit);
        match &cgroup {
            Some(cgroup) => {
                let operator = shared.operator.lock().await;
                cgroup.add(operator.as_ref().context("no operator")?.process()?)?;
            }
            None => eprintln!("no cgroup can be made here: judged by the peak alone"),
        }
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
        let peak = peak(shared).await?;
        let kills = cgroup.as_ref().map(Cgroup::kills).transpose()?;
        ensure!(kills.unwrap_or(0) == 0, "the operator was killed for want of memory");
        eprintln!("{RINGS} rings in {:?}, peak {peak} KiB of {limit} KiB", start.elapsed());
        ensure!(peak < limit, "the operator took {peak} KiB, its limit is {limit} KiB");
        Ok(())
    });
}

async fn peak(shared: &common::Shared) -> Result<u64> {
    let operator = shared.operator.lock().await;
    operator.as_ref().context("no operator")?.peak_memory_kib()
}
