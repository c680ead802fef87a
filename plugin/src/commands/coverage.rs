//! `kubectl signing coverage`.

mod print;
mod view;

use std::collections::BTreeSet;

use clap::Args;
use kube::ResourceExt;

use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::Report,
    output, pods,
    screen::Screen,
};

/// Show which namespaces run pods that no ring verifies, and labels that name no ring
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing coverage

  # with the namespaces that run nothing
  kubectl signing coverage -o wide

Ends with 3 if pods run where no ring is.")]
pub struct Coverage {
    #[command(flatten)]
    report: Report,
}

/// Shows it.
///
/// # Errors
/// If it cannot be read.
pub async fn run(command: &Coverage, cluster: &Cluster, screen: &Screen) -> Result<Outcome, Error> {
    let rings: BTreeSet<String> =
        cluster.rings().await?.iter().map(ResourceExt::name_any).collect();
    let namespaces = cluster.namespaces().await?;
    let pods = pods::counts(cluster).await?;
    let owns = [cluster.operator_namespace.as_str(), cluster.kyverno_namespace.as_str()];
    let view = view::of(&namespaces, &pods, &rings, owns);
    let label = &cluster.enrolment_label;
    output::show(screen, command.report.output, &view, |wide| print::lines(&view, label, wide))?;
    Ok(Outcome::open_if(view.is_open()))
}
