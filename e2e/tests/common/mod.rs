//! One cluster and one operator for all tests of a binary.

use std::{
    path::PathBuf,
    sync::{LazyLock, OnceLock},
};

use anyhow::Result;
use signingkeyring_e2e_testbed::{cluster::Cluster, operator::Operator, tools, world::World};
use tokio::{runtime::Runtime, sync::Mutex};

/// The tests' runtime. One for all, because the cluster outlives each.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Everything; it ends with this process, because the programs that own it see
/// their standard input close.
pub struct Shared {
    pub cluster: Cluster,
    pub world: World,
    /// Taken by tests that stop it.
    pub operator: Mutex<Option<Operator>>,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Settings that make tests quick: nothing else differs from a real cluster.
pub const QUICK: [&str; 3] =
    ["--recheck-interval=4s", "--log-level", "info,signingkeyring_operator=debug"];

/// The program that owns clusters and operators.
fn guard() -> Result<PathBuf> {
    tools::built("cluster")
}

/// Starts the operator with its own ServiceAccount's rights.
pub async fn start_operator(world: &World, arguments: &[&str]) -> Result<Operator> {
    let program = tools::built("signingkeyring-operator")?;
    Operator::start(world, &guard()?, &program, arguments).await
}

async fn start() -> Result<Shared> {
    let name = env!("CARGO_CRATE_NAME");
    let cluster = Cluster::start(&guard()?, name).await?;
    let world = World { info: cluster.info.clone() };
    world.install().await?;
    let operator = start_operator(&world, &QUICK).await?;
    Ok(Shared { cluster, world, operator: Mutex::new(Some(operator)) })
}

/// Runs a test. When it fails, the ends of all components' logs are shown.
pub fn run(test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    let shared = SHARED.get_or_init(|| RUNTIME.block_on(start()).expect("the cluster starts"));
    if let Err(error) = RUNTIME.block_on(test(shared)) {
        panic!("{error:#}\n{}", shared.cluster.logs());
    }
}
