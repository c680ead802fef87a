//! Nothing is minted over a loss, and a ring that cannot be read keeps its rule.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{manifest, namespaces, wait_until},
};

use crate::turn::{self, in_turn};

#[test]
fn a_lost_ledger_stalls_the_ring_and_its_rule_stays() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("lost").await?;
        let signed = world.push("lost/app", "v1").await?;
        world.sign(&signed, "lost-ci/image-signing").await?;
        world.wait_until_admitted("lost-dev", &signed).await?;
        let fingerprint = world.ring("lost", "{.status.versions[0].fingerprint}").await?;
        let backup = world
            .kubectl(&["get", "secret", "ring-lost", "-n", "signing-system", "-o", "yaml"])
            .await?;

        world.kubectl(&["delete", "secret", "ring-lost", "-n", "signing-system"]).await?;
        let text = world.wait_for_condition("lost", "Stalled", "True KeyMaterialLost").await?;
        ensure!(text.contains("Restore the newest backup"), "{text}");
        world.wait_for_condition("lost", "Ready", "False KeyMaterialLost").await?;
        world.ask_for_rotation("lost", "now").await?;

        // The rule outlives an edit of its policy, a restart and the status.
        let policy = world.ring("lost", "{.status.policy.name}").await?;
        world.kubectl(&["delete", Kind::of(&policy).resource(), &policy]).await?;
        wait_until("the rule is back", async || {
            Ok(world.keys(&policy, "lost").await.is_ok_and(|keys| keys.is_some()))
        })
        .await?;
        turn::kill(shared).await?;
        world
            .kubectl(&[
                "patch",
                "skr",
                "lost",
                "--subresource=status",
                "--type=merge",
                "-p",
                r#"{"status":null}"#,
            ])
            .await?;
        turn::start(shared, &[]).await?;
        world.wait_for_condition("lost", "Stalled", "True KeyMaterialLost").await?;
        world.wait_until_admitted("lost-dev", &signed).await?;
        let unsigned = world.push("lost/unsigned", "v1").await?;
        ensure!(world.admit("lost-dev", &unsigned).await? != Verdict::Admitted);
        ensure!(
            world.get(&["secret", "ring-lost", "-n", "signing-system"], "{.kind}").await.is_err(),
            "a ledger was made"
        );

        // Whether Kyverno answers with that rule is said all the same.
        shared.cluster.stop("kyverno").await?;
        world.wait_for_condition("lost", "PolicyEnforced", "False GateMute").await?;
        shared.cluster.start_again("kyverno").await?;
        world.wait_for_condition("lost", "PolicyEnforced", "True").await?;

        // A key is revoked without the ledger, by its fingerprint.
        let entry = format!("  revoked: [{{fingerprint: '{fingerprint}', reason: test}}]\n");
        world.apply(&manifest("lost", &entry)).await?;
        world.wait_until_refused("lost-dev", &signed).await?;

        // A backup brings everything back; the rotation asked for meanwhile follows.
        let backup: Vec<&str> = backup
            .lines()
            .filter(|l| !l.contains("resourceVersion:") && !l.contains("uid:"))
            .collect();
        world.apply(&backup.join("\n")).await?;
        world.wait_for_field("lost", "{.status.observedRotation}", "now").await?;
        world.wait_for_condition("lost", "Ready", "True").await?;
        ensure!(world.ring("lost", "{.status.currentVersion}").await? == "2");
        Ok(())
    });
}

#[test]
fn a_lost_ledger_does_not_keep_a_ring_from_being_deleted() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("lostgone").await?;
        let policy = world.ring("lostgone", "{.status.policy.name}").await?;
        world.kubectl(&["delete", "secret", "ring-lostgone", "-n", "signing-system"]).await?;
        world.wait_for_condition("lostgone", "Stalled", "True KeyMaterialLost").await?;
        world.kubectl(&["delete", "namespace", "lostgone-dev", "--wait=true"]).await?;
        world.kubectl(&["delete", "skr", "lostgone", "--timeout=60s"]).await?;
        ensure!(world.keys(&policy, "lostgone").await.unwrap_or_default().is_none());
        Ok(())
    });
}

