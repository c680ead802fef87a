//! Two replicas of the operator: one leads, the other takes over from it, however it ended,
//! and nothing that was under way is lost, done twice, or done sooner than it may be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "these tests start the operator's replicas themselves")]
mod common;

mod before;
mod clock;
mod handover;
mod kills;
mod rings;
mod rolling;
mod standby;
mod stopped;
mod upgrade;

use std::{
    io::Write,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use anyhow::Result;
use signingkeyring_e2e_testbed::{cluster::Cluster, replicas::Replicas, tools, world::World};
use tokio::runtime::Runtime;

use common::QUICK;

/// Where the operator is installed.
const NAMESPACE: &str = "signing-system";

/// One cluster for all tests; it ends with this process.
struct Shared {
    cluster: Cluster,
    world: World,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: OnceLock<Shared> = OnceLock::new();
static TURN: Mutex<()> = Mutex::new(());

async fn start() -> Result<Shared> {
    let cluster = Cluster::start(&tools::built("cluster")?, "replicas").await?;
    let world = World { info: cluster.info.clone() };
    world.install().await?;
    Ok(Shared { cluster, world })
}

/// Runs a test that has the cluster for itself, with no replica yet. All that it starts end
/// before the next one, and let go of the Lease.
fn in_turn(test: impl AsyncFnOnce(&World, &mut Replicas) -> Result<()>) {
    in_turn_on(async |_, world, replicas| test(world, replicas).await);
}

/// The same of a test that stops components of the cluster.
fn in_turn_on(test: impl AsyncFnOnce(&Cluster, &World, &mut Replicas) -> Result<()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = SHARED.get_or_init(|| RUNTIME.block_on(start()).expect("the cluster starts"));
    let result = RUNTIME.block_on(async {
        let (guard, program) = (tools::built("cluster")?, tools::built("signingkeyring-operator")?);
        let mut replicas = Replicas::new(&shared.world, guard, program, &QUICK);
        test(&shared.cluster, &shared.world, &mut replicas).await?;
        replicas.stop_all().await
    });
    if let Err(error) = result {
        panic!("{error:#}\n{}", shared.cluster.logs());
    }
}

/// Past the test's capture of its output: the numbers are what is to be seen.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How often something is tried: a sample, unless `make ha` says how often.
fn times(variable: &str, sample: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => Ok(text.parse()?),
        _ => Ok(sample),
    }
}
