//! `ImageExclusionList`: images that no ring of the cluster has to sign.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Images that need no signature anywhere in the cluster.
///
/// Several lists may exist, one per cloud provider, team or reason; all that
/// a cluster holds apply.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "signing.odj.cloud",
    version = "v1alpha1",
    kind = "ImageExclusionList",
    plural = "imageexclusionlists",
    shortname = "iel",
    category = "signing",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ImageExclusionListSpec {
    /// The images that need no signature.
    #[serde(default)]
    pub images: Vec<ImageExclusion>,
}

/// One exclusion from the signature check.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageExclusion {
    /// What is excluded: a tree of repositories (`quay.io/jetstack/*`), a
    /// repository with every tag and digest (`docker.io/library/redis:*`), tags by
    /// prefix (`quay.io/org/app:1.*`), one tag or one digest. An image
    /// without a registry host is one of Docker Hub.
    pub image: String,
    /// Why no signature is needed.
    pub reason: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The last day (UTC) on which it counts, for example `2027-01-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}
