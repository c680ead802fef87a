//! `ImageExclusionList`: images that no ring of the cluster has to sign.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::pattern::{host, no_official_tree, path_and_end};

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
    printcolumn = r#"{"name": "Images", "type": "string", "jsonPath": ".spec.images[*].image"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ImageExclusionListSpec {
    /// The images that need no signature.
    #[serde(default)]
    #[schemars(length(max = 300))]
    pub images: Vec<ImageExclusion>,
}

/// One exclusion from the signature check.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageExclusion {
    /// What is excluded: a tree of repositories (`quay.io/jetstack/*`), a
    /// repository with every tag and digest (`docker.io/library/redis:*`), tags by
    /// prefix (`quay.io/org/app:1.*`), one tag or one digest. An image
    /// without a registry host is one of Docker Hub. A tree, a repository and a
    /// digest cover an image however it is written, with a tag, a digest or
    /// both; a tag covers it with a digest behind the tag only while the tag
    /// points to that digest, and Kyverno can look that up without a Pod's own
    /// pull secrets. Pods that name a host in upper case or by an
    /// IPv6 address are refused, whatever is excluded.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[^*?]*[*]?$') && (!self.endsWith('*') || self.matches('^[^*]+/[*]$') || self.matches('^[^*]*:[^/*]*[*]$'))").message("image: a wildcard stands only at the end, after a slash (quay.io/org/*) or in the tag (quay.io/org/app:*), never in the host"))]
    #[x_kube(validation = Rule::new(host()).message("image: what stands before the first slash is neither a registry's host, such as quay.io or localhost:5000, nor a part of a path in lower case"))]
    #[x_kube(validation = Rule::new(path_and_end()).message("image must be an image reference in lower case without a scheme, for example quay.io/org/app:*"))]
    #[x_kube(validation = Rule::new(no_official_tree()).message("image: pods name official images without library/, so name each of them, for example docker.io/library/redis:*"))]
    pub image: String,
    /// Why no signature is needed.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub owner: Option<String>,
    /// The last day (UTC) on which it counts, for example `2027-01-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))$') || self.matches('^([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29$')").message("expires must be a date that exists, such as 2027-01-31"))]
    pub expires: Option<String>,
}
