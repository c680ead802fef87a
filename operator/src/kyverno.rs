//! Kyverno's policies as the client sees them: kinds without Rust types.

use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use signingkeyring_core::{
    marks::Marks,
    names,
    policy::image_validating::pin,
    policy_ref::{PolicyKind, PolicyRef},
};

mod object;

pub use object::Object;

/// A kind's address in the API.
#[must_use]
pub fn resource(kind: PolicyKind) -> ApiResource {
    of(kind.api_version(), kind.as_str(), kind.plural())
}

/// The address of the kind of the objects that go with policies.
#[must_use]
pub fn companions() -> ApiResource {
    of("policies.kyverno.io/v1", pin::KIND, "mutatingpolicies")
}

fn of(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A kind's client.
#[must_use]
pub fn api(client: Client, resource: &ApiResource) -> Api<DynamicObject> {
    Api::all_with(client, resource)
}

/// The UID and generation of the CRD of the gate's questions under which a policy was written.
#[must_use]
pub fn asked_by(policy: &Object) -> Option<&str> {
    policy.annotations().get(names::ANNOTATION_QUESTIONS).map(String::as_str)
}

/// Whether a policy was written by this operator: it has our label or our
/// annotation, and a name of ours. One of the two is enough, so that an edit
/// that removes the other is undone; a copy under another name is not ours.
#[must_use]
pub fn is_ours(policy: &Object) -> bool {
    is_marked(policy) && policy.name_any().parse::<PolicyRef>().is_ok()
}

/// Whether it has our label or our annotation.
#[must_use]
pub fn is_marked(object: &Object) -> bool {
    object.labels().get(names::LABEL_MANAGED_BY).is_some_and(|value| value == names::MANAGER)
        || object.annotations().contains_key(names::ANNOTATION_MARKS)
}

/// What a policy says of its rings; nothing if that cannot be read.
#[must_use]
pub fn marks(policy: &Object) -> Marks {
    policy.marks().clone()
}
