//! Users and actions: each is tried in a dry run and for good, by the API server's
//! verbs (as controllers do) and by kubectl, and the table is printed.

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::{
    actions::{Action, CLUSTER_POLICY, NAMESPACE, POD, POLICY, RING, SECRET, Verb},
    said::Said,
    turn::in_turn,
    users::{
        ADMIN, ALL, EDITOR, ENROLLER, LABELLER, NAMESPACES, OPERATOR, PLATFORM, PODDER, ROTATOR,
        TENANT, User, bind, tenant_of,
    },
};

const RING_LABEL: &str = "signing.odj.cloud/ring";
const NOTE: &str = "kyverno.io/verify-images-scoped";

/// A note that speaks of a policy of the operator's.
const FORGED: &str = r#"{"version":1,"policies":{"/signing-enforce-0001":{"shop":{"x":"pass"}}}}"#;
/// The same, whom it speaks of hidden behind an escape.
const ESCAPED: &str =
    r#"{"version":1,"policies":{"\u002fsigning-enforce-0001":{"shop":{"x":"pass"}}}}"#;
/// A note of somebody else's policy, about an image whose name looks like ours.
const FOREIGN: &str = r#"{"version":1,"policies":{"/signing-team":{"r":{"ghcr.io/org/signing-enforce-1:v1":"pass"}}}}"#;

fn labelled(value: &Value) -> Value {
    json!({"metadata": {"labels": {RING_LABEL: value}}})
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

fn pod(note: &str) -> Value {
    json!({
        "metadata": {"annotations": {NOTE: note}},
        "spec": {"schedulingGates": [{"name": "x.example/wait"}], "containers": [{"name": "c", "image": "x"}]},
    })
}

fn rules() -> Value {
    json!([{"name": "r", "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
        "validate": {"failureAction": "Audit", "message": "m", "pattern": {"metadata": {"name": "?*"}}}}])
}

fn constraints() -> Value {
    json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]})
}

fn action(
    what: &'static str,
    kind: (&'static str, &'static str, &'static str, &'static str),
    (namespace, name): (&'static str, &'static str),
    verb: Verb,
    yes: &'static [User],
    guard: &'static [User],
) -> Action {
    Action { what, kind, namespace, name, verb, yes, guard, is_dry: false }
}

fn dry(action: Action) -> Action {
    Action { is_dry: true, ..action }
}

