//! The chaos experiment: see `signingkeyring_e2e_chaos`.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use signingkeyring_e2e_chaos::{experiment, journal, run::Options, verdict};
use signingkeyring_e2e_testbed::{cluster::Cluster, kind::Kind};

/// Rotates rings on a real cluster while the operator, the API server and
/// Kyverno are killed, policies, webhooks and Secrets are deleted and edited,
/// the operator's rights are withdrawn, and its clock jumps. Ends with 1 if an invariant was violated: a
/// wrong image ever admitted, a right one refused, a key minted twice or lost.
///
/// SIGNING_POLICY_KIND says in which kind of policy the rings are.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same choices; another one each time without it.
    #[arg(long)]
    seed: Option<u64>,
    /// For how many minutes things are broken.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// How many rings.
    #[arg(long, default_value_t = 20)]
    rings: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let here = std::env::current_exe()?;
    let options = Options {
        seed,
        rings: arguments.rings,
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        guard: here.with_file_name("cluster"),
        operator: here.with_file_name("operator-under-test"),
    };
    eprintln!("== Seed {seed}: starting a cluster and {} rings", options.rings);
    let cluster = Cluster::start(&options.guard, "chaos").await?;
    let folder = cluster.info.folder.clone();
    let violations = tokio::select! {
        violations = chaos(cluster, options) => violations,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let kind = match Kind::under_test() {
        Kind::ClusterPolicy => String::new(),
        other => format!(" KIND={other}"),
    };
    let repeat = format!(
        "Repeat it with: make chaos SEED={seed} MINUTES={} RINGS={}{kind}",
        arguments.minutes, arguments.rings
    );
    println!("\n  {repeat}");
    println!(
        "  What happened when: {0}/chaos.log; the components' logs are beside it",
        folder.display()
    );
    ensure!(violations? == 0, "what must always hold did not; see {}", folder.display());
    Ok(())
}

async fn chaos(cluster: Cluster, options: Options) -> Result<usize> {
    let minutes = options.length.as_secs_f64() / 60.0;
    let run = experiment::prepare(cluster, options).await?;
    eprintln!(
        "== Ready after {:.0} s; breaking things for {minutes} min",
        run.journal.elapsed().as_secs_f64()
    );
    experiment::go(&run).await?;
    println!("\nSeed {}, {} rings, {minutes} min\n", run.options.seed, run.rings.len());
    println!("  rotations done   {}", verdict::rotations(&run));
    println!("  asked for        {}", run.journal.summary(journal::Kind::Request));
    println!("  faults injected  {}", run.journal.summary(journal::Kind::Fault));
    println!("  probes judged    {}", run.journal.summary(journal::Kind::Decided));
    println!("  probes undecided {}", run.journal.summary(journal::Kind::Undecided));
    let (violations, each) = run.journal.violations();
    println!("  violations       {violations}");
    for (invariant, count) in each {
        println!("    {invariant} {count}");
    }
    for line in run.journal.timings() {
        println!("  {line}");
    }
    Ok(violations)
}
