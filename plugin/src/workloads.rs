//! What runs in namespaces, and what would start there again: each with its images.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
};
use kube::{Api, api::ListParams};
use serde::Serialize;
use signingkeyring_core::policy_ref::PolicyKind;

use crate::{
    cluster::{Cluster, list},
    error::Error,
    pods,
};

/// Something that has pods, or would.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub namespace: String,
    pub kind: &'static str,
    pub name: String,
    /// How many pods of it run with these images.
    pub pods: usize,
    /// The images, once each.
    pub images: Vec<String>,
}

/// All workloads of namespaces, with the images that a kind of policy verifies.
///
/// # Errors
/// If they cannot be listed.
pub async fn of_namespaces(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
    kind: PolicyKind,
) -> Result<Vec<Workload>, Error> {
    let read = read::Reader(kind);
    let mut all = read.pods(&pods::of_namespaces(cluster, namespaces).await?);
    for namespace in namespaces {
        let client = || cluster.client.clone();
        let what = |kind: &str| format!("{kind} of namespace {namespace}");
        let params = ListParams::default;
        let deployments: Vec<Deployment> =
            list(&Api::namespaced(client(), namespace), params(), &what("Deployments")).await?;
        all.extend(deployments.iter().filter_map(|object| read.deployment(object)));
        let sets: Vec<ReplicaSet> =
            list(&Api::namespaced(client(), namespace), params(), &what("ReplicaSets")).await?;
        all.extend(sets.iter().filter_map(|object| read.replica_set(object)));
        let sets: Vec<StatefulSet> =
            list(&Api::namespaced(client(), namespace), params(), &what("StatefulSets")).await?;
        all.extend(sets.iter().filter_map(|object| read.stateful_set(object)));
        let sets: Vec<DaemonSet> =
            list(&Api::namespaced(client(), namespace), params(), &what("DaemonSets")).await?;
        all.extend(sets.iter().filter_map(|object| read.daemon_set(object)));
        let what_revisions = what("ControllerRevisions");
        let revisions: Vec<ControllerRevision> =
            list(&Api::namespaced(client(), namespace), params(), &what_revisions).await?;
        all.extend(revisions.iter().filter_map(|object| read.revision(object)));
        let jobs: Vec<Job> =
            list(&Api::namespaced(client(), namespace), params(), &what("Jobs")).await?;
        all.extend(jobs.iter().filter_map(|object| read.job(object)));
        let jobs: Vec<CronJob> =
            list(&Api::namespaced(client(), namespace), params(), &what("CronJobs")).await?;
        all.extend(jobs.iter().filter_map(|object| read.cron_job(object)));
    }
    Ok(merged(all))
}

/// Those that are alike are one: the pods of a controller, and a revision that is in use.
fn merged(all: Vec<Workload>) -> Vec<Workload> {
    let mut merged: BTreeMap<(String, &'static str, String, Vec<String>), usize> = BTreeMap::new();
    for workload in all {
        let key = (workload.namespace, workload.kind, workload.name, workload.images);
        *merged.entry(key).or_default() += workload.pods;
    }
    let rows = merged.into_iter();
    rows.map(|((namespace, kind, name, images), pods)| Workload {
        namespace,
        kind,
        name,
        pods,
        images,
    })
    .collect()
}