#[test]
fn a_ring_of_a_later_schema_keeps_its_rule() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("later").await?;
        let unsigned = world.push("later/app", "v1").await?;
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let add =
            format!(r#"[{{"op":"add","path":"{schema}/escrow","value":{{"type":"string"}}}}]"#);
        world
            .kubectl(&[
                "patch",
                "crd",
                "signingkeyrings.signing.odj.cloud",
                "--type=json",
                "-p",
                &add,
            ])
            .await?;
        wait_until("the later field is stored", async || {
            let patch =
                ["patch", "skr", "later", "--type=merge", "-p", r#"{"spec":{"escrow":"yes"}}"#];
            world.kubectl(&patch).await?;
            Ok(world.ring("later", "{.spec.escrow}").await? == "yes")
        })
        .await?;
        // A watch that began before the schema changed shows the object without
        // the field; the next change of the object comes by a new one.
        let mut touched = 0;
        wait_until("the ring is found to be unreadable", async || {
            touched += 1;
            world
                .kubectl(&[
                    "annotate",
                    "--overwrite",
                    "skr",
                    "later",
                    &format!("touched={touched}"),
                ])
                .await?;
            Ok(world.condition("later", "Stalled").await?.starts_with("True SpecUnreadable"))
        })
        .await?;
        let text = world.condition("later", "Stalled").await?;
        ensure!(text.contains("escrow") && text.contains("upgrade the operator"), "{text}");
        let policy = world.ring("later", "{.status.policy.name}").await?;
        world.kubectl(&["delete", Kind::of(&policy).resource(), &policy]).await?;
        world.wait_until_refused("later-dev", &unsigned).await?;

        let remove = format!(r#"[{{"op":"remove","path":"{schema}/escrow"}}]"#);
        world
            .kubectl(&[
                "patch",
                "skr",
                "later",
                "--type=merge",
                "-p",
                r#"{"spec":{"escrow":null}}"#,
            ])
            .await?;
        world
            .kubectl(&[
                "patch",
                "crd",
                "signingkeyrings.signing.odj.cloud",
                "--type=json",
                "-p",
                &remove,
            ])
            .await?;
        world.wait_for_condition("later", "Ready", "True").await?;
        Ok(()) as Result<()>
    });
}

#[test]
fn a_foreign_secret_in_the_ledgers_place_is_left_alone() {
    in_turn(async |shared| {
        let world = &shared.world;
        let foreign = "{apiVersion: v1, kind: Secret, metadata: {name: ring-taken, namespace: signing-system}, stringData: {theirs: keep}}";
        world.apply(foreign).await?;
        world.apply(&namespaces("taken")).await?;
        world.apply(&manifest("taken", "")).await?;
        let text = world.wait_for_condition("taken", "Stalled", "True SecretConflict").await?;
        ensure!(
            text.contains("signing-system/ring-taken has the name of the ring's ledger"),
            "{text}"
        );
        let secret = ["secret", "ring-taken", "-n", "signing-system"];
        ensure!(world.get(&secret, "{.data}").await? == "{\"theirs\":\"a2VlcA==\"}");
        world.kubectl(&["delete", "secret", "ring-taken", "-n", "signing-system"]).await?;
        world.wait_for_condition("taken", "Ready", "True").await?;
        Ok(())
    });
}

#[test]
fn a_refused_ledger_is_said_and_tried_again() {
    in_turn(async |shared| {
        let world = &shared.world;
        let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none, namespace: signing-system}, spec: {hard: {count/secrets: '0'}}}";
        world.apply(quota).await?;
        wait_until("the quota counts", async || {
            let used = world
                .get(&["resourcequota", "none", "-n", "signing-system"], "{.status.hard}")
                .await?;
            Ok(!used.is_empty())
        })
        .await?;
        world.apply(&namespaces("quota")).await?;
        world.apply(&manifest("quota", "")).await?;
        let text = world.wait_for_condition("quota", "Reconciling", "True Retrying").await?;
        ensure!(text.contains("exceeded quota"), "{text}");
        world.kubectl(&["delete", "resourcequota", "none", "-n", "signing-system"]).await?;
        world.wait_for_condition("quota", "Ready", "True").await?;
        ensure!(world.ring("quota", "{.status.versions[*].version}").await? == "1");
        Ok(())
    });
}
