//! The observer's own reading of policies, rings and pipeline Secrets.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use serde_json::Value;

/// What a policy's rule says of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The public keys as PEM; any of them is enough.
    pub keys: BTreeSet<String>,
    /// Whether `count` is 1 and the entries stand in one set.
    pub any_of: bool,
    /// `Enforce` or `Audit`.
    pub action: String,
    /// The images that need no signature.
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

/// The rules of a ring in a policy: their names begin with the ring's, which has
/// no dot.
#[must_use]
pub fn rules<'a>(policy: &'a Value, ring: &str) -> Vec<&'a Value> {
    let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
    rules.filter(|rule| text(&rule["name"]).split('.').next() == Some(ring)).collect()
}

/// What the rules of a ring in a policy verify with. If they are not of one mind,
/// none of them counts.
#[must_use]
pub fn rule(policy: &Value, ring: &str) -> Option<Rule> {
    let rules = rules(policy, ring);
    let verifying = rules.into_iter().filter(|rule| !rule["verifyImages"].is_null());
    let mut all = verifying.map(verified);
    let first = all.next()?;
    let of_one_mind = all.all(|other| other == first);
    Some(Rule { any_of: first.any_of && of_one_mind, ..first })
}

fn verified(rule: &Value) -> Rule {
    let verify = &rule["verifyImages"][0];
    let sets = verify["attestors"].as_array().map_or(&[][..], Vec::as_slice);
    let entries = sets.iter().flat_map(|set| set["entries"].as_array().into_iter().flatten());
    let strings = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().map(|v| text(v).to_owned()).collect()
    };
    Rule {
        keys: entries.map(|entry| trimmed(text(&entry["keys"]["publicKeys"]))).collect(),
        any_of: sets.len() == 1 && sets[0]["count"] == 1,
        action: text(&verify["failureAction"]).to_owned(),
        skipped: strings(&verify["skipImageReferences"]),
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
