//! Namespaces and the label that enrols them.

use serde_json::{Value, json};

use super::{Action, NAMESPACE, Verb, action, dry};
use crate::users::{ADMIN, ENROLLER, LABELLER, NAMESPACES, User};

const RING_LABEL: &str = "signing.odj.cloud/ring";

fn labelled(value: &Value) -> Value {
    json!({"metadata": {"labels": {RING_LABEL: value}}})
}

/// What is tried, who may, and whom the guard refuses.
pub fn all() -> Vec<Action> {
    use Verb::{Apply, Create, Delete, Patch, Replace};
    const KIND: (&str, &str, &str, &str) = NAMESPACE;
    const FREE: (&str, &str) = ("", "guarded");
    const HELD: (&str, &str) = ("", "shop-dev");
    const NEW: (&str, &str) = ("", "guarded-new");
    const MAY: &[User] = &[ENROLLER, ADMIN];
    let shop = || labelled(&json!("shop"));
    let generated =
        json!({"metadata": {"generateName": "guarded-", "labels": {RING_LABEL: "shop"}}});
    vec![
        action("enrol a namespace", KIND, FREE, Patch("", shop()), MAY, &[LABELLER]),
        action("enrol it by its status", KIND, FREE, Patch("status", shop()), MAY, &[LABELLER]),
        action(
            "enrol it by finalize",
            KIND,
            FREE,
            Replace("finalize", shop()),
            &[ENROLLER, ADMIN, NAMESPACES],
            &[LABELLER],
        ),
        dry(action("create one enrolled", KIND, NEW, Create(shop()), MAY, &[LABELLER])),
        dry(action("apply a new one enrolled", KIND, NEW, Apply(shop()), MAY, &[LABELLER])),
        dry(action(
            "create one by generateName",
            KIND,
            ("", "guarded-generated"),
            Create(generated),
            MAY,
            &[LABELLER],
        )),
        action(
            "move one to another ring",
            KIND,
            HELD,
            Patch("", labelled(&json!("other"))),
            &[ADMIN],
            &[LABELLER, ENROLLER],
        ),
        action(
            "enrol one by an empty value",
            KIND,
            FREE,
            Patch("", labelled(&json!(""))),
            &[ADMIN],
            &[LABELLER, ENROLLER],
        ),
        action(
            "take one from its ring",
            KIND,
            HELD,
            Patch("", labelled(&Value::Null)),
            MAY,
            &[LABELLER],
        ),
        action(
            "take it by an empty value",
            KIND,
            HELD,
            Patch("", labelled(&json!(""))),
            &[ADMIN],
            &[LABELLER, ENROLLER],
        ),
        action(
            "label an enrolled one otherwise",
            KIND,
            HELD,
            Patch("", json!({"metadata": {"labels": {"a": "b"}}})),
            &[LABELLER, ENROLLER, ADMIN],
            &[],
        ),
        action(
            "enrol kube-system",
            KIND,
            ("", "kube-system"),
            Patch("", shop()),
            &[],
            &[LABELLER, ENROLLER, ADMIN],
        ),
        action(
            "enrol kube-public by finalize",
            KIND,
            ("", "kube-public"),
            Replace("finalize", shop()),
            &[NAMESPACES],
            &[LABELLER, ENROLLER, ADMIN],
        ),
        action(
            "enrol Kyverno's",
            KIND,
            ("", "kyverno"),
            Patch("", shop()),
            &[],
            &[LABELLER, ENROLLER, ADMIN],
        ),
        action(
            "enrol the operator's",
            KIND,
            ("", "signing-system"),
            Patch("", shop()),
            &[ADMIN],
            &[LABELLER, ENROLLER],
        ),
        dry(action(
            "delete the operator's",
            KIND,
            ("", "signing-system"),
            Delete,
            &[ADMIN],
            &[LABELLER, ENROLLER, NAMESPACES],
        )),
        dry(action(
            "delete an enrolled one",
            KIND,
            HELD,
            Delete,
            &[LABELLER, ENROLLER, ADMIN, NAMESPACES],
            &[],
        )),
    ]
}
