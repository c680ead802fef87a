//! Pipelines come, move and go without a rotation.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{consent, manifest, wait_until};

use crate::common::run;

#[test]
fn pipelines_are_added_moved_and_removed() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("moving").await?;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: moving-ci2}}").await?;
        world.apply(&consent("moving-ci2")).await?;
        let fingerprint = "{.metadata.annotations.signing\\.odj\\.cloud/fingerprint}";
        let first = world.get(&["secret", "image-signing", "-n", "moving-ci"], fingerprint).await?;

        let moved = manifest("moving", "").replace("moving-ci", "moving-ci2");
        world.apply(&moved).await?;
        wait_until("the Secret has moved", async || {
            let gone = world
                .get(&["secret", "image-signing", "-n", "moving-ci"], "{.kind}")
                .await
                .is_err();
            let there =
                world.get(&["secret", "image-signing", "-n", "moving-ci2"], fingerprint).await;
            Ok(gone && there.is_ok_and(|there| there == first))
        })
        .await?;
        world.wait_for_condition("moving", "PipelinesPublished", "True Published").await?;

        world.apply(&manifest("moving", "").replace("[{namespace: moving-ci}]", "[]")).await?;
        wait_until("the Secret is gone", async || {
            Ok(world
                .get(&["secret", "image-signing", "-n", "moving-ci2"], "{.kind}")
                .await
                .is_err())
        })
        .await?;
        world.wait_for_condition("moving", "PipelinesPublished", "True NoPipelines").await?;
        ensure!(world.ring("moving", "{.status.currentVersion}").await? == "1");
        Ok(()) as Result<()>
    });
}

#[test]
fn a_foreign_secret_is_left_alone_and_reported() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("conflict")).await?;
        let foreign = "{apiVersion: v1, kind: Secret, metadata: {name: image-signing, namespace: conflict-ci}, stringData: {theirs: keep}}";
        world.apply(foreign).await?;
        world.apply(&manifest("conflict", "")).await?;
        let text = world
            .wait_for_condition("conflict", "PipelinesPublished", "False SecretConflict")
            .await?;
        ensure!(
            text.contains("kubectl delete secret image-signing --namespace=conflict-ci"),
            "{text}"
        );
        ensure!(
            world.get(&["secret", "image-signing", "-n", "conflict-ci"], "{.data}").await?
                == "{\"theirs\":\"a2VlcA==\"}"
        );
        world.wait_for_condition("conflict", "Stalled", "True SecretConflict").await?;

        world.kubectl(&["delete", "secret", "image-signing", "-n", "conflict-ci"]).await?;
        world.wait_for_condition("conflict", "Ready", "True").await?;
        Ok(())
    });
}
