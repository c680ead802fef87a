//! Kyverno's ClusterPolicy as the client sees it: a kind without Rust types.

use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use signingkeyring_core::{marks::Marks, names, policy_ref::PolicyRef};

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

/// The UID and generation of the CRD of the gate's questions under which a policy was written.
#[must_use]
pub fn asked_by(policy: &DynamicObject) -> Option<&str> {
    policy.annotations().get(names::ANNOTATION_QUESTIONS).map(String::as_str)
}

/// Whether a policy was written by this operator: it has our label or our
/// annotation, and a name of ours. One of the two is enough, so that an edit
/// that removes the other is undone; a copy under another name is not ours.
#[must_use]
pub fn is_ours(policy: &DynamicObject) -> bool {
    let labelled_or_annotated =
        policy.labels().get(names::LABEL_MANAGED_BY).is_some_and(|value| value == names::MANAGER)
            || policy.annotations().contains_key(names::ANNOTATION_MARKS);
    labelled_or_annotated && policy.name_any().parse::<PolicyRef>().is_ok()
}

/// What a policy says of its rings; nothing if that cannot be read.
#[must_use]
pub fn marks(policy: &DynamicObject) -> Marks {
    policy
        .annotations()
        .get(names::ANNOTATION_MARKS)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
