//! What each kind of policy costs: see `signingkeyring_e2e_bench`.

use std::{fs, thread::available_parallelism};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use signingkeyring_e2e_bench::{
    asked,
    bed::{Arrangement, Bed, guard},
    images::Images,
    sizes,
    tables::{self, Row, Varies},
};
use signingkeyring_e2e_testbed::{cluster::Cluster, kind::Kind, tools, world::World};

/// Measures what a pod pays at the API server for each kind of policy: by the number of
/// rings, of rings in a policy and of keys. All clusters of a table stand side by side
/// and are asked in turn, some 700 MB each; 1,000 rings take some minutes to restore.
#[derive(Parser)]
struct Arguments {
    /// The numbers of rings. A list without numbers leaves its table out.
    #[arg(long, num_args = 0.., value_delimiter = ',', default_value = "25,1000")]
    rings: Vec<usize>,
    /// How many rings share a ClusterPolicy, where that does not vary. These are the
    /// operator's own numbers.
    #[arg(long, default_value_t = 12)]
    cluster_policy_pack: usize,
    /// How many rings share an ImageValidatingPolicy, where that does not vary.
    #[arg(long, default_value_t = 32)]
    image_validating_pack: usize,
    /// The numbers of rings in a policy.
    #[arg(long, num_args = 0.., value_delimiter = ',', default_value = "5,10,25,50")]
    packs: Vec<usize>,
    /// How many rings there are where their number does not vary.
    #[arg(long, default_value_t = 300)]
    usual_rings: usize,
    /// The numbers of keys that each ring accepts.
    #[arg(long, num_args = 0.., value_delimiter = ',', default_value = "1,3,10")]
    keys: Vec<usize>,
    /// How many pods are asked for in each namespace of each cluster.
    #[arg(long, default_value_t = 300)]
    rounds: usize,
}

/// What accepted keys a ring has by default.
const KEYS: usize = 3;

/// What was measured, as JSON.
#[derive(Serialize)]
struct Measured {
    cores: usize,
    rounds: usize,
    tables: Vec<Table>,
}

#[derive(Serialize)]
struct Table {
    varies: Varies,
    rows: Vec<Row>,
}

impl Arguments {
    fn pack(&self, kind: Kind) -> usize {
        match kind {
            Kind::ClusterPolicy => self.cluster_policy_pack,
            Kind::ImageValidatingPolicy => self.image_validating_pack,
        }
    }

    fn arrangements(&self, varies: Varies) -> Vec<Arrangement> {
        let numbers = match varies {
            Varies::Rings => &self.rings,
            Varies::Pack => &self.packs,
            Varies::Keys => &self.keys,
        };
        let each = numbers.iter().flat_map(|number| Kind::ALL.map(|kind| (*number, kind)));
        each.map(|(number, kind)| {
            let usual =
                Arrangement { kind, rings: self.usual_rings, pack: self.pack(kind), keys: KEYS };
            match varies {
                Varies::Rings => Arrangement { rings: number, ..usual },
                Varies::Pack => Arrangement { pack: number, ..usual },
                Varies::Keys => Arrangement { keys: number, ..usual },
            }
        })
        .collect()
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
    eprintln!("== Starting a registry, and signing images");
    let registry = Cluster::start(&guard()?, "bench-registry").await?;
    let images = Images::push(&World { info: registry.info.clone() }).await?;
    let mut measured = Measured {
        cores: available_parallelism()?.get(),
        rounds: arguments.rounds,
        tables: Vec::new(),
    };
    let path = tools::folder().join("bench-kinds.json");
    println!("{} cores, {} pods in each namespace\n", measured.cores, measured.rounds);
    for varies in [Varies::Rings, Varies::Pack, Varies::Keys] {
        let arrangements = arguments.arrangements(varies);
        if arrangements.is_empty() {
            continue;
        }
        let rows = rows(&arrangements, &images, arguments.rounds).await?;
        println!("{}\n{}", tables::admission(varies, &rows), tables::slope(varies, &rows));
        println!("{}", tables::sizes(&rows));
        if varies == Varies::Rings {
            println!("{}", tables::breaks(&rows));
        }
        measured.tables.push(Table { varies, rows });
        fs::write(&path, serde_json::to_string_pretty(&measured)?)?;
    }
    println!("As JSON: {}", path.display());
    Ok(())
}

/// Prepares all clusters of a table, and asks them in turn.
async fn rows(arrangements: &[Arrangement], images: &Images, rounds: usize) -> Result<Vec<Row>> {
    eprintln!("== {} clusters, one after the other", arrangements.len());
    let mut beds = Vec::with_capacity(arrangements.len());
    for arrangement in arrangements {
        beds.push(Bed::prepare(*arrangement, images).await?);
    }
    eprintln!("== Asking");
    let places: Vec<_> = beds.iter().map(Bed::asked).collect();
    let asked = asked::ask(&places, images, rounds).await?;
    let mut rows = Vec::with_capacity(beds.len());
    for (bed, admission) in beds.iter().zip(asked) {
        rows.push(Row {
            arrangement: bed.arrangement,
            admission,
            configurations: bed.configurations,
            policy: sizes::policy(&bed.client, bed.arrangement.kind).await?,
            memory: bed.memory()?,
        });
    }
    Ok(rows)
}
