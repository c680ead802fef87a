//! Kyverno's notes on Pods.

use serde_json::{Value, json};

use super::{Action, POD, Verb, action, annotated};
use crate::users::{ADMIN, PODDER, TENANT, User};

const NOTE: &str = "kyverno.io/verify-images-scoped";

/// A note that speaks of a policy of the operator's.
const FORGED: &str = r#"{"version":1,"policies":{"/signing-enforce-0001":{"shop":{"x":"pass"}}}}"#;

/// The same, whom it speaks of hidden behind an escape.
const ESCAPED: &str =
    r#"{"version":1,"policies":{"\u002fsigning-enforce-0001":{"shop":{"x":"pass"}}}}"#;

/// A note of somebody else's policy, about an image whose name looks like ours.
const FOREIGN: &str = r#"{"version":1,"policies":{"/signing-team":{"r":{"ghcr.io/org/signing-enforce-1:v1":"pass"}}}}"#;

fn pod(note: &str) -> Value {
    json!({
        "metadata": {"annotations": {NOTE: note}},
        "spec": {"schedulingGates": [{"name": "x.example/wait"}], "containers": [{"name": "c", "image": "x"}]},
    })
}

/// What is tried, who may, and whom the guard refuses.
pub fn all() -> Vec<Action> {
    use Verb::{Create, Patch, Post, Replace};
    const NEW: (&str, &str) = ("guarded", "new");
    const OLD: (&str, &str) = ("guarded", "waits");
    const HELD: (&str, &str) = ("shop-dev", "waits");
    const ALL_BUT: &[User] = &[PODDER, ADMIN];
    const WITH_TENANT: &[User] = &[TENANT, PODDER, ADMIN];
    let binding = |note: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waits", "annotations": {NOTE: note}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "n"}})
    };
    let unread = json!({
        "metadata": {"annotations": {NOTE: FORGED}},
        "spec": {"schedulingGates": [{"name": "x.example/wait"}], "containers": [{"name": "c", "image": "quay.io./X"}]},
    });
    vec![
        action("a Pod with a forged note", POD, NEW, Create(pod(FORGED)), &[], WITH_TENANT),
        action("a Pod with an escape in one", POD, NEW, Create(pod(ESCAPED)), &[], WITH_TENANT),
        action("a Pod with a foreign note", POD, NEW, Create(pod(FOREIGN)), WITH_TENANT, &[]),
        action(
            "write a forged note",
            POD,
            OLD,
            Patch("", annotated(NOTE, FORGED)),
            &[],
            WITH_TENANT,
        ),
        action(
            "write a foreign note",
            POD,
            OLD,
            Patch("", annotated(NOTE, FOREIGN)),
            WITH_TENANT,
            &[],
        ),
        action(
            "write one by its status",
            POD,
            OLD,
            Patch("status", annotated(NOTE, FORGED)),
            &[],
            ALL_BUT,
        ),
        action(
            "replace its status with one",
            POD,
            OLD,
            Replace("status", annotated(NOTE, ESCAPED)),
            &[],
            ALL_BUT,
        ),
        action("write one by a binding", POD, OLD, Post("binding", binding(FORGED)), &[], ALL_BUT),
        action(
            "write one by resize, dropped",
            POD,
            OLD,
            Patch("resize", annotated(NOTE, FORGED)),
            ALL_BUT,
            &[],
        ),
        action(
            "write one by debug, dropped",
            POD,
            OLD,
            Patch("ephemeralcontainers", annotated(NOTE, FORGED)),
            ALL_BUT,
            &[],
        ),
        action(
            "by its status where enrolled",
            POD,
            HELD,
            Patch("status", annotated(NOTE, FORGED)),
            &[],
            ALL_BUT,
        ),
        action(
            "by a binding where enrolled",
            POD,
            HELD,
            Post("binding", binding(FORGED)),
            &[],
            ALL_BUT,
        ),
        action(
            "on a Pod that cannot be verified",
            POD,
            // Where a ring enforces Kyverno refuses the Pod before the guard sees it.
            ("audits-dev", "new"),
            Create(unread),
            &[],
            WITH_TENANT,
        ),
    ]
}
