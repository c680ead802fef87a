//! Users and actions: each is tried in a dry run and for good, by the API server's
//! verbs (as controllers do) and by kubectl, and the table is printed.

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use crate::{
    actions::{
        Action, IMAGE_VALIDATING, MUTATING, On, enrolment, for_nobody, kyverno, notes, operators,
        rings, rules,
    },
    said::Said,
    turn::in_turn,
    users::{ALL, bind, tenant_of},
};

async fn set_up(world: &World) -> Result<()> {
    world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
    bind(world).await?;
    world.ready_ring("shop").await?;
    world.ready_ring("till").await?;
    world.apply(&namespaces("audits")).await?;
    world.apply(&manifest("audits", "  policy: {action: Audit}\n")).await?;
    world.wait_for_condition("audits", "Ready", "True").await?;
    world
        .apply(
            "{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: guarded}}\n---\n\
             {apiVersion: v1, kind: Secret, type: signing.odj.cloud/key-ring, metadata: {name: collection, namespace: signing-system, labels: {guarded: collection}}}\n---\n\
             {apiVersion: v1, kind: Secret, type: signing.odj.cloud/key-ring, metadata: {name: a-ledger, namespace: signing-system}}",
        )
        .await?;
    for namespace in ["guarded", "shop-dev", "audits-dev"] {
        tenant_of(world, namespace).await?;
    }
    world.apply(&namespaces("checked")).await?;
    world.apply(&manifest("checked", "  policy: {kind: ImageValidatingPolicy}\n")).await?;
    world.wait_for_condition("checked", "Ready", "True").await?;
    let [verifies, pins] = for_nobody();
    for ((group, version, kind, _), name, label, spec) in [
        (IMAGE_VALIDATING, "signing.audit-9999", "collection", &verifies),
        (MUTATING, "signing.pin-9999", "collection", &pins),
        (IMAGE_VALIDATING, "signing.enforce-0000", "alone", &verifies),
    ] {
        let metadata = json!({"name": name, "labels": {"guarded": label}});
        let api = format!("{group}/{version}");
        let policy = json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
        world.apply(&policy.to_string()).await?;
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
        let may = expected == Said::Yes;
        let is_dry = may && matches!(action.on, On::WhatIsNeeded);
        let tried = if may { action.this_time(world).await? } else { action.clone() };
        let said = tried.ask(world, client, true).await.with_context(who)?;
        ensure!(said == expected, "{}: {said:?} in a dry run", who());
        if !is_dry {
            let before = tried.look(world).await?;
            let said = tried.ask(world, client, false).await.with_context(who)?;
            ensure!(said == expected, "{}: {said:?}", who());
            tried.undo(world, before.as_ref()).await.with_context(who)?;
        }
        // Whom RBAC refuses it refuses kubectl, too.
        if expected != Said::Rbac {
            let tried = if may { action.this_time(world).await? } else { action.clone() };
            let before = tried.look(world).await?;
            let said = tried.kubectl(world, user, is_dry).await.with_context(who)?;
            ensure!(said.is_none_or(|said| said == expected), "{}: {said:?} by kubectl", who());
            tried.undo(world, before.as_ref()).await.with_context(who)?;
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
        let owner = world.get(&["namespace", "guarded"], "{.metadata.uid}").await?;
        let mut wrong = Vec::new();
        for (title, actions) in [
            ("Enrolment", enrolment::all()),
            ("Kyverno's policies of one namespace", kyverno::all()),
            ("What is the operator's", operators::all(&owner)),
            ("The same of ImageValidatingPolicies", operators::of_image_validating()),
            ("Rings", rings::all(&owner)),
            ("Kyverno's notes", notes::all()),
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
