//! The MutatingPolicy that puts the digest behind the tags of what an
//! ImageValidatingPolicy verifies. It holds no keys.

use std::collections::BTreeSet;

use serde_json::Value;

use super::image_validating::{excluded, named, selects};

/// The name of the pin of a policy that enforces.
#[must_use]
pub fn pin_of(policy: &str) -> Option<String> {
    let (before, number) = policy.split_once(".enforce-")?;
    Some(format!("{before}.pin-{number}"))
}

/// The images that a pin leaves as they are for a ring. Nothing if it pins none of
/// the ring's.
#[must_use]
pub fn pinned(pin: &Value, ring: &str) -> Option<BTreeSet<String>> {
    let spec = &pin["spec"];
    let pins = spec["failurePolicy"] == "Fail" && selects(spec, ring);
    pins.then(|| excluded(named(&spec["variables"], "pin"), ring))
}
