//! `SigningKeyRing`: what an application asks for.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImageExclusion, SigningKeyRingStatus};

/// The image-signing key ring of one application.
///
/// The operator keeps a P-256 key pair per version, hands the newest one to
/// the application's pipelines and makes Kyverno refuse, in the namespaces
/// enrolled by label, every image that none of the accepted versions signed.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "signing.odj.cloud",
    version = "v1alpha1",
    kind = "SigningKeyRing",
    plural = "signingkeyrings",
    shortname = "skr",
    category = "signing",
    status = "SigningKeyRingStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKeyRingSpec {
    /// How many versions are accepted, the current one included.
    #[serde(default = "default_keep_versions")]
    pub keep_versions: u32,
    /// When versions are replaced.
    #[serde(default)]
    pub rotation: RotationSpec,
    /// Where the newest key goes. Never the operator's own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<Pipeline>,
    /// How images are checked.
    #[serde(default)]
    pub policy: PolicySpec,
}

/// When and how a version is replaced by the next one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationSpec {
    /// Rotate this often, for example `90d`; at least one hour. A ring is due
    /// up to a tenth of the period early, at a point of its own, so that a
    /// fleet does not rotate at once. Without it only the annotation
    /// `signing.odj.cloud/rotate` rotates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// How long Kyverno must have accepted a new key before a pipeline signs
    /// with it, for example `10s`.
    #[serde(default = "default_soak")]
    pub soak: String,
}

impl Default for RotationSpec {
    fn default() -> Self {
        Self { every: None, soak: default_soak() }
    }
}

/// A Secret that receives the newest key pair.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// The namespace of the Secret. Its owner grants the operator access by
    /// binding the ClusterRole `signingkeyring-pipeline` there.
    pub namespace: String,
    /// The name of the Secret.
    #[serde(default = "default_secret_name")]
    pub secret_name: String,
    /// The names under which the Secret holds the key.
    #[serde(default)]
    pub layout: Layout,
}

/// How a pipeline Secret names its entries.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `cosign.key`, `cosign.password`, `cosign.pub`: read by
    /// `cosign sign --key k8s://NAMESPACE/NAME`.
    #[default]
    Cosign,
    /// `COSIGN_PRIVATE_KEY`, `COSIGN_PASSWORD`, `COSIGN_PUBLIC_KEY`: for
    /// `envFrom` and `cosign sign --key env://COSIGN_PRIVATE_KEY`.
    Environment,
}

/// How Kyverno treats the ring's images.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Whether an image without a valid signature is refused or only reported.
    #[serde(default)]
    pub action: PolicyAction,
    /// Images that need no signature in this ring's namespaces, on top of
    /// every `ImageExclusionList` of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<ImageExclusion>,
}

/// What happens to a pod with an image that no accepted key signed.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyAction {
    /// The pod is refused.
    #[default]
    Enforce,
    /// The pod is admitted and Kyverno reports it.
    Audit,
}

fn default_keep_versions() -> u32 {
    3
}

fn default_soak() -> String {
    "10s".to_owned()
}

fn default_secret_name() -> String {
    "image-signing".to_owned()
}
