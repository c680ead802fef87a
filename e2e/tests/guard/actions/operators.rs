//! The operator's policies and ledgers.

use serde_json::json;

use super::{
    Action, CLUSTER_POLICY, IMAGE_VALIDATING, MUTATING, SECRET, Verb, action, annotated,
    for_nobody, rules,
};
use crate::users::{ADMIN, NAMESPACES, OPERATOR, PLATFORM, User};

/// What is tried, who may, and whom the guard refuses. The owner is namespace guarded's
/// UID: what has an owner that is not there goes.
pub fn all(owner: &str) -> Vec<Action> {
    use Verb::{Apply, Create, Delete, DeleteAll, Patch};
    const POLICY: (&str, &str) = ("", "signing-enforce-0001");
    const FREE: (&str, &str) = ("", "signing-enforce-0099");
    // The guard goes by its type. A ring's own would be lost with its keys.
    const LEDGER: (&str, &str) = ("signing-system", "a-ledger");
    const KEYS: (&str, &str) = ("signing-system", "new");
    const NOT: &[User] = &[PLATFORM];
    let policy = || json!({"spec": {"rules": rules()}});
    let ledger = json!({"type": "signing.odj.cloud/key-ring"});
    let disarmed = json!({"spec": {"webhookConfiguration": {"failurePolicy": "Ignore"}}});
    vec![
        action(
            "change the operator's policy",
            CLUSTER_POLICY,
            POLICY,
            Patch("", disarmed),
            &[ADMIN],
            NOT,
        ),
        action(
            "annotate it",
            CLUSTER_POLICY,
            POLICY,
            Patch("", annotated("a", "b")),
            &[ADMIN],
            NOT,
        ),
        action(
            "finalizers of it",
            CLUSTER_POLICY,
            POLICY,
            Patch("", json!({"metadata": {"finalizers": ["a/b"]}})),
            &[ADMIN],
            NOT,
        ),
        action(
            "delete it",
            CLUSTER_POLICY,
            POLICY,
            Delete,
            &[ADMIN, OPERATOR],
            &[PLATFORM, NAMESPACES],
        ),
        action(
            "delete a collection with one",
            CLUSTER_POLICY,
            ("", "signing-audit-9999"),
            DeleteAll,
            &[ADMIN],
            &[PLATFORM, NAMESPACES],
        ),
        action(
            "create one of such a name",
            CLUSTER_POLICY,
            FREE,
            Create(policy()),
            &[ADMIN, OPERATOR],
            NOT,
        ),
        action(
            "create another ClusterPolicy",
            CLUSTER_POLICY,
            ("", "signing-gates"),
            Apply(policy()),
            &[PLATFORM, ADMIN],
            &[],
        ),
        action(
            "change a ledger",
            SECRET,
            LEDGER,
            Patch("", annotated("signing.odj.cloud/ledger", "{}")),
            &[ADMIN, OPERATOR],
            NOT,
        ),
        action(
            "give a ledger an owner",
            SECRET,
            LEDGER,
            Patch(
                "",
                json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": "guarded", "uid": owner}]}}),
            ),
            &[ADMIN, OPERATOR],
            NOT,
        ),
        action(
            "delete a ledger",
            SECRET,
            LEDGER,
            Delete,
            &[ADMIN, OPERATOR],
            &[PLATFORM, NAMESPACES],
        ),
        action(
            "delete a collection with one",
            SECRET,
            ("signing-system", "collection"),
            DeleteAll,
            &[ADMIN],
            &[PLATFORM, NAMESPACES],
        ),
        action("create a ledger", SECRET, KEYS, Create(ledger), &[ADMIN, OPERATOR], NOT),
        action(
            "create another Secret there",
            SECRET,
            KEYS,
            Create(json!({})),
            &[PLATFORM, ADMIN, OPERATOR],
            &[],
        ),
    ]
}

/// The same of the kinds that verify last: policies, what pins tags for them, and what
/// covers labels that name no ring.
pub fn of_image_validating() -> Vec<Action> {
    use Verb::{Apply, Create, Delete, DeleteAll, Patch};
    const MAY: &[User] = &[ADMIN, OPERATOR];
    const NOT: &[User] = &[PLATFORM];
    const NOR_DELETE: &[User] = &[PLATFORM, NAMESPACES];
    const VERIFIES: (&str, &str) = ("", "signing.enforce-0001");
    const PINS: (&str, &str) = ("", "signing.pin-0001");
    const COVERS: (&str, &str) = ("", "signing.enforce-0000");
    let [verifies, pins] = for_nobody();
    let ignored = || Patch("", json!({"spec": {"failurePolicy": "Ignore"}}));
    let create = |spec: &serde_json::Value| Create(json!({"spec": spec}));
    let apply = |spec: &serde_json::Value| Apply(json!({"spec": spec}));
    vec![
        action("change what verifies", IMAGE_VALIDATING, VERIFIES, ignored(), &[ADMIN], NOT),
        action(
            "annotate it",
            IMAGE_VALIDATING,
            VERIFIES,
            Patch("", annotated("a", "b")),
            &[ADMIN],
            NOT,
        ),
        action("delete it", IMAGE_VALIDATING, VERIFIES, Delete, MAY, NOR_DELETE),
        action(
            "delete a collection with one",
            IMAGE_VALIDATING,
            ("", "signing.audit-9999"),
            DeleteAll,
            &[ADMIN],
            NOR_DELETE,
        ),
        action(
            "create one of such a name",
            IMAGE_VALIDATING,
            ("", "signing.enforce-0099"),
            create(&verifies),
            MAY,
            NOT,
        ),
        action(
            "create another ImageValidating…",
            IMAGE_VALIDATING,
            ("", "signing.gates"),
            apply(&verifies),
            &[PLATFORM, ADMIN],
            &[],
        ),
        action("change what pins", MUTATING, PINS, ignored(), &[ADMIN], NOT),
        action("delete it", MUTATING, PINS, Delete, MAY, NOR_DELETE),
        action(
            "delete a collection with one",
            MUTATING,
            ("", "signing.pin-9999"),
            DeleteAll,
            &[ADMIN],
            NOR_DELETE,
        ),
        action(
            "create one of such a name",
            MUTATING,
            ("", "signing.pin-0099"),
            create(&pins),
            MAY,
            NOT,
        ),
        action(
            "create another MutatingPolicy",
            MUTATING,
            ("", "signing.pins"),
            apply(&pins),
            &[PLATFORM, ADMIN],
            &[],
        ),
        action("change what covers", IMAGE_VALIDATING, COVERS, ignored(), &[ADMIN], NOT),
        action("delete it", IMAGE_VALIDATING, COVERS, Delete, MAY, NOR_DELETE),
        action(
            "create one that covers",
            IMAGE_VALIDATING,
            ("", "signing.audit-0000"),
            create(&verifies),
            MAY,
            NOT,
        ),
    ]
}
