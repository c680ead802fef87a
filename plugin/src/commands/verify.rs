//! `kubectl signing verify`.

mod find;
mod print;
mod view;

use std::collections::BTreeSet;

use clap::Args;
use signingkeyring_crds::PolicyAction;

use self::view::{Row, View};
use crate::{
    clock,
    cluster::Cluster,
    dry_run,
    error::{Error, Outcome},
    flags::{self, Report},
    judge::Judge,
    output, pods,
    screen::Screen,
};

/// Prove that the gate is closed now: dry runs of pods that have to be refused
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing verify checkout

  # with an image of one's own, and more often
  kubectl signing verify checkout --image registry.example/checkout/unsigned:1 --times 50

Asks in every namespace of the ring, or in that of -n alone, with your rights, for an
unsigned image, one of a version that is not accepted, and one of the version that signs, as
they are found among the ring's pods and the signatures of their images. Nothing is created.
Ends with 3 if one was admitted that has to be refused, if the signed one was not admitted,
or if there was nothing to ask for that has to be refused.")]
pub struct Verify {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// An image to ask for, too; may be repeated
    #[arg(long, value_name = "IMAGE")]
    image: Vec<String>,
    /// How often to ask for each in each namespace
    #[arg(
        long,
        default_value = "12",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    times: u32,
    #[command(flatten)]
    report: Report,
}

/// Proves it.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn run(
    command: &Verify,
    only: Option<&str>,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let ring = cluster.ring(&command.ring).await?;
    let judge = Judge::of(cluster, &ring, clock::now()).await?;
    judge.complain(screen);
    let mut namespaces: BTreeSet<String> =
        cluster.enrolled(&command.ring).await?.into_iter().collect();
    if let Some(only) = only {
        namespaces.retain(|namespace| namespace == only);
        if namespaces.is_empty() {
            cluster.labels_of(only).await?;
            return Err(Error::Failed(format!(
                "namespace {only} is not enrolled in ring {}: nothing is verified there by it",
                command.ring
            )));
        }
    }
    let pods = pods::of_namespaces(cluster, &namespaces).await?;
    let mut images: BTreeSet<String> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref())
        .flat_map(|spec| pods::images(spec, judge.kind))
        .collect();
    images.extend(command.image.iter().cloned());
    let found = judge.find(&images).await;
    let mut probes = find::probes(&judge, &found, &command.image);
    // A signature is an image, too, and nobody signed that.
    if !probes.iter().any(|probe| probe.kind == find::Kind::Unsigned) {
        let candidates = find::signatures(&found);
        let looked_at = judge.find(&candidates).await;
        probes.extend(find::unsigned(&judge, &looked_at));
        probes.sort_by_key(|probe| probe.kind);
    }
    let mut view = View::new(
        &command.ring,
        ring.spec.policy.action == PolicyAction::Audit,
        namespaces.len(),
        command.times,
    );
    view.only = only.map(str::to_owned);
    for namespace in &namespaces {
        for probe in &probes {
            let mut row = Row::new(namespace, probe);
            for _ in 0..command.times {
                row.count(dry_run::ask(cluster, namespace, &probe.image).await?);
            }
            view.rows.push(row);
        }
    }
    view.missing = find::missing(&probes);
    output::show(screen, command.report.output, &view, |_| print::lines(&view))?;
    Ok(Outcome::open_if(view.is_open()))
}
