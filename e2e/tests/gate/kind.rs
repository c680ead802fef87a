//! The kind of the questions is not served, or was installed anew.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::{rotates, turn::in_turn_only};

const CRD: &str = "gatequestions.signing.odj.cloud";

async fn keys(world: &World, policy: &str, ring: &str) -> Result<usize> {
    let rule = format!("{{.spec.rules[?(@.name==\"{ring}\")]..publicKeys}}");
    Ok(world.get(&["clusterpolicy", policy], &rule).await?.matches("BEGIN").count())
}

#[test]
fn without_it_nothing_is_written_but_what_is_urgent_and_all_goes_on_with_it() {
    in_turn_only(Kind::ClusterPolicy, "the other is asked by a ConfigMap", async |shared| {
        let world = &shared.world;
        world.ready_ring("asked").await?;
        world.rotate("asked", "b").await?;
        let policy = world.ring("asked", "{.status.policy.name}").await?;
        let unsigned = world.push("asked/app", "v1").await?;
        let questions = "{.metadata.annotations.signing\\.odj\\.cloud/questions}";
        let before = world.get(&["clusterpolicy", &policy], questions).await?;
        ensure!(!before.is_empty());

        world.kubectl(&["delete", "crd", CRD]).await?;
        let text =
            world.wait_for_condition("asked", "PolicyEnforced", "Unknown GateNotServed").await?;
        ensure!(text.contains(CRD), "{text}");
        world.wait_until_refused("asked-dev", &unsigned).await?;
        world.apply(&namespaces("asks-late")).await?;
        world.apply(&manifest("asks-late", "  policy: {action: Audit}\n")).await?;
        let text =
            world.wait_for_condition("asks-late", "PolicyEnforced", "False GateNotServed").await?;
        ensure!(text.contains("is created once the cluster serves"), "{text}");
        world.ask_for_rotation("asked", "c").await?;
        world.wait_for_field("asked", "{.status.versions[0].state}", "Pending").await?;

        // A revocation does not wait.
        ensure!(keys(world, &policy, "asked").await? == 2);
        let revoked = manifest("asked", "  revoked: [{version: 1, reason: test}]\n");
        world.apply(&revoked).await?;
        wait_until(
            "the revoked key is out",
            async || Ok(keys(world, &policy, "asked").await? == 1),
        )
        .await?;
        // Nor does an edit stay.
        let edit = r#"[{"op": "replace", "path": "/spec/rules/1/verifyImages/0/required", "value": false}]"#;
        world.kubectl(&["patch", "clusterpolicy", &policy, "--type=json", "-p", edit]).await?;
        wait_until("the edit is undone", async || {
            let rule = "{.spec.rules[1].verifyImages[0].required}";
            Ok(world.get(&["clusterpolicy", &policy], rule).await? == "true")
        })
        .await?;
        world.wait_until_refused("asked-dev", &unsigned).await?;

        // Kyverno loads the policies without it.
        shared.cluster.stop("kyverno").await?;
        shared.cluster.start_again("kyverno").await?;
        world.wait_until_refused("asked-dev", &unsigned).await?;
        world.install().await?;
        world.wait_for_field("asked", "{.status.observedRotation}", "c").await?;
        for ring in ["asked", "asks-late"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        let after = world.get(&["clusterpolicy", &policy], questions).await?;
        ensure!(after != before && !after.is_empty(), "{before} {after}");
        world.wait_for_condition("asked", "RevocationsApplied", "True").await?;
        rotates(world, "asked").await
    });
}

/// Kyverno is asked by one version alone, which can be switched off and on again.
#[test]
fn a_version_that_is_not_served_for_a_while_is_like_a_kind_that_is_not_there() {
    in_turn_only(Kind::ClusterPolicy, "the other is asked by a ConfigMap", async |shared| {
        let world = &shared.world;
        world.ready_ring("switched").await?;
        let switch = async |served: bool| {
            let patch = format!(
                r#"[{{"op": "replace", "path": "/spec/versions/0/served", "value": {served}}}]"#
            );
            world.kubectl(&["patch", "crd", CRD, "--type=json", "-p", &patch]).await
        };
        switch(false).await?;
        let text =
            world.wait_for_condition("switched", "PolicyEnforced", "Unknown GateNotServed").await?;
        ensure!(text.contains("not served"), "{text}");
        // Kyverno loads the policies while it cannot know the kind.
        shared.cluster.stop("kyverno").await?;
        shared.cluster.start_again("kyverno").await?;
        let unsigned = world.push("switched/app", "v1").await?;
        world.wait_until_refused("switched-dev", &unsigned).await?;
        switch(true).await?;
        world.wait_for_condition("switched", "Ready", "True").await?;
        rotates(world, "switched").await
    });
}
