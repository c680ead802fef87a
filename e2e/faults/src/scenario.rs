//! What happens to a ring in a run, step by step.

use serde_json::{Value, json};

use super::view::View;

/// A ring's history before the faults, what is done to it, and what it comes to.
pub struct Scenario {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// The ring's spec before; what is left out is [`spec`]'s.
    pub spec: fn(&View) -> Value,
    /// How many versions it has before; with 0 there is no ring yet.
    pub versions: u32,
    /// How many it has ever had in the end.
    pub minted: usize,
    /// What is done.
    pub steps: fn(&View) -> Vec<Step>,
    /// The other ring of its policy, if there is one.
    pub neighbour: Option<Neighbour>,
    /// Whether the normalized state is what it comes to.
    pub goal: fn(&Value) -> bool,
}

/// What becomes of a second ring that shares the policy of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Nothing: it stays as it is.
    Stays,
    /// It is deleted, and the first one stays as it is.
    Leaves,
}

/// One thing that is done to a ring.
#[derive(Clone, Debug)]
pub enum Step {
    /// The ring is created.
    Create,
    /// The ring is patched.
    Patch(Value),
    /// An object beside the ring is applied: kind, name, the rest.
    Apply(&'static str, String, Value),
    /// A cosign key pair of before is put into one of the view's namespaces.
    KeyPair(&'static str),
    /// This many minutes pass.
    Minutes(i64),
    /// The namespace leaves the ring.
    Leave,
    /// The ring is deleted.
    Delete,
    /// The neighbour is patched.
    PatchNeighbour(Value),
    /// The neighbour is deleted.
    DeleteNeighbour,
    /// Wait until the normalized state shows something.
    Until(&'static str, fn(&Value) -> bool),
}

/// The ring of a view: one pipeline that can be written and one whose Secret
/// is somebody else's.
#[must_use]
pub fn spec(view: &View, changes: &Value) -> Value {
    let mut spec = json!({
        "keepVersions": 2,
        "rotation": {"soak": format!("{}s", SOAK_SECONDS)},
        "pipelines": pipelines(view, &["ci", "foreign"]),
        "policy": {"action": "Enforce"},
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

/// The neighbour of a view's ring: one pipeline, and nothing that happens to it.
#[must_use]
pub fn neighbour_spec(view: &View) -> Value {
    spec(view, &json!({"pipelines": pipelines(view, &["neighbour-ci"])}))
}

/// The soak of every ring.
pub const SOAK_SECONDS: u64 = 1;

/// The `spec.pipelines` for some of the view's namespaces.
#[must_use]
pub fn pipelines(view: &View, namespaces: &[&str]) -> Value {
    namespaces.iter().map(|n| json!({"namespace": view.namespace(n)})).collect()
}

/// Whether a normalized state is that of a ring at rest with this current version and these
/// accepted ones, newest first.
#[must_use]
pub fn rests(state: &Value, current: u32, accepted: &[u32]) -> bool {
    let ring = &state["ring"];
    let says = |kind: &str| ring["conditions"][kind].as_str().unwrap_or_default().to_owned();
    let policies = state["policies"].as_object();
    let mut newest_last = accepted.to_vec();
    newest_last.reverse();
    ring["current"] == current
        && ring["accepted"] == json!(accepted)
        && ring["upToDate"] == true
        && says("PolicyEnforced").starts_with("True")
        && says("KeysAvailable").starts_with("True")
        && says("Reconciling").is_empty()
        && policies.is_some_and(|policies| {
            policies.len() == 1
                && policies.values().all(|policy| {
                    // Where the kind pins by a policy of its own.
                    let pins =
                        policy["kind"] == "ImageValidatingPolicy" && policy["action"] == "Enforce";
                    policy["accepted"] == json!(newest_last)
                        && policy["ofThisLedger"] == true
                        && policy["pinned"] == pins
                })
        })
}

/// Whether both rings of a view stand in the first policy.
#[must_use]
pub fn share_a_policy(state: &Value) -> bool {
    !state["policies"]["enforce-0001"].is_null()
        && !state["neighbour"]["policies"]["enforce-0001"].is_null()
}

/// Whether a pipeline's Secret holds a version.
#[must_use]
pub fn holds(state: &Value, namespace: &str, version: u32) -> bool {
    state["secrets"][format!("RING-{namespace}/image-signing")] == version
}

/// Whether a pipeline has no Secret.
#[must_use]
pub fn is_empty(state: &Value, namespace: &str) -> bool {
    state["secrets"][format!("RING-{namespace}/image-signing")].is_null()
}

/// Whether nothing is left of a ring.
#[must_use]
pub fn is_gone(state: &Value) -> bool {
    state["ring"].is_null()
        && state["ledger"].is_null()
        && state["policies"].as_object().is_some_and(serde_json::Map::is_empty)
        && is_empty(state, "ci")
}
