//! `UnknownRings`: what the operator tells the guard.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The values of the enrolment label that name no ring, as the operator tells them to the
/// guard.
///
/// Written by the operator alone, one object in its own namespace. In namespaces with such
/// a label the guard (manifests/guard) lets nobody put a note of Kyverno's on a pod that
/// speaks of a policy that holds rings.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "signing.odj.cloud",
    version = "v1alpha1",
    kind = "UnknownRings",
    plural = "unknownrings",
    namespaced,
    derive = "Default",
    derive = "PartialEq"
)]
pub struct UnknownRingsSpec {
    /// The values.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub names: Vec<String>,
}
