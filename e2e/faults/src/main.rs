//! Runs the operator's reconciler through every fault of every scenario.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use signingkeyring_e2e_faults::{
    fault::Selector,
    harness::{Options, run_all},
    scenario::Scenario,
    scenarios,
};
use signingkeyring_e2e_testbed::{cluster::Cluster, world::World};
use signingkeyring_operator::{settings::LogFormat, telemetry};

/// Runs the operator against a real API server and Kyverno, with a fault at
/// every write and with every fault of what it reads, and lets an independent
/// observer judge every state in between.
///
/// SIGNING_POLICY_KIND says in which kind of policy the rings are.
///
/// Prints a table. Ends with 0 if nothing was violated, otherwise with 1 after
/// the history of every run that violated something.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Arguments {
    /// Only this scenario; may be given several times.
    #[arg(long, value_parser = scenario)]
    scenario: Vec<&'static Scenario>,
    /// Only this fault, at every write or at one: crash-before, crash-after@3,
    /// conflict, 500, 429, time-out, second-replica, lag-1, lag-2, lag-5,
    /// dropped, gone; may be given several times.
    #[arg(long)]
    fault: Vec<Selector>,
    /// How many runs there are at a time.
    #[arg(long, default_value_t = 32)]
    parallel: usize,
    /// How many of those may be busy at a time; the others wait out their quiet.
    #[arg(long, default_value_t = 10)]
    busy: usize,
    /// Only so many faults of each scenario.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Decides which those are.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the operators log to standard error, such as
    /// `info,signingkeyring_operator=debug`.
    #[arg(long, default_value = "off", value_name = "FILTER")]
    log_level: String,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    scenarios::named(name).ok_or_else(|| {
        let known: Vec<&str> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
        format!("no such scenario; there are {}", known.join(", "))
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    telemetry::init_logs(LogFormat::Text, &arguments.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let clean = runtime.block_on(all(arguments))?;
    // What the operators left behind is not waited for.
    runtime.shutdown_background();
    std::process::exit(i32::from(!clean))
}

async fn all(arguments: Arguments) -> Result<bool> {
    let program = sibling("cluster")?;
    let cluster = Cluster::start(&program, "faults").await?;
    let world = World { info: cluster.info.clone() };
    let scenarios = match arguments.scenario {
        none if none.is_empty() => scenarios::usual(),
        some => some,
    };
    let options = Options {
        scenarios,
        faults: arguments.fault,
        parallel: arguments.parallel,
        busy: arguments.busy,
        sample: arguments.sample,
        seed: arguments.seed,
    };
    let table = run_all(&world, options).await?;
    println!("{table}");
    Ok(table.is_clean())
}

fn sibling(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.parent().context("no folder")?.join(name))
}
