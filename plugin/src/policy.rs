//! The policy in which a ring's rule is.

use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;
use signingkeyring_crds::SigningKeyRing;

use crate::{cluster::Cluster, error::Error, ring::policy_kind};

/// Its spec; nothing of a ring that has no rule yet.
///
/// # Errors
/// If it cannot be read.
pub async fn spec(cluster: &Cluster, ring: &SigningKeyRing) -> Result<Option<Value>, Error> {
    let kind = policy_kind(ring);
    let policy = ring.status.as_ref().and_then(|status| status.policy.as_ref());
    let Some(policy) = policy else { return Ok(None) };
    let (group, version) = kind.api_version().split_once('/').unwrap_or_default();
    let gvk = GroupVersionKind::gvk(group, version, kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let what = || format!("{} {}", kind.as_str(), policy.name);
    let mut found = api.get(&policy.name).await.map_err(|error| Error::api(what(), error))?;
    Ok(found.data.get_mut("spec").map(Value::take))
}
