//! The rule that has Kyverno find all images of a new Pod.
//!
//! Kyverno 1.19 keeps what the `imageExtractors` of one policy found for all rules
//! behind it that have none, in an order of policies that nobody decides: beside a
//! foreign policy that looks at some images alone, ours would not see the others.
//! So each of our policies begins with a rule that finds them all. It verifies none:
//! the rules behind it do. They have no extractors themselves, because an image that
//! cannot be parsed is an error then, whatever their preconditions say, and Pods that
//! were there before the enrolment could not lose a finalizer.

use serde_json::{Value, json};

use super::{
    NOBODYS_KEY,
    keys::key_entry,
    rules::{LISTS, NO_IMAGE},
};
use crate::{names, policy_ref::Action};

/// The rule for the rings of a policy.
pub(super) fn rule(action: Action, enrolment_label: &str, rings: &[&str]) -> Value {
    // As Kyverno finds them by itself.
    let extractors = LISTS.map(|list| {
        json!({"path": format!("/spec/{list}/*"), "value": "image", "key": "name", "name": list})
    });
    json!({
        "name": names::IMAGES_RULE,
        "match": {"any": [{"resources": {
            "kinds": ["Pod"],
            "operations": ["CREATE"],
            "namespaceSelector": {"matchExpressions": [
                {"key": enrolment_label, "operator": "In", "values": rings},
            ]},
        }}]},
        "imageExtractors": {"Pod": extractors},
        "skipBackgroundRequests": true,
        "verifyImages": [{
            "type": "Cosign",
            "failureAction": action.as_str(),
            "imageReferences": [NO_IMAGE],
            // Without it the half of Kyverno that validates does not look at the rule.
            "required": true,
            "mutateDigest": false,
            "verifyDigest": false,
            "useCache": false,
            "attestors": [{"count": 1, "entries": [key_entry(NOBODYS_KEY)]}],
        }],
    })
}
