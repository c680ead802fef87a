//! Pipelines come, move and go without a rotation.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{consent, manifest, namespaces, wait_until};

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

/// No key was ever there, so nobody has to let the operator look, neither for a rotation nor for
/// the ring's end.
#[test]
fn a_namespace_that_comes_without_consent_while_a_ring_is_born_holds_nothing_up() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&manifest("late", "").replace("{soak: 1s}", "{soak: 5s}")).await?;
        world.wait_for_field("late", "{.status.versions[0].state}", "Pending").await?;
        world.kubectl(&["create", "namespace", "late-ci"]).await?;
        world.wait_for_field("late", "{.status.currentVersion}", "1").await?;
        world.wait_for_condition("late", "PipelinesPublished", "False AccessNotGranted").await?;
        world.rotate("late", "again").await?;
        ensure!(world.ring("late", "{.status.currentVersion}").await? == "2");
        world.kubectl(&["delete", "signingkeyring", "late", "--timeout=1m"]).await?;
        Ok(())
    });
}

/// Its owner's consent goes first, so nobody can grant it any more.
#[test]
fn a_namespace_that_hangs_in_deletion_holds_nothing_back() {
    run(async |shared| {
        let world = &shared.world;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: hangs-ci2}}").await?;
        world.apply(&consent("hangs-ci2")).await?;
        world.apply(&namespaces("hangs")).await?;
        let both = "[{namespace: hangs-ci}, {namespace: hangs-ci2}]";
        let ring = manifest("hangs", "").replace("[{namespace: hangs-ci}]", both);
        world.apply(&ring).await?;
        world.wait_for_condition("hangs", "Ready", "True").await?;

        let held = "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: hangs-ci2, finalizers: [example.com/held]}}";
        world.apply(held).await?;
        world.kubectl(&["delete", "namespace", "hangs-ci2", "--wait=false"]).await?;
        wait_until("consent is gone with what else was there", async || {
            let left = world
                .kubectl(&["get", "rolebindings,secrets", "-n", "hangs-ci2", "-o", "name"])
                .await?;
            Ok(left.is_empty())
        })
        .await?;
        let text = world
            .wait_for_condition("hangs", "PipelinesPublished", "False NamespaceTerminating")
            .await?;
        ensure!(text.contains("namespace hangs-ci2 is being deleted"), "{text}");
        world.rotate("hangs", "goes-on").await?;

        // Taken out, and the Secret is gone: nobody says that it was left behind.
        world.apply(&manifest("hangs", "")).await?;
        let text = world
            .wait_for_condition("hangs", "PipelinesPublished", "True NamespaceTerminating")
            .await?;
        ensure!(!text.contains("left behind") && !text.contains("rolebinding"), "{text}");

        // What the message says shows what holds the namespace up.
        let shown = world.do_as_told(&text).await?;
        ensure!(shown.contains("example.com/held"), "{shown}");
        let release = r#"{"metadata":{"finalizers":null}}"#;
        world
            .kubectl(&[
                "patch",
                "configmap",
                "held",
                "-n",
                "hangs-ci2",
                "--type=merge",
                "-p",
                release,
            ])
            .await?;
        world.wait_for_condition("hangs", "PipelinesPublished", "True Published").await?;
        Ok(())
    });
}

#[test]
fn an_immutable_secret_holds_up_a_rotation_and_the_message_says_how_to_go_on() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("solid").await?;
        let fix = r#"{"immutable":true}"#;
        let patch =
            ["patch", "secret", "image-signing", "-n", "solid-ci", "--type=merge", "-p", fix];
        world.kubectl(&patch).await?;
        world.ask_for_rotation("solid", "next").await?;
        let text = world.wait_for_condition("solid", "Stalled", "True SecretImmutable").await?;
        ensure!(world.ring("solid", "{.status.currentVersion}").await? == "1");
        world.do_as_told(&text).await?;
        world.wait_for_field("solid", "{.status.observedRotation}", "next").await?;
        world.wait_for_condition("solid", "Ready", "True").await?;
        Ok(())
    });
}
