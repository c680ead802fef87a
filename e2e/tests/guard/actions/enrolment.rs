//! Namespaces and the label that enrols them.

use serde_json::{Value, json};

use super::{Action, NAMESPACE, On, Verb, action, on};
use crate::users::{ADMIN, ENROLLER, INSTALLER, LABELLER, NAMESPACES, User};

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
    const NOT: &[User] = &[LABELLER, INSTALLER];
    const PROBE: (&str, &str) = ("", "signing-probe");
    // Of the value that is no ring's.
    const OPERATES: &[User] = &[INSTALLER, ADMIN];
    const ENROLS: &[User] = &[LABELLER, ENROLLER];
    let gate = || labelled(&json!("signing-gate"));
    let shop = || labelled(&json!("shop"));
    let generated =
        json!({"metadata": {"generateName": "guarded-", "labels": {RING_LABEL: "shop"}}});
    vec![
        action("enrol a namespace", KIND, FREE, Patch("", shop()), MAY, NOT),
        action("enrol it by its status", KIND, FREE, Patch("status", shop()), MAY, NOT),
        action(
            "enrol it by finalize",
            KIND,
            FREE,
            Replace("finalize", shop()),
            &[ENROLLER, ADMIN, NAMESPACES],
            NOT,
        ),
        on(
            On::AnotherEachTime(None),
            action("create one enrolled", KIND, NEW, Create(shop()), MAY, NOT),
        ),
        on(
            On::AnotherEachTime(None),
            action("apply a new one enrolled", KIND, NEW, Apply(shop()), MAY, NOT),
        ),
        on(
            On::AnotherEachTime(None),
            action(
                "create one by generateName",
                KIND,
                ("", "guarded-generated"),
                Create(generated),
                MAY,
                NOT,
            ),
        ),
        action(
            "move one to another ring",
            KIND,
            HELD,
            Patch("", labelled(&json!("other"))),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        action(
            "enrol one by an empty value",
            KIND,
            FREE,
            Patch("", labelled(&json!(""))),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        action("take one from its ring", KIND, HELD, Patch("", labelled(&Value::Null)), MAY, NOT),
        action(
            "take it by an empty value",
            KIND,
            HELD,
            Patch("", labelled(&json!(""))),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        action(
            "label an enrolled one otherwise",
            KIND,
            HELD,
            Patch("", json!({"metadata": {"labels": {"a": "b"}}})),
            &[LABELLER, ENROLLER, INSTALLER, ADMIN],
            &[],
        ),
        action(
            "enrol kube-system",
            KIND,
            ("", "kube-system"),
            Patch("", shop()),
            &[],
            &[LABELLER, ENROLLER, INSTALLER, ADMIN],
        ),
        action(
            "enrol kube-public by finalize",
            KIND,
            ("", "kube-public"),
            Replace("finalize", shop()),
            &[NAMESPACES],
            &[LABELLER, ENROLLER, INSTALLER, ADMIN],
        ),
        action(
            "enrol Kyverno's",
            KIND,
            ("", "kyverno"),
            Patch("", shop()),
            &[],
            &[LABELLER, ENROLLER, INSTALLER, ADMIN],
        ),
        action(
            "enrol the operator's",
            KIND,
            ("", "signing-system"),
            Patch("", shop()),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        // The ledgers end with it, and the rings of all that is tested.
        on(
            On::WhatIsNeeded,
            action(
                "delete the operator's",
                KIND,
                ("", "signing-system"),
                Delete,
                OPERATES,
                &[LABELLER, ENROLLER, NAMESPACES],
            ),
        ),
        on(
            On::WhatIsNeeded,
            action(
                "delete the probe's",
                KIND,
                PROBE,
                Delete,
                OPERATES,
                &[LABELLER, ENROLLER, NAMESPACES],
            ),
        ),
        on(
            On::AnotherEachTime(Some(shop())),
            action(
                "delete an enrolled one",
                KIND,
                NEW,
                Delete,
                &[LABELLER, ENROLLER, INSTALLER, ADMIN, NAMESPACES],
                &[],
            ),
        ),
        action("label one signing-gate", KIND, FREE, Patch("", gate()), OPERATES, ENROLS),
        action("by its status", KIND, FREE, Patch("status", gate()), OPERATES, ENROLS),
        on(
            On::AnotherEachTime(None),
            action("create one labelled so", KIND, NEW, Create(gate()), OPERATES, ENROLS),
        ),
        // It takes the right on both values.
        action(
            "relabel an enrolled one so",
            KIND,
            HELD,
            Patch("", gate()),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        action(
            "enrol the probe's",
            KIND,
            PROBE,
            Patch("", shop()),
            &[ADMIN],
            &[LABELLER, ENROLLER, INSTALLER],
        ),
        action(
            "take the probe's label off",
            KIND,
            PROBE,
            Patch("", labelled(&Value::Null)),
            OPERATES,
            ENROLS,
        ),
        action(
            "label the probe's otherwise",
            KIND,
            PROBE,
            Patch("", json!({"metadata": {"labels": {"a": "b"}}})),
            &[LABELLER, ENROLLER, INSTALLER, ADMIN],
            &[],
        ),
    ]
}
