//! Kyverno's ClusterPolicy as the client sees it: a kind without Rust types.

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

/// The kind's address in the API.
#[must_use]
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("kyverno.io", "v1", "ClusterPolicy");
    ApiResource::from_gvk_with_plural(&kind, "clusterpolicies")
}

/// The kind's client.
#[must_use]
pub fn api(client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &resource())
}
