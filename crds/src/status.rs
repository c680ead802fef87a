//! The status of a `SigningKeyRing`: a report, rebuilt from the ledger.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator knows of a ring.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyRingStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The value of the annotation `signing.odj.cloud/rotate` whose version is
    /// current; wait for it to see a rotation done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_rotation: Option<String>,
    /// The version that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>")]
    pub current_version: Option<u32>,
    /// The versions whose signatures are accepted, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<i32>")]
    pub accepted_versions: Vec<u32>,
    /// How many namespaces carry the ring's label.
    #[serde(default)]
    #[schemars(with = "i32")]
    pub enrolled_namespaces: u32,
    /// When the schedule rotates next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// Every version the ledger knows, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionStatus>,
    /// Where the ring's rule is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// The Secrets that receive the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<PipelineStatus>,
    /// Standard conditions: `Ready`, `Reconciling`, `Stalled` (kstatus),
    /// `KeysAvailable`, `PolicyEnforced`, `EnforcementComplete`, `PipelinesPublished`, and
    /// `RevocationsApplied` while `spec.revoked` is not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One version of the ring's key.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The version's number; never given out twice.
    #[schemars(with = "i32")]
    pub version: u32,
    /// What the version is good for.
    pub state: VersionState,
    /// `SHA256:` and the base64 of SHA-256 over the DER SubjectPublicKeyInfo.
    pub fingerprint: String,
    /// The public key as PEM.
    pub public_key: String,
    /// When the key pair was generated.
    pub created_at: Time,
    /// What called for it; without one that was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<VersionCause>,
    /// When Kyverno had accepted it for the whole soak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Time>,
    /// When it began to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Time>,
    /// When it was retired or revoked; without one that was not recorded, or it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How it was retired or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<VersionEnd>,
}

/// What called for a version.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionCause {
    /// The ring had none.
    First,
    /// A key pair that existed already was taken over (`spec.importFrom`).
    Import,
    /// It was generated to stand by, and nothing has called for it yet.
    Standby,
    /// The annotation `signing.odj.cloud/rotate`.
    Token,
    /// `spec.rotation.every`.
    Schedule,
    /// The version that signed was revoked.
    Revocation,
    /// The ring's ledger was lost.
    Recovery,
}

/// How a version went out of force.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionEnd {
    /// Another one began to sign, and `spec.keepVersions` are accepted.
    Rotation,
    /// `spec.keepVersions` became smaller.
    Window,
    /// It was given up before it signed.
    Discard,
    /// It was named in `spec.revoked`.
    Revocation,
    /// The ring's ledger was lost.
    Recovery,
}

/// What a version is good for.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionState {
    /// Generated; Kyverno is being told.
    Pending,
    /// Accepted; waits to replace the version that signs.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies only.
    Accepted,
    /// Fell out of the window: its images are refused.
    Retired,
    /// Taken out for ever: its images are refused.
    Revoked,
}

/// The rule that Kyverno enforces for the ring.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The kind of the policy.
    pub kind: String,
    /// The name of the policy.
    pub name: String,
    /// The name of the ring's rule in it.
    pub rule: String,
    /// Why the rule is in a policy of this kind, or on its way to one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}

/// A Secret that receives the newest key.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub secret_name: String,
    /// The version the Secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>")]
    pub version: Option<u32>,
    /// `Published`, or why it is not.
    pub state: String,
}
