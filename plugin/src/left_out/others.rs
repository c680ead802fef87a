//! Policies and exceptions of others that bear on the pods of a namespace.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;
use signingkeyring_core::{
    omissions::{
        Look, OtherException, PolicyException, Seen, TenantKind, TenantPolicies, TenantPolicy,
    },
    policy::cluster_policy::rule_names,
    policy_ref::PolicyRef,
};
use signingkeyring_crds::SigningKeyRing;

use super::unseen;
use crate::{
    cluster::{Cluster, list_page_by_page},
    error::is_code,
    policy,
};

/// Adds the policies of a namespace, and the exceptions of all: those may except what is in
/// another one.
pub async fn look(cluster: &Cluster, namespace: &str, seen: &mut Seen) {
    let policies = TenantKind::ALL.iter().map(|kind| async move {
        let (group, version) = kind.api();
        let found = all(
            cluster,
            (group, version, kind.as_str()),
            Some(namespace),
            |namespace, name, spec| TenantPolicy::read(*kind, namespace, name, spec),
        );
        (*kind, found.await.map(|found| found.into_iter().collect::<TenantPolicies>()))
    });
    seen.policies = join_all(policies).await.into_iter().collect();
    let exceptions = ("kyverno.io", "v2", "PolicyException");
    seen.exceptions = all(cluster, exceptions, None, PolicyException::read).await;
    let exceptions = ("policies.kyverno.io", "v1", "PolicyException");
    seen.other_exceptions = all(cluster, exceptions, None, |namespace, name, spec| {
        Some(OtherException::read(namespace, name, spec))
    })
    .await;
}

/// The names of a ring's rules in its policy, for exceptions name those. Who may not read
/// the policy goes by what the ring's status says.
pub async fn rules(
    cluster: &Cluster,
    ring: &SigningKeyRing,
    seen: &Seen,
) -> BTreeMap<PolicyRef, Vec<String>> {
    let placed = ring.status.as_ref().and_then(|status| status.policy.as_ref());
    let Some(placed) = placed.filter(|_| seen.has_exceptions()) else { return BTreeMap::new() };
    let Ok(named) = placed.name.parse() else { return BTreeMap::new() };
    let names = match policy::spec(cluster, ring).await {
        Ok(Some(spec)) => rule_names(&spec, &ring.name_any()),
        _ => vec![placed.rule.clone()],
    };
    BTreeMap::from([(named, names)])
}

/// All objects of a kind, read by namespace, name and spec. Of a kind that is not served
/// there are none.
async fn all<T>(
    cluster: &Cluster,
    (group, version, kind): (&str, &str, &str),
    namespace: Option<&str>,
    read: impl Fn(&str, &str, &Value) -> Option<T>,
) -> Look<Vec<T>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    match list_page_by_page(&api, ListParams::default()).await {
        Ok(found) => Ok(found
            .iter()
            .filter_map(|object| {
                let spec = object.data.get("spec").unwrap_or(&Value::Null);
                read(&object.namespace().unwrap_or_default(), &object.name_any(), spec)
            })
            .collect()),
        Err(error) if is_code(&error, 404) => Ok(Vec::new()),
        Err(error) => Err(unseen(&error)),
    }
}
