//! Rings.

use serde_json::json;

use super::{Action, On, RING, Verb, action, annotated, on};
use crate::users::{ADMIN, EDITOR, OPERATOR, ROTATOR, User};

/// What is tried, who may, and whom the guard refuses. The owner is namespace guarded's
/// UID: what has an owner that is not there goes.
pub fn all(owner: &str) -> Vec<Action> {
    use Verb::{Apply, Create, Patch};
    const SHOP: (&str, &str) = ("", "shop");
    const IMPORTED: (&str, &str) = ("", "imported");
    const MAY: &[User] = &[EDITOR, ADMIN];
    const NOT: &[User] = &[ROTATOR, OPERATOR];
    let import = |namespace: &str, name: &str| json!({"spec": {"importFrom": {"secret": {"namespace": namespace, "name": name}}}});
    let rotate = || annotated("signing.odj.cloud/rotate", "");
    let allow = annotated("signing.odj.cloud/allow-unenforced-deletion", "true");
    let both = json!({"metadata": {"annotations": {"signing.odj.cloud/rotate": "x"}}, "spec": {"suspend": true}});
    let finalizers = json!({"metadata": {"finalizers": ["signing.odj.cloud/teardown", "a.b/c"]}});
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "guarded", "uid": owner}]}});
    vec![
        action(
            "rotate a ring",
            RING,
            SHOP,
            Patch("", rotate()),
            &[ROTATOR, EDITOR, ADMIN],
            &[OPERATOR],
        ),
        action("rotate another ring", RING, ("", "till"), Patch("", rotate()), MAY, &[OPERATOR]),
        action(
            "rotate it by apply",
            RING,
            SHOP,
            Apply(
                json!({"metadata": {"annotations": {"signing.odj.cloud/rotate": ""}}, "spec": {}}),
            ),
            &[ROTATOR, EDITOR, ADMIN],
            &[OPERATOR],
        ),
        action("rotate it and change it", RING, SHOP, Patch("", both), MAY, NOT),
        action(
            "change what it accepts",
            RING,
            SHOP,
            Patch("", json!({"spec": {"keepVersions": 4}})),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        action(
            "allow its deletion",
            RING,
            SHOP,
            Patch("", allow),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        action(
            "label it",
            RING,
            SHOP,
            Patch("", json!({"metadata": {"labels": {"a": "b"}}})),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        action(
            "finalizers of it",
            RING,
            SHOP,
            Patch("", finalizers),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        action(
            "owners of it",
            RING,
            SHOP,
            Patch("", owner),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        action(
            "its status",
            RING,
            SHOP,
            Patch("status", json!({"status": {"enrolledNamespaces": 9}})),
            &[ADMIN, OPERATOR],
            &[],
        ),
        on(
            On::AnotherEachTime(None),
            action("create a ring", RING, IMPORTED, Create(json!({"spec": {}})), MAY, &[]),
        ),
        on(
            On::AnotherEachTime(None),
            action(
                "import what one may not get",
                RING,
                IMPORTED,
                Create(import("shop-ci", "image-signing")),
                &[ADMIN],
                &[EDITOR],
            ),
        ),
        on(
            On::AnotherEachTime(None),
            action(
                "apply such an import",
                RING,
                IMPORTED,
                Apply(import("shop-ci", "image-signing")),
                &[ADMIN],
                &[EDITOR],
            ),
        ),
        action(
            "change a ring to such an import",
            RING,
            SHOP,
            Patch("", import("shop-ci", "image-signing")),
            &[ADMIN, OPERATOR],
            &[EDITOR, ROTATOR],
        ),
        action(
            "import what one may get",
            RING,
            SHOP,
            Patch("", import("guarded", "keys")),
            MAY,
            NOT,
        ),
    ]
}
