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
    printcolumn = r#"{"name": "Current", "type": "integer", "jsonPath": ".status.currentVersion", "description": "The version that signs"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.acceptedVersions", "description": "The versions whose signatures are accepted"}"#,
    printcolumn = r#"{"name": "Namespaces", "type": "integer", "jsonPath": ".status.enrolledNamespaces", "description": "How many namespaces are enrolled"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Policy", "type": "string", "jsonPath": ".status.policy.name", "priority": 1}"#,
    printcolumn = r#"{"name": "Fingerprint", "type": "string", "jsonPath": ".status.versions[?(@.state==\"Current\")].fingerprint", "priority": 1}"#,
    printcolumn = r#"{"name": "Next rotation", "type": "string", "jsonPath": ".status.nextRotationTime", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#,
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("metadata.name must be a DNS label of at most 63 characters (a-z, 0-9 and -), such as the application's name: it becomes a label value and a rule's name"),
    validation = Rule::new("self.metadata.name != 'signing-gate'").message("metadata.name signing-gate is reserved; name the ring after its application"),
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKeyRingSpec {
    /// How many versions are accepted, the current one included.
    #[serde(default = "default_keep_versions")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10").message("keepVersions must be between 1 and 10"))]
    #[schemars(with = "i32")]
    pub keep_versions: u32,
    /// When versions are replaced.
    #[serde(default)]
    pub rotation: RotationSpec,
    /// Where the newest key goes: each Secret once, and never the operator's
    /// own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "secretName".into()]))]
    pub pipelines: Vec<Pipeline>,
    /// How images are checked.
    #[serde(default)]
    pub policy: PolicySpec,
    /// Versions that are taken out for ever: their images are refused at once,
    /// their private keys destroyed. Revoking the one that signs has the next
    /// one minted by itself. Taking an entry out again changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub revoked: Vec<Revocation>,
    /// Freeze the versions: none is minted, switched or retired. Drift is
    /// still undone and revocations still apply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Take over an existing cosign key pair as version 1. Read once, before
    /// there is a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_from: Option<ImportSource>,
}

/// A version that is taken out.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.version) != has(self.fingerprint)").message("name what is revoked by its version or by its fingerprint, one of the two"))]
pub struct Revocation {
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000000000").message("version must be the number of a version: 1 or more"))]
    #[schemars(with = "Option<i32>")]
    pub version: Option<u32>,
    /// Its fingerprint as the status shows it. Other than a number it means
    /// the same key after an older ledger was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^SHA256:[A-Za-z0-9+/]{43}=$')").message("fingerprint must be one that the ring's status shows: SHA256: and 44 characters of base64"))]
    pub fingerprint: Option<String>,
    /// Why, for whoever asks later.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
}

/// Where an existing key pair is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportSource {
    /// The Secret that `cosign generate-key-pair k8s://NAMESPACE/NAME` makes:
    /// `cosign.key`, `cosign.password`, `cosign.pub` (which may be missing).
    pub secret: SecretName,
}

/// A Secret by its namespace and name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// Its namespace.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("namespace must be the name of a namespace: a-z, 0-9 and -, at most 63 characters"))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("name must be the name of a Secret: a-z, 0-9, - and ., for example cosign"))]
    pub name: String,
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
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9][0-9]{0,4}[dh]|([6-9][0-9]|[1-9][0-9]{2,6})m|(3[6-9][0-9]{2}|[4-9][0-9]{3}|[1-9][0-9]{4,8})s)$')").message("rotation.every must be a whole number and one unit (s, m, h or d), at least 1h, for example 90d"))]
    pub every: Option<String>,
    /// When the schedule may rotate: a ring that is due in no window waits for the next
    /// one. Without any it is always. What the annotation asks for waits for none, and
    /// a rotation that has begun is finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<RotationWindow>,
    /// How long Kyverno must have accepted a new key before a pipeline signs
    /// with it, for example `10s`.
    #[serde(default = "default_soak")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^(0|[1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)s$|^(0|[1-5]?[0-9]|60)m$|^[01]h$')").message("rotation.soak must be a whole number and one unit (s, m or h), at most 1h, for example 10s"))]
    pub soak: String,
    /// Keep the next version minted and accepted, its private key apart from
    /// the one that signs. A rotation or a revocation then switches to it
    /// without waiting for Kyverno.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
}

impl Default for RotationSpec {
    fn default() -> Self {
        Self { every: None, windows: Vec::new(), soak: default_soak(), standby: false }
    }
}

/// Hours of some days of the week, by the clock of a time zone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationWindow {
    /// The days on which it opens; without any, every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub days: Vec<Day>,
    /// When it opens, for example `22:00`. An hour that clocks skip is skipped here, too.
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')").message("start must be hours and minutes from 00:00 to 23:59, for example 22:00"))]
    pub start: String,
    /// When it closes, for example `04:00`: on the next day, if that is not after the
    /// start. `24:00` is the end of the day.
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$')").message("end must be hours and minutes from 00:00 to 24:00, for example 04:00"))]
    pub end: String,
    /// The time zone of its clock, by its name in the IANA time zone database, for
    /// example `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')").message("timeZone must be a name of the IANA time zone database, for example Europe/Berlin"))]
    pub time_zone: String,
}

/// A day of the week.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Day {
    /// The first day of the week by ISO 8601.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The seventh.
    Sunday,
}

/// A Secret that receives the newest key pair.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// The namespace of the Secret. Its owner grants the operator access by
    /// binding the ClusterRole `signingkeyring-pipeline` there.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("namespace must be the name of a namespace: a-z, 0-9 and -, at most 63 characters"))]
    pub namespace: String,
    /// The name of the Secret.
    #[serde(default = "default_secret_name")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("secretName must be the name of a Secret: a-z, 0-9, - and ., for example image-signing"))]
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
    #[schemars(length(max = 100))]
    pub exclude: Vec<ImageExclusion>,
    /// The kind of Kyverno policy that holds the rule. Without one it is the
    /// operator's setting. A ring moves without a gap: it is in both until Kyverno
    /// answers with the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PolicyKind>,
    /// Pull secrets in Kyverno's namespace with which Kyverno looks up the images and
    /// signatures of the ring, in the place of credentials that its flags give it. The
    /// operator does not read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["secretName".into()]))]
    pub registry_credentials: Vec<RegistryCredential>,
}

/// Credentials for registries.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryCredential {
    /// The name of a Secret of type `kubernetes.io/dockerconfigjson` in Kyverno's
    /// namespace. One that is missing there helps nobody: images that need it are
    /// refused.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("secretName must be the name of a Secret: a-z, 0-9, - and ., for example registry-pull"))]
    pub secret_name: String,
}

/// A kind of Kyverno policy.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `kyverno.io/v1`; Kyverno 1.19 deprecates it.
    ClusterPolicy,
    /// `policies.kyverno.io/v1`, its successor.
    ImageValidatingPolicy,
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

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_secret_name() -> String {
    "image-signing".to_owned()
}