fn enrolment() -> Vec<Action> {
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

fn kyverno() -> Vec<Action> {
    use Verb::{Apply, Create, Delete, Patch};
    const NEW: (&str, &str) = ("guarded", "new");
    const HELD: (&str, &str) = ("shop-dev", "new");
    const OLD: (&str, &str) = ("guarded", "theirs");
    const MAY: &[User] = &[PLATFORM, ADMIN];
    const NOT: &[User] = &[TENANT];
    let of = |kind: &'static str, plural: &'static str| ("policies.kyverno.io", "v1", kind, plural);
    let spec = |spec: Value| Create(json!({"spec": spec}));
    let mutation = json!({"matchConstraints": constraints(), "mutations": [{"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: Object.metadata.labels{x: \"y\"}}}"}}]});
    let images = json!({"matchConstraints": constraints(), "attestors": [{"name": "a", "cosign": {"key": {"data": "x"}}}],
        "validations": [{"expression": "true"}]});
    let generation = json!({"matchConstraints": constraints(),
        "variables": [{"name": "made", "expression": "[{\"kind\": dyn(\"ConfigMap\"), \"apiVersion\": dyn(\"v1\"), \"metadata\": dyn({\"name\": \"made\"})}]"}],
        "generate": [{"expression": "generator.Apply(variables.made)"}]});
    let validation =
        json!({"matchConstraints": constraints(), "validations": [{"expression": "true"}]});
    let exception = json!({"exceptions": [{"policyName": "signing-enforce-0001", "ruleNames": ["*"]}],
        "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}});
    let exempt = json!({"policyRefs": [{"name": "x", "kind": "ImageValidatingPolicy"}]});
    vec![
        action("create a Policy", POLICY, NEW, spec(json!({"rules": rules()})), MAY, NOT),
        action(
            "create one where enrolled",
            POLICY,
            HELD,
            spec(json!({"rules": rules()})),
            MAY,
            NOT,
        ),
        action(
            "apply a new Policy",
            POLICY,
            NEW,
            Apply(json!({"spec": {"rules": rules()}})),
            MAY,
            NOT,
        ),
        action(
            "change a Policy",
            POLICY,
            OLD,
            Patch("", json!({"spec": {"background": false}})),
            MAY,
            NOT,
        ),
        action("annotate a Policy", POLICY, OLD, Patch("", annotated("a", "b")), MAY, NOT),
        dry(action(
            "finalizers of a Policy",
            POLICY,
            OLD,
            Patch("", json!({"metadata": {"finalizers": ["a/b"]}})),
            &[TENANT, PLATFORM, ADMIN],
            &[],
        )),
        dry(action(
            "delete a Policy",
            POLICY,
            OLD,
            Delete,
            &[TENANT, PLATFORM, ADMIN, NAMESPACES],
            &[],
        )),
        dry(action(
            "NamespacedMutatingPolicy",
            of("NamespacedMutatingPolicy", "namespacedmutatingpolicies"),
            NEW,
            spec(mutation),
            MAY,
            NOT,
        )),
        dry(action(
            "NamespacedImageValidatingPolicy",
            of("NamespacedImageValidatingPolicy", "namespacedimagevalidatingpolicies"),
            NEW,
            spec(images),
            MAY,
            NOT,
        )),
        dry(action(
            "NamespacedGeneratingPolicy",
            of("NamespacedGeneratingPolicy", "namespacedgeneratingpolicies"),
            NEW,
            spec(generation),
            MAY,
            NOT,
        )),
        dry(action(
            "NamespacedValidatingPolicy",
            of("NamespacedValidatingPolicy", "namespacedvalidatingpolicies"),
            NEW,
            spec(validation),
            &[TENANT, PLATFORM, ADMIN],
            &[],
        )),
        dry(action(
            "PolicyException (kyverno.io)",
            ("kyverno.io", "v2", "PolicyException", "policyexceptions"),
            NEW,
            spec(exception),
            MAY,
            NOT,
        )),
        dry(action(
            "PolicyException (policies.…)",
            of("PolicyException", "policyexceptions"),
            NEW,
            spec(exempt),
            MAY,
            NOT,
        )),
    ]
}

fn operators() -> Vec<Action> {
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

fn rings() -> Vec<Action> {
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

fn marks() -> Vec<Action> {
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
        dry(action(
            "write one by resize, dropped",
            POD,
            OLD,
            Patch("resize", annotated(NOTE, FORGED)),
            ALL_BUT,
            &[],
        )),
        dry(action(
            "write one by debug, dropped",
            POD,
            OLD,
            Patch("ephemeralcontainers", annotated(NOTE, FORGED)),
            ALL_BUT,
            &[],
        )),
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
            ("shop-dev", "new"),
            Create(unread),
            &[],
            WITH_TENANT,
        ),
    ]
}

async fn set_up(world: &World) -> Result<()> {
    world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
    bind(world).await?;
    world.ready_ring("shop").await?;
    world.ready_ring("till").await?;
    world
        .apply(
            "{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: guarded}}\n---\n\
             {apiVersion: v1, kind: Secret, type: signing.odj.cloud/key-ring, metadata: {name: collection, namespace: signing-system, labels: {guarded: collection}}}",
        )
        .await?;
    for namespace in ["guarded", "shop-dev"] {
        tenant_of(world, namespace).await?;
    }
    for (kind, metadata) in [
        ("Policy", json!({"name": "theirs", "namespace": "guarded"})),
        (
            "ClusterPolicy",
            json!({"name": "signing-audit-9999", "labels": {"guarded": "collection"}}),
        ),
    ] {
        let policy = json!({"apiVersion": "kyverno.io/v1", "kind": kind, "metadata": metadata, "spec": {"rules": rules()}});
        world.apply(&policy.to_string()).await?;
    }
    let image = world.push("shop/app", "v1").await?;
    world.sign(&image, "shop-ci/image-signing").await?;
    for namespace in ["guarded", "shop-dev"] {
        wait_until("its account is there", async || {
            Ok(world.get(&["serviceaccount", "default", "-n", namespace], "{.kind}").await.is_ok())
        })
        .await?;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waits", "namespace": namespace},
            "spec": {"containers": [{"name": "c", "image": image}]}});
        world.apply(&pod.to_string()).await?;
    }
    Ok(())
}

async fn try_all(world: &World, action: &Action, clients: &[Client]) -> Result<Vec<Said>> {
    let mut row = Vec::new();
    for (user, client) in ALL.into_iter().zip(clients) {
        let expected = action.expected(user);
        let who = || format!("{}: {}", action.what, user.name);
        let said = action.ask(world, client, true).await.with_context(who)?;
        ensure!(said == expected, "{}: {said:?} in a dry run", who());
        let is_dry = action.is_dry && expected == Said::Yes;
        if !is_dry {
            let before = action.look(world).await?;
            let said = action.ask(world, client, false).await.with_context(who)?;
            ensure!(said == expected, "{}: {said:?}", who());
            action.undo(world, before.as_ref()).await.with_context(who)?;
        }
        // Whom RBAC refuses it refuses kubectl, too.
        if expected != Said::Rbac {
            let before = action.look(world).await?;
            let said = action.kubectl(world, user, is_dry).await.with_context(who)?;
            ensure!(said.is_none_or(|said| said == expected), "{}: {said:?} by kubectl", who());
            action.undo(world, before.as_ref()).await.with_context(who)?;
        }
        row.push(said);
    }
    Ok(row)
}

#[test]
fn each_user_may_do_what_is_theirs_and_nothing_else() {
    in_turn(async |shared| {
        let world = &shared.world;
        set_up(world).await?;
        let mut clients = Vec::new();
        for user in ALL {
            clients.push(user.client(world).await?);
        }
        let names = ALL.map(|user| format!("{:>13}", user.name)).concat();
        println!("{:<34}{names}", "");
        let mut wrong = Vec::new();
        for (title, actions) in [
            ("Enrolment", enrolment()),
            ("Kyverno's policies of one namespace", kyverno()),
            ("What is the operator's", operators()),
            ("Rings", rings()),
            ("Kyverno's notes", marks()),
        ] {
            println!("{title}");
            for action in actions {
                match try_all(world, &action, &clients).await {
                    Ok(row) => {
                        let cells = row.iter().map(|said| format!("{said:>13}"));
                        println!("  {:<32}{}", action.what, cells.collect::<String>());
                    }
                    Err(error) => wrong.push(format!("{error:#}")),
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}
