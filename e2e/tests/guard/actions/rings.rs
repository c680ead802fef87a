//! Rings.

use serde_json::json;

use super::{Action, RING, Verb, action, annotated, dry};
use crate::users::{ADMIN, EDITOR, OPERATOR, ROTATOR, User};

/// What is tried, who may, and whom the guard refuses.
pub fn all() -> Vec<Action> {
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
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "x"}]}});
    vec![
        action(
            "rotate a ring",
            RING,
            SHOP,
            Patch("", rotate()),
            &[ROTATOR, EDITOR, ADMIN],
            &[OPERATOR],
        ),
        dry(action(
            "rotate another ring",
            RING,
            ("", "till"),
            Patch("", rotate()),
            MAY,
            &[OPERATOR],
        )),
        dry(action(
            "rotate it by apply",
            RING,
            SHOP,
            Apply(
                json!({"metadata": {"annotations": {"signing.odj.cloud/rotate": "y"}}, "spec": {}}),
            ),
            &[ROTATOR, EDITOR, ADMIN],
            &[OPERATOR],
        )),
        dry(action("rotate it and change it", RING, SHOP, Patch("", both), MAY, NOT)),
        action(
            "change what it accepts",
            RING,
            SHOP,
            Patch("", json!({"spec": {"keepVersions": 4}})),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        ),
        dry(action(
            "allow its deletion",
            RING,
            SHOP,
            Patch("", allow),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        )),
        dry(action(
            "label it",
            RING,
            SHOP,
            Patch("", json!({"metadata": {"labels": {"a": "b"}}})),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        )),
        dry(action(
            "finalizers of it",
            RING,
            SHOP,
            Patch("", finalizers),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        )),
        dry(action(
            "owners of it",
            RING,
            SHOP,
            Patch("", owner),
            &[EDITOR, ADMIN, OPERATOR],
            &[ROTATOR],
        )),
        dry(action(
            "its status",
            RING,
            SHOP,
            Patch("status", json!({"status": {"currentVersion": 9}})),
            &[ADMIN, OPERATOR],
            &[],
        )),
        dry(action("create a ring", RING, IMPORTED, Create(json!({"spec": {}})), MAY, &[])),
        dry(action(
            "import what one may not get",
            RING,
            IMPORTED,
            Create(import("shop-ci", "image-signing")),
            &[ADMIN],
            &[EDITOR],
        )),
        dry(action(
            "apply such an import",
            RING,
            IMPORTED,
            Apply(import("shop-ci", "image-signing")),
            &[ADMIN],
            &[EDITOR],
        )),
        dry(action(
            "change a ring to such an import",
            RING,
            SHOP,
            Patch("", import("shop-ci", "image-signing")),
            &[ADMIN, OPERATOR],
            &[EDITOR, ROTATOR],
        )),
        dry(action(
            "import what one may get",
            RING,
            SHOP,
            Patch("", import("guarded", "keys")),
            MAY,
            NOT,
        )),
    ]
}
