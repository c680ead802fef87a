//! Deleting a ring does not open the gate by accident, and leaves nothing.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{World, manifest, wait_until};

use crate::common::run;

async fn nothing_is_left(world: &World, ring: &str, policy: &str) -> Result<()> {
    wait_until(&format!("ring {ring} is gone"), async || {
        Ok(world.ring(ring, "{.metadata.name}").await.is_err())
    })
    .await?;
    let ledger = format!("ring-{ring}");
    ensure!(world.get(&["secret", &ledger, "-n", "signing-system"], "{.kind}").await.is_err());
    let namespace = format!("{ring}-ci");
    ensure!(world.get(&["secret", "image-signing", "-n", &namespace], "{.kind}").await.is_err());
    let keys = world.keys(policy, ring).await.unwrap_or_default();
    ensure!(keys.is_none(), "its rule is still there");
    Ok(())
}

#[test]
fn enrolled_namespaces_hold_up_a_deletion() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("held").await?;
        let policy = world.ring("held", "{.status.policy.name}").await?;
        let unsigned = world.push("held/app", "v1").await?;
        world.kubectl(&["delete", "skr", "held", "--wait=false"]).await?;
        let text = world.wait_for_condition("held", "Ready", "False DeletionBlocked").await?;
        ensure!(text.contains("held-dev") && text.contains("signing.odj.cloud/ring-"), "{text}");
        world.wait_until_refused("held-dev", &unsigned).await?;

        world.kubectl(&["label", "namespace", "held-dev", "signing.odj.cloud/ring-"]).await?;
        nothing_is_left(world, "held", &policy).await
    });
}

#[test]
fn an_annotation_lets_a_ring_go_although_namespaces_are_enrolled() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("freed").await?;
        let policy = world.ring("freed", "{.status.policy.name}").await?;
        world.kubectl(&["delete", "skr", "freed", "--wait=false"]).await?;
        world.wait_for_condition("freed", "Ready", "False DeletionBlocked").await?;
        let annotation = "signing.odj.cloud/allow-unenforced-deletion=true";
        world.kubectl(&["annotate", "skr", "freed", annotation]).await?;
        nothing_is_left(world, "freed", &policy).await?;
        let unsigned = world.push("freed/app", "v1").await?;
        world.wait_until_admitted("freed-dev", &unsigned).await
    });
}

#[test]
fn a_ring_taken_away_by_force_keeps_its_rule_and_comes_back_with_its_keys() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("forced").await?;
        let unsigned = world.push("forced/app", "v1").await?;
        let fingerprint = world.ring("forced", "{.status.versions[0].fingerprint}").await?;
        world.kubectl(&["delete", "skr", "forced", "--wait=false"]).await?;
        world
            .kubectl(&[
                "patch",
                "skr",
                "forced",
                "--type=merge",
                "-p",
                r#"{"metadata":{"finalizers":null}}"#,
            ])
            .await?;
        wait_until("the ring is gone", async || {
            Ok(world.ring("forced", "{.metadata.name}").await.is_err())
        })
        .await?;
        wait_until("an event says so", async || {
            let events = world
                .kubectl(&[
                    "get",
                    "events",
                    "-n",
                    "default",
                    "--field-selector=reason=RuleKept",
                    "-o",
                    "jsonpath={.items[*].message}",
                ])
                .await?;
            Ok(events.contains("the rule of ring forced stays in force"))
        })
        .await?;
        world.wait_until_refused("forced-dev", &unsigned).await?;

        world.apply(&manifest("forced", "")).await?;
        world.wait_for_condition("forced", "Ready", "True").await?;
        ensure!(world.ring("forced", "{.status.versions[0].fingerprint}").await? == fingerprint);
        Ok(())
    });
}
