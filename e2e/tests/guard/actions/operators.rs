//! The operator's policies and ledgers.

use serde_json::json;

use super::{Action, CLUSTER_POLICY, SECRET, Verb, action, annotated, dry, rules};
use crate::users::{ADMIN, NAMESPACES, OPERATOR, PLATFORM, User};

/// What is tried, who may, and whom the guard refuses.
pub fn all() -> Vec<Action> {
    use Verb::{Apply, Create, Delete, DeleteAll, Patch};
    const POLICY: (&str, &str) = ("", "signing-enforce-0001");
    const FREE: (&str, &str) = ("", "signing-enforce-0099");
    const LEDGER: (&str, &str) = ("signing-system", "ring-shop");
    const KEYS: (&str, &str) = ("signing-system", "new");
    const NOT: &[User] = &[PLATFORM];
    let policy = || json!({"spec": {"rules": rules()}});
    let ledger = json!({"type": "signing.odj.cloud/key-ring"});
    let disarmed = json!({"spec": {"webhookConfiguration": {"failurePolicy": "Ignore"}}});
    vec![
        dry(action(
            "change the operator's policy",
            CLUSTER_POLICY,
            POLICY,
            Patch("", disarmed),
            &[ADMIN],
            NOT,
        )),
        action(
            "annotate it",
            CLUSTER_POLICY,
            POLICY,
            Patch("", annotated("a", "b")),
            &[ADMIN],
            NOT,
        ),
        dry(action(
            "finalizers of it",
            CLUSTER_POLICY,
            POLICY,
            Patch("", json!({"metadata": {"finalizers": ["a/b"]}})),
            &[ADMIN],
            NOT,
        )),
        dry(action(
            "delete it",
            CLUSTER_POLICY,
            POLICY,
            Delete,
            &[ADMIN, OPERATOR],
            &[PLATFORM, NAMESPACES],
        )),
        dry(action(
            "delete a collection with one",
            CLUSTER_POLICY,
            ("", "signing-audit-9999"),
            DeleteAll,
            &[ADMIN],
            &[PLATFORM, NAMESPACES],
        )),
        dry(action(
            "create one of such a name",
            CLUSTER_POLICY,
            FREE,
            Create(policy()),
            &[ADMIN, OPERATOR],
            NOT,
        )),
        action(
            "create another ClusterPolicy",
            CLUSTER_POLICY,
            ("", "signing-gates"),
            Apply(policy()),
            &[PLATFORM, ADMIN],
            &[],
        ),
        dry(action(
            "change a ledger",
            SECRET,
            LEDGER,
            Patch("", annotated("signing.odj.cloud/ledger", "{}")),
            &[ADMIN, OPERATOR],
            NOT,
        )),
        dry(action(
            "give a ledger an owner",
            SECRET,
            LEDGER,
            Patch(
                "",
                json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "x"}]}}),
            ),
            &[ADMIN, OPERATOR],
            NOT,
        )),
        dry(action(
            "delete a ledger",
            SECRET,
            LEDGER,
            Delete,
            &[ADMIN, OPERATOR],
            &[PLATFORM, NAMESPACES],
        )),
        dry(action(
            "delete a collection with one",
            SECRET,
            ("signing-system", "collection"),
            DeleteAll,
            &[ADMIN],
            &[PLATFORM, NAMESPACES],
        )),
        dry(action("create a ledger", SECRET, KEYS, Create(ledger), &[ADMIN, OPERATOR], NOT)),
        dry(action(
            "create another Secret there",
            SECRET,
            KEYS,
            Create(json!({})),
            &[PLATFORM, ADMIN, OPERATOR],
            &[],
        )),
    ]
}
