//! The observer's own reading of policies, rings and pipeline Secrets.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use crate::history::Kind;

mod cluster_policy;
mod image_validating;
mod pin;

pub use image_validating::question;
pub use pin::{pin_of, pinned};

/// What a policy's rule says of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The public keys as PEM.
    pub keys: BTreeSet<String>,
    /// Whether any of them is enough, and nothing less is.
    pub is_whole: bool,
    /// `Enforce` or `Audit`.
    pub action: String,
    /// The images that need no signature; those below a path as `path/*`.
    pub skipped: BTreeSet<String>,
}

/// A pipeline of a ring's spec: namespace and name of its Secret.
pub type Pipeline = (String, String);

/// An object's resourceVersion.
#[must_use]
pub fn version(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"]).parse().unwrap_or_default()
}

/// The text of a field; empty if it is none.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What a policy verifies of a ring with, if it holds its rule.
#[must_use]
pub fn rule(kind: Kind, policy: &Value, ring: &str) -> Option<Rule> {
    match kind {
        Kind::ClusterPolicy => cluster_policy::rule(policy, ring),
        Kind::ImageValidatingPolicy => image_validating::rule(policy, ring),
        _ => None,
    }
}

/// All that stands of a ring in a policy, as it stands there. Nothing if it does not
/// hold the ring.
#[must_use]
pub fn part(kind: Kind, policy: &Value, ring: &str) -> Option<Value> {
    match kind {
        Kind::ClusterPolicy => cluster_policy::part(policy, ring),
        Kind::ImageValidatingPolicy => image_validating::part(policy, ring),
        Kind::MutatingPolicy => pin::pinned(policy, ring).map(|excluded| json!(excluded)),
        Kind::Secret | Kind::Ring | Kind::Namespace => None,
    }
}

/// The public key in a Secret that belongs to a ring.
#[must_use]
pub fn published(secret: &Value, ring: &str) -> Option<String> {
    public_key(secret).filter(|_| owner(secret) == Some(ring))
}

/// The ring that a pipeline's Secret says it belongs to.
#[must_use]
pub fn owner(secret: &Value) -> Option<&str> {
    secret["metadata"]["annotations"]["signing.odj.cloud/ring"].as_str()
}

/// The public key in a Secret of either layout.
#[must_use]
pub fn public_key(secret: &Value) -> Option<String> {
    let data = &secret["data"];
    let key = data["cosign.pub"].as_str().or(data["COSIGN_PUBLIC_KEY"].as_str())?;
    Some(trimmed(&String::from_utf8(Base64::decode_vec(key).ok()?).ok()?))
}

/// The pipelines of a ring's spec.
#[must_use]
pub fn pipelines(ring: &Value) -> BTreeSet<Pipeline> {
    let pipelines = ring["spec"]["pipelines"].as_array().into_iter().flatten();
    pipelines
        .map(|p| {
            let name = p["secretName"].as_str().unwrap_or("image-signing");
            (text(&p["namespace"]).to_owned(), name.to_owned())
        })
        .collect()
}

/// Whether a ring says that it is Ready.
#[must_use]
pub fn is_ready(ring: &Value) -> bool {
    let conditions = ring["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a ring may be deleted while namespaces are enrolled.
#[must_use]
pub fn may_leave_enrolled(ring: &Value) -> bool {
    ring["metadata"]["annotations"]["signing.odj.cloud/allow-unenforced-deletion"] == "true"
}

/// Whether an object is being deleted.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// PEM without the white space at its end.
#[must_use]
pub fn trimmed(pem: &str) -> String {
    pem.trim().to_owned()
}
