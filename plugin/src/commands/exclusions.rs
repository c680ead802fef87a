//! `kubectl signing exclusions`.

mod print;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use kube::{Api, ResourceExt, api::ListParams, core::DeserializeGuard};
use signingkeyring_core::policy_ref::PolicyKind;
use signingkeyring_crds::ImageExclusionList;

use crate::{
    clock,
    cluster::{Cluster, list},
    error::{Error, Outcome},
    flags::Report,
    output, pods,
    screen::Screen,
};

/// Show what needs no signature: who says so, who runs it, and what is redundant, expired
/// or never used
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing exclusions

  # with owners and reasons, and what expires within a month
  kubectl signing exclusions -o wide --expiring 30d

Ends with 3 if an entry has expired, is about to, or cannot be read.")]
pub struct Exclusions {
    /// What counts as about to expire, in days (d) or hours (h)
    #[arg(long, default_value = "14d", value_parser = duration, value_name = "TIME")]
    expiring: std::time::Duration,
    #[command(flatten)]
    report: Report,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    signingkeyring_core::duration::parse(text).map_err(|error| error.to_string())
}

/// Shows them.
///
/// # Errors
/// If they cannot be read.
pub async fn run(
    command: &Exclusions,
    cluster: &Cluster,
    screen: &Screen,
) -> Result<Outcome, Error> {
    let lists: Api<DeserializeGuard<ImageExclusionList>> = Api::all(cluster.client.clone());
    let lists = list(&lists, ListParams::default(), "exclusion lists").await?;
    let rings = cluster.rings().await?;
    let mut enrolled: BTreeMap<String, String> = BTreeMap::new();
    for (namespace, ring) in cluster.namespaces().await? {
        if let Some(ring) = ring {
            enrolled.insert(namespace, ring);
        }
    }
    let namespaces: BTreeSet<String> = enrolled.keys().cloned().collect();
    let pods = pods::of_namespaces(cluster, &namespaces).await?;
    let mut running = Vec::new();
    for pod in &pods {
        let ring = pod.namespace().and_then(|namespace| enrolled.get(&namespace));
        if let (Some(ring), Some(spec)) = (ring, &pod.spec) {
            // Of one kind volumes need exclusions, too.
            let images = pods::images(spec, PolicyKind::ImageValidatingPolicy);
            let workload = pods::workload(pod);
            running.push(view::Running { ring: ring.clone(), workload, images });
        }
    }
    let now = clock::now();
    let view = view::of(&lists, &rings, &running, command.expiring, now);
    output::show(screen, command.report.output, &view, |wide| print::lines(&view, now, wide))?;
    Ok(Outcome::open_if(view.is_open()))
}
