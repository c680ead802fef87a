//! Uninstalling in the documented order leaves nothing: rings, then the
//! operator, then the CRDs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use anyhow::{Result, ensure};

use common::run;
use signingkeyring_e2e_testbed::world::{namespaces, wait_until};

#[test]
fn the_documented_order_leaves_nothing() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("one").await?;
        world.ready_ring("two").await?;

        world.apply(&namespaces("nobody")).await?;
        let policies = async || world.kubectl(&["get", "clusterpolicies", "-o", "name"]).await;
        let unknown = "signing-audit-0000";
        wait_until("its label is covered", async || Ok(policies().await?.contains(unknown)))
            .await?;

        // Rings first, while the operator can still take their rules out.
        world.kubectl(&["label", "namespaces", "--all", "signing.odj.cloud/ring-"]).await?;
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
        world
            .kubectl(&["delete", "--kustomize=manifests", "--ignore-not-found", "--timeout=90s"])
            .await?;
        let ours = "app.kubernetes.io/managed-by=signingkeyring-operator";
        world.kubectl(&["delete", "clusterpolicies", "-l", ours]).await?;
        let left = policies().await?;
        ensure!(left.trim().is_empty(), "policies are left: {left}");
        let left = world.kubectl(&["get", "crd", "-o", "name"]).await?;
        ensure!(!left.contains("signing.odj.cloud"), "{left}");
        ensure!(world.get(&["namespace", "signing-system"], "{.kind}").await.is_err());
        Ok(()) as Result<()>
    });
}
