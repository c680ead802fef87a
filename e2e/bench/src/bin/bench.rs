//! What fleets of rings cost: see `signingkeyring_e2e_bench`.

use std::{fs, path::PathBuf, thread::available_parallelism, time::Duration};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use signingkeyring_e2e_bench::{
    bed::{Arrangement, guard},
    fleet::{
        report,
        rest::{self, Rest},
        waves::{self, Wave},
    },
    images::Images,
};
use signingkeyring_e2e_testbed::{cluster::Cluster, kind::Kind, tools, world::World};

/// Measures the operator with many rings: what they take at rest, and what it takes when
/// many want something at once, for each kind of policy. Prints tables; JSON and plots
/// are beside them. All of it takes hours; choose what you need.
#[derive(Parser)]
struct Arguments {
    /// The numbers of rings at rest. Without numbers this is left out.
    #[arg(long, num_args = 0.., value_delimiter = ',', default_value = "10,100,1000,10000")]
    rings: Vec<usize>,
    /// Up to how many rings there is one with a policy for each ring, too, to compare.
    #[arg(long, default_value_t = 1000)]
    naive: usize,
    /// How many rings are born and rotate at once. Without numbers this is left out.
    #[arg(long, num_args = 0.., value_delimiter = ',', default_value = "300,1000")]
    waves: Vec<usize>,
    /// How many of them revoke a key while the others rotate.
    #[arg(long, default_value_t = 50)]
    revoked: usize,
    /// Of which kinds of policy.
    #[arg(long, value_delimiter = ',', value_parser = kind, default_value = "ClusterPolicy,ImageValidatingPolicy")]
    kinds: Vec<Kind>,
    /// How many rings share a ClusterPolicy. This is the operator's own number.
    #[arg(long, default_value_t = 12)]
    cluster_policy_pack: usize,
    /// How many rings share an ImageValidatingPolicy. This is the operator's own number.
    #[arg(long, default_value_t = 32)]
    image_validating_pack: usize,
    /// How many pods are asked for in each namespace.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// How many seconds anything may take until it counts as never.
    #[arg(long, default_value_t = 900)]
    patience: u64,
    /// The operator's program, if not the one that was built with this.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
}

fn kind(name: &str) -> Result<Kind, String> {
    let named = Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name));
    named.ok_or_else(|| format!("one of {:?}", Kind::ALL.map(Kind::as_str)))
}

/// What accepted keys a ring has by default.
const KEYS: usize = 3;

/// What was measured, as JSON.
#[derive(Default, Serialize)]
struct Measured {
    cores: usize,
    rest: Vec<Rest>,
    waves: Vec<Wave>,
}

impl Measured {
    /// Written after each step: all of it takes hours.
    fn write(&self) -> Result<PathBuf> {
        let folder = tools::folder().join("bench");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("bench.json"), serde_json::to_string_pretty(self)?)?;
        fs::write(folder.join("bench.md"), self.tables())?;
        report::plots(&folder, &self.rest, &self.waves)?;
        Ok(folder)
    }

    fn tables(&self) -> String {
        let mut tables = format!("{} cores\n\n", self.cores);
        if !self.waves.is_empty() {
            tables += &format!("{}\n", report::waves(&self.waves));
        }
        if !self.rest.is_empty() {
            tables += &format!("{}\n{}\n", report::rest(&self.rest), report::others(&self.rest));
        }
        tables
    }
}

impl Arguments {
    fn arrangement(&self, kind: Kind, rings: usize) -> Arrangement {
        let pack = match kind {
            Kind::ClusterPolicy => self.cluster_policy_pack,
            Kind::ImageValidatingPolicy => self.image_validating_pack,
        };
        Arrangement { kind, rings, pack, keys: KEYS }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        result = bench(&arguments) => result,
        // The clusters end with this process.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let patience = Duration::from_secs(arguments.patience);
    let program = match &arguments.operator {
        Some(program) => program.canonicalize()?,
        None => tools::built("signingkeyring-operator")?,
    };
    let registry = Cluster::start(&guard()?, "bench-registry").await?;
    let images = Images::push(&World { info: registry.info.clone() }).await?;
    let mut measured = Measured { cores: available_parallelism()?.get(), ..Measured::default() };
    for &rings in &arguments.waves {
        for &kind in &arguments.kinds {
            eprintln!("== {rings} rings at once, {kind}");
            let arrangement = arguments.arrangement(kind, rings);
            let revoked = arguments.revoked.min(rings);
            measured
                .waves
                .extend(waves::measure(arrangement, revoked, program.clone(), patience).await?);
            measured.write()?;
        }
    }
    for &rings in &arguments.rings {
        for &kind in &arguments.kinds {
            let usual = arguments.arrangement(kind, rings);
            let naive = (rings <= arguments.naive).then_some(Arrangement { pack: 1, ..usual });
            for arrangement in [usual].into_iter().chain(naive) {
                eprintln!("== {rings} rings at rest, {} to a {kind}", arrangement.pack);
                let rest = rest::measure(
                    arrangement,
                    program.clone(),
                    &images,
                    arguments.rounds,
                    patience,
                );
                measured.rest.push(rest.await?);
                measured.write()?;
            }
        }
    }
    println!("{}", measured.tables());
    println!("As JSON, and plots: {}", measured.write()?.display());
    Ok(())
}
