//! Uninstalling in the documented order leaves nothing: rings, then the
//! operator, then the CRDs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use anyhow::{Context, Result, ensure};

use common::run;
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, namespaces, wait_until},
};

#[test]
fn the_documented_order_leaves_nothing() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("one").await?;
        world.ready_ring("two").await?;

        world.apply(&namespaces("nobody")).await?;
        let all = "clusterpolicies,imagevalidatingpolicies,mutatingpolicies";
        let policies = async || world.kubectl(&["get", all, "-o", "name"]).await;
        let unknown = &Kind::under_test().audit(0)[..];
        wait_until("its label is covered", async || Ok(policies().await?.contains(unknown)))
            .await?;

        // Rings first, while the operator can still take their rules out.
        let rings = "signing.odj.cloud/ring!=signing-gate";
        world.kubectl(&["label", "namespaces", "-l", rings, "signing.odj.cloud/ring-"]).await?;
        world.kubectl(&["delete", "skr", "--all", "--timeout=90s"]).await?;
        wait_until("no policy is left", async || Ok(policies().await?.trim().is_empty())).await?;
        // One label stays, as on a platform where it is there for other reasons.
        world.apply(&namespaces("nobody")).await?;
        wait_until("its label is covered", async || Ok(policies().await?.contains(unknown)))
            .await?;
        let ledgers = [
            "get",
            "secrets",
            "-A",
            "--field-selector=type=signing.odj.cloud/key-ring",
            "-o",
            "name",
        ];
        let left = world.kubectl(&ledgers).await?;
        ensure!(left.trim().is_empty(), "ledgers are left: {left}");
        let published = [
            "get",
            "secrets",
            "-A",
            "-l",
            "app.kubernetes.io/managed-by=signingkeyring-operator",
            "-o",
            "name",
        ];
        let left = world.kubectl(&published).await?;
        ensure!(left.trim().is_empty(), "pipeline Secrets are left: {left}");

        // Then the operator, its rights and the CRDs.
        if let Some(operator) = shared.operator.lock().await.take() {
            ensure!(operator.stop().await? == Some(0));
        }
        its_namespaces_end_by_who_may(world).await?;
        for part in ["manifests/probe", "manifests"] {
            let part = format!("--kustomize={part}");
            world.kubectl(&["delete", &part, "--ignore-not-found", "--timeout=90s"]).await?;
        }
        let ours = "app.kubernetes.io/managed-by=signingkeyring-operator";
        world.kubectl(&["delete", all, "-l", ours]).await?;
        let left = policies().await?;
        ensure!(left.trim().is_empty(), "policies are left: {left}");
        let left = world.kubectl(&["get", "crd", "-o", "name"]).await?;
        ensure!(!left.contains("signing.odj.cloud"), "{left}");
        are_gone(world).await
    });
}

/// The operator's namespaces.
const ITS: [&str; 2] = ["signing-system", "signing-probe"];

async fn are_gone(world: &World) -> Result<()> {
    let left = world.kubectl(&["get", "namespaces", "--output=name"]).await?;
    ensure!(ITS.iter().all(|name| !left.contains(name)), "{left}");
    Ok(())
}

/// Somebody who may delete namespaces, and a ledger that came back from a backup.
const JANITOR_AND_LEDGER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: deletes-namespaces}
rules: [{apiGroups: [''], resources: [namespaces], verbs: [get, list, watch, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: deletes-namespaces}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: deletes-namespaces}
subjects: [{kind: User, name: janitor, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: v1
kind: Secret
metadata: {name: ring-returned, namespace: signing-system}
type: signing.odj.cloud/key-ring
";

/// While the guard stands, by which a ledger is deleted only by who operates the operator,
/// and Kubernetes when its namespace ends. They are there again afterwards.
async fn its_namespaces_end_by_who_may(world: &World) -> Result<()> {
    world.apply(JANITOR_AND_LEDGER).await?;
    world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: anybodys}}").await?;
    let delete = ["delete", "namespace", "--timeout=90s"];
    let janitor = ["--as=janitor"];
    for name in ITS {
        let refused = world.kubectl(&[&delete[..], &[name], &janitor].concat()).await.err();
        let refused = refused.context("a janitor deleted it")?.to_string();
        ensure!(refused.contains("only by who has the verb operate"), "{refused}");
        ensure!(world.get(&["namespace", name], "{.status.phase}").await? == "Active");
    }
    world.kubectl(&[&delete[..], &["anybodys"], &janitor].concat()).await?;
    // kubectl waits for their end.
    world.kubectl(&[&delete[..], &ITS].concat()).await?;
    are_gone(world).await?;
    world.install().await
}
