//! The MutatingPolicy that puts the digest behind the tags of a pack's Pods: what is
//! verified is then what is pulled. It has the exclusions of the policy that verifies,
//! so that an excluded image starts although its registry is down.
//!
//! It is made from that policy, and is no promise of its own: where it is missing, the
//! policy refuses tags.

use serde_json::{Value, json};

use super::{ImageValidatingPolicy, data::Data, expressions};
use crate::{
    names::RingName,
    policy::{
        Digest,
        digest::Part,
        object::{ENFORCE_TIMEOUT_SECONDS, Metadata, Rendered, said},
    },
    policy_ref::{Action, PolicyKind, PolicyRef},
};

/// Kind of the object.
pub const KIND: &str = "MutatingPolicy";

/// What the names of these policies begin with, where those that verify begin with
/// the other.
const PREFIXES: (&str, &str) = ("signing.pin-", "signing.enforce-");

/// The name of a policy's pin, if it has one.
#[must_use]
pub fn name(policy: PolicyRef) -> Option<String> {
    let name = policy.to_string();
    let number = name.strip_prefix(PREFIXES.1).filter(|_| policy.holds_rings())?;
    Some(format!("{}{number}", PREFIXES.0))
}

/// The policy whose pin has this name.
#[must_use]
pub fn policy_of(pin: &str) -> Option<PolicyRef> {
    let name = format!("{}{}", PREFIXES.1, pin.strip_prefix(PREFIXES.0)?);
    let policy: PolicyRef = name.parse().ok()?;
    let kept = policy.kind() == PolicyKind::ImageValidatingPolicy && policy.holds_rings();
    kept.then_some(policy)
}

impl ImageValidatingPolicy<'_> {
    /// The pin for a policy with this `spec`, and for the rings that stand in `before`
    /// until that is replaced. Nothing if it pins nothing.
    #[must_use]
    pub fn pin(&self, spec: Option<&Value>, before: Option<&Value>) -> Option<Rendered> {
        if self.policy.action() == Action::Audit || !self.policy.holds_rings() {
            return None;
        }
        let mut data = spec.map(Data::read).unwrap_or_default();
        for (ring, kept) in before.map(Data::read).unwrap_or_default().rings {
            data.rings.entry(ring).or_insert(kept);
        }
        // What somebody put there may be no value of a label, and Kyverno writes the
        // webhooks of all policies together.
        data.rings.retain(|ring, _| ring.parse::<RingName>().is_ok());
        let rings: Vec<&str> = data.rings.keys().map(String::as_str).collect();
        if rings.is_empty() {
            return None;
        }
        let pinned = data.bind_excluded(&expressions::pinned(self.enrolment_label));
        let spec = json!({
            "failurePolicy": "Fail",
            "webhookConfiguration": {"timeoutSeconds": ENFORCE_TIMEOUT_SECONDS},
            "matchConstraints": {
                "namespaceSelector": {"matchExpressions": [
                    {"key": self.enrolment_label, "operator": "In", "values": rings},
                ]},
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["pods", "pods/ephemeralcontainers"],
                }],
            },
            "matchConditions": [{"name": "tags", "expression": expressions::has_tags()}],
            "variables": [{"name": "pin", "expression": pinned}],
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": expressions::patches()},
            }],
        });
        Some(said(std::iter::empty(), self.lists, &[], spec))
    }
}

/// What tells pins apart: the `spec`, and what the operator writes around it.
#[must_use]
pub fn digest(metadata: Metadata<'_>, spec: &Value) -> (Digest, Digest) {
    (Part::of(spec).digest, metadata.own(&[]))
}
