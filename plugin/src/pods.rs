//! Pods, and the images that they name.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::{Api, ResourceExt, api::ListParams};
use signingkeyring_core::policy_ref::PolicyKind;

use crate::{
    cluster::{Cluster, list},
    error::Error,
};

/// With more namespaces than this, one asks for the pods of all of the cluster.
const FEW: usize = 8;

/// The images that a pod names and that a kind of policy verifies, once each, in the order
/// of its containers: one of them verifies volumes, too.
pub fn images(spec: &PodSpec, kind: PolicyKind) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let named = containers.filter_map(|container| container.image.as_ref());
    let named = named.chain(ephemeral.filter_map(|container| container.image.as_ref()));
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
    let volumes = volumes.filter(|_| kind == PolicyKind::ImageValidatingPolicy);
    let named = named.chain(volumes.filter_map(|volume| volume.reference.as_ref()));
    let mut seen = BTreeSet::new();
    named.filter(|image| seen.insert((*image).clone())).cloned().collect()
}

/// What a pod is of, with its namespace: its Deployment, another controller, or itself.
pub fn workload(pod: &Pod) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let Some(owner) = owner else { return format!("{namespace}/Pod {}", pod.name_any()) };
    // A Deployment names its ReplicaSets after itself and a hash, which pods have as a label.
    let hash = pod.labels().get("pod-template-hash").filter(|_| owner.kind == "ReplicaSet");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    match deployment {
        Some(name) => format!("{namespace}/Deployment {name}"),
        None => format!("{namespace}/{} {}", owner.kind, owner.name),
    }
}

/// The pods of these namespaces.
///
/// # Errors
/// If they cannot be listed.
pub async fn of_namespaces(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<Pod>, Error> {
    if namespaces.len() > FEW {
        match list(&Api::<Pod>::all(cluster.client.clone()), ListParams::default(), "pods").await {
            Ok(pods) => {
                let is_of_them = |pod: &Pod| {
                    pod.metadata.namespace.as_ref().is_some_and(|name| namespaces.contains(name))
                };
                return Ok(pods.into_iter().filter(is_of_them).collect());
            }
            // One may see those of one's own namespaces.
            Err(error) if error.is_code(403) => {}
            Err(error) => return Err(error),
        }
    }
    let mut pods = Vec::new();
    for namespace in namespaces {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let what = format!("pods of namespace {namespace}");
        pods.extend(list(&api, ListParams::default(), &what).await?);
    }
    Ok(pods)
}

/// How many pods each namespace has.
///
/// # Errors
/// If they cannot be listed.
pub async fn counts(cluster: &Cluster) -> Result<BTreeMap<String, usize>, Error> {
    let api: Api<Pod> = Api::all(cluster.client.clone());
    let mut params = ListParams::default().limit(1000);
    let mut counts = BTreeMap::new();
    loop {
        let page = api.list_metadata(&params).await.map_err(|error| Error::api("pods", error))?;
        for pod in page.items {
            *counts.entry(pod.namespace().unwrap_or_default()).or_default() += 1;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(counts),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_pod_is_of_who_made_it() {
        let pod = |kind: Option<&str>, hash: Option<&str>| -> Pod {
            let owner = kind.map(|kind| {
                json!({"apiVersion": "apps/v1", "kind": kind, "name": "web-5d9", "uid": "u",
                       "controller": true})
            });
            let owners: Vec<_> = owner.into_iter().collect();
            let metadata = json!({"name": "p", "namespace": "dev", "ownerReferences": owners,
                                  "labels": {"pod-template-hash": hash.unwrap_or_default()}});
            from_value(json!({ "metadata": metadata })).unwrap()
        };
        assert_eq!(workload(&pod(Some("ReplicaSet"), Some("5d9"))), "dev/Deployment web");
        assert_eq!(workload(&pod(Some("ReplicaSet"), Some("x"))), "dev/ReplicaSet web-5d9");
        assert_eq!(workload(&pod(Some("Job"), Some("5d9"))), "dev/Job web-5d9");
        assert_eq!(workload(&pod(None, Some("5d9"))), "dev/Pod p");
    }
}
