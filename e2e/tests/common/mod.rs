//! One cluster and one operator for all tests of a binary.

use std::{
    path::PathBuf,
    sync::{LazyLock, OnceLock},
};

use anyhow::Result;
use signingkeyring_e2e_testbed::{
    cluster::Cluster, kind::Kind, left_out, operator::Operator, tools, world::World,
};
use tokio::{runtime::Runtime, sync::Mutex};

/// The tests' runtime. One for all, because the cluster outlives each.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Everything; it ends with this process, because the programs that own it see
/// their standard input close.
pub struct Shared {
    pub cluster: Cluster,
    pub world: World,
    /// Taken by tests that stop it.
    #[allow(dead_code, reason = "not every binary that shares this has such a test")]
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

/// Runs a test of what only one kind of policy has. A run that is about another says
/// that it was left out, and why.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn run_only(kind: Kind, why: &str, test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    if Kind::under_test() == kind {
        return run(test);
    }
    leave_out(kind, why);
}

/// Whether what takes long is tried in this run, as in `make test-all`. One that does not
/// says that it was left out, and why that takes long.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn takes_long(why: &str) -> bool {
    let tried = std::env::var_os("LONG_TESTS").is_some();
    if !tried {
        let why = format!("only with LONG_TESTS=1, as in make test-all: {why}");
        left_out("a run that is quick", &why);
    }
    tried
}

/// Runs a test of what the older Kyverno does not do. A run on that says that it was
/// left out, and why.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn run_on_present_kyverno(why: &str, test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    match tools::older_kyverno() {
        None => run(test),
        Some(version) => left_out(&format!("Kyverno {version}"), why),
    }
}

/// The opposite.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn run_on_older_kyverno(why: &str, test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    match tools::older_kyverno() {
        Some(_) => run(test),
        None => left_out("the present Kyverno", why),
    }
}

/// Says that a test was left out because it is about another kind of policy.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn leave_out(kind: Kind, why: &str) {
    left_out(Kind::under_test().as_str(), &format!("only {kind}: {why}"));
}

#[allow(dead_code, reason = "not every binary that shares this has such a test")]
fn left_out(run: &str, why: &str) {
    let thread = std::thread::current();
    let test = format!("{}::{}", env!("CARGO_CRATE_NAME"), thread.name().unwrap_or_default());
    left_out::left_out(&test, run, why).unwrap();
}

/// Runs a test. When it fails, the ends of all components' logs are shown.
pub fn run(test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    let shared = SHARED.get_or_init(|| RUNTIME.block_on(start()).expect("the cluster starts"));
    if let Err(error) = RUNTIME.block_on(test(shared)) {
        panic!("{error:#}\n{}", shared.cluster.logs());
    }
}
