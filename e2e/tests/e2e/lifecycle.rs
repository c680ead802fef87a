//! Versions come, sign, verify and retire.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::common::run;

#[test]
fn the_fourth_version_blocks_the_image_of_the_first() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("four").await?;
        let mut images = Vec::new();
        for version in 1..=4 {
            if version > 1 {
                world.rotate("four", &format!("t{version}")).await?;
            }
            let image = world.push("four/app", &format!("v{version}")).await?;
            world.sign(&image, "four-ci/image-signing").await?;
            world.wait_until_admitted("four-dev", &image).await?;
            images.push(image);
        }
        world.wait_until_refused("four-dev", &images[0]).await?;
        for image in &images[1..] {
            ensure!(world.admit("four-dev", image).await? == Verdict::Admitted, "{image}");
        }
        let unsigned = world.push("four/unsigned", "v1").await?;
        let Verdict::Refused(text) = world.admit("four-dev", &unsigned).await? else {
            anyhow::bail!("an unsigned image was admitted");
        };
        ensure!(text.contains("four:"), "the denial does not name the ring: {text}");
        ensure!(
            world.admit("default", &unsigned).await? == Verdict::Admitted,
            "default is not enrolled"
        );
        ensure!(world.ring("four", "{.status.acceptedVersions}").await? == "[4,3,2]");
        Ok(())
    });
}

#[test]
fn cosign_signs_with_both_layouts_and_verifies_with_the_right_key() {
    run(async |shared| {
        let world = &shared.world;
        let both = manifest("layouts", "").replace(
            "[{namespace: layouts-ci}]",
            "[{namespace: layouts-ci}, {namespace: layouts-env, layout: Environment}]",
        );
        world.apply(&namespaces("layouts")).await?;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: layouts-env}}").await?;
        world.apply(&signingkeyring_e2e_testbed::world::consent("layouts-env")).await?;
        world.apply(&both).await?;
        world.wait_for_condition("layouts", "Ready", "True").await?;
        let first = entry(world, "layouts-ci", "cosign.pub").await?;

        world.rotate("layouts", "second").await?;
        let public = entry(world, "layouts-ci", "cosign.pub").await?;
        ensure!(public != first, "the key did not change");
        ensure!(public == world.ring("layouts", "{.status.versions[0].publicKey}").await?);
        let image = world.push("layouts/app", "v1").await?;
        let private = entry(world, "layouts-env", "COSIGN_PRIVATE_KEY").await?;
        let password = entry(world, "layouts-env", "COSIGN_PASSWORD").await?;
        ensure!(!password.contains('\n'), "cosign takes the password byte for byte");
        let environment =
            [("COSIGN_PRIVATE_KEY", private.as_str()), ("COSIGN_PASSWORD", &password)];
        world.sign_with(&image, "env://COSIGN_PRIVATE_KEY", &environment).await?;
        verify(world, &image, &public).await?;
        ensure!(verify(world, &image, &first).await.is_err(), "the previous key verifies");
        world.wait_until_admitted("layouts-dev", &image).await
    });
}

async fn entry(world: &World, namespace: &str, name: &str) -> Result<String> {
    let template = format!("-o=go-template={{{{index .data \"{name}\" | base64decode}}}}");
    world.kubectl(&["get", "secret", "image-signing", "-n", namespace, &template]).await
}

async fn verify(world: &World, image: &str, public: &str) -> Result<String> {
    let file = world.info.folder.join("verify.pub");
    std::fs::write(&file, public)?;
    let key = file.display().to_string();
    let arguments = [
        "verify",
        "--key",
        &key,
        "--insecure-ignore-tlog=true",
        "--private-infrastructure=true",
        image,
    ];
    world.run("cosign", &arguments, &[], "").await
}

#[test]
fn rotation_tokens() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("tokens")).await?;
        let born_with = manifest("tokens", "").replace(
            "{name: tokens}",
            "{name: tokens, annotations: {signing.odj.cloud/rotate: a}}",
        );
        world.apply(&born_with).await?;
        world.wait_for_condition("tokens", "Ready", "True").await?;
        let current = "{.status.currentVersion}";
        ensure!(
            world.ring("tokens", current).await? == "1",
            "the token at creation asks for nothing"
        );
        world.wait_for_field("tokens", "{.status.observedRotation}", "a").await?;

        world.rotate("tokens", "b").await?;
        ensure!(world.ring("tokens", current).await? == "2");
        // A returning value, as GitOps tools set it, asks for nothing.
        world.rotate("tokens", "a").await?;
        world.ask_for_rotation("tokens", "").await?;
        world.wait_for_field("tokens", "{.status.observedRotation}", "").await?;
        ensure!(world.ring("tokens", current).await? == "2");

        world.ask_for_rotation("tokens", &"x".repeat(254)).await?;
        let ready = world.wait_for_condition("tokens", "Ready", "False SpecInvalid").await?;
        ensure!(ready.contains("longer than 253 characters"), "{ready}");
        ensure!(world.condition("tokens", "Stalled").await?.starts_with("True SpecInvalid"));
        world.rotate("tokens", "c").await?;
        world.wait_for_condition("tokens", "Ready", "True").await?;
        ensure!(world.ring("tokens", current).await? == "3");
        Ok(())
    });
}

#[test]
fn what_is_asked_during_a_rotation_becomes_one_that_follows() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("asked").await?;
        // So long that it is seen on its way.
        world.apply(&manifest("asked", "").replace("{soak: 1s}", "{soak: 6s}")).await?;
        world.ask_for_rotation("asked", "one").await?;
        world.wait_for_field("asked", "{.status.versions[0].state}", "Pending").await?;
        world.ask_for_rotation("asked", "two").await?;
        world.ask_for_rotation("asked", "three").await?;
        world.wait_for_field("asked", "{.status.observedRotation}", "three").await?;
        ensure!(world.ring("asked", "{.status.currentVersion}").await? == "3");
        Ok(())
    });
}

#[test]
fn ready_stays_true_through_a_rotation() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("steady").await?;
        let since = world
            .ring("steady", "{.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}")
            .await?;
        world.rotate("steady", "next").await?;
        wait_until("the rotation is reported", async || {
            Ok(world.condition("steady", "Reconciling").await?.trim().is_empty())
        })
        .await?;
        let after = world
            .ring("steady", "{.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}")
            .await?;
        ensure!(since == after, "Ready turned at {after}");
        Ok(())
    });
}

#[test]
fn the_window_moves_without_a_rotation() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("window").await?;
        let image = world.push("window/app", "v1").await?;
        world.sign(&image, "window-ci/image-signing").await?;
        world.rotate("window", "two").await?;
        world.wait_until_admitted("window-dev", &image).await?;

        world.apply(&manifest("window", "  keepVersions: 1\n")).await?;
        world.wait_for_field("window", "{.status.acceptedVersions}", "[2]").await?;
        world.wait_until_refused("window-dev", &image).await?;

        world.apply(&manifest("window", "  keepVersions: 2\n")).await?;
        world.wait_for_field("window", "{.status.acceptedVersions}", "[2,1]").await?;
        world.wait_until_admitted("window-dev", &image).await?;
        ensure!(world.ring("window", "{.status.currentVersion}").await? == "2");
        Ok(())
    });
}

#[test]
fn the_action_changes_without_a_gap() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("action").await?;
        let unsigned = world.push("action/app", "v1").await?;
        world.wait_until_refused("action-dev", &unsigned).await?;

        world.apply(&manifest("action", "  policy: {action: Audit}\n")).await?;
        let enforced = world.wait_for_condition("action", "PolicyEnforced", "True Audited").await?;
        ensure!(enforced.contains("refuses nothing"), "{enforced}");
        world.wait_until_admitted("action-dev", &unsigned).await?;
        let policy = world.ring("action", "{.status.policy.name}").await?;
        let audits = Kind::under_test().audit(1);
        ensure!(policy == audits, "{policy}");

        world.apply(&manifest("action", "  policy: {action: Enforce}\n")).await?;
        world.wait_for_condition("action", "PolicyEnforced", "True Enforced").await?;
        world.wait_until_refused("action-dev", &unsigned).await?;
        ensure!(world.ring("action", "{.status.currentVersion}").await? == "1");
        Ok(())
    });
}

/// Under both of Kyverno's webhooks a verified image would be refused.
#[test]
fn what_is_signed_is_admitted_all_the_time_while_the_action_changes() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("flips").await?;
        let signed = world.push("flips/app", "v1").await?;
        world.sign(&signed, "flips-ci/image-signing").await?;
        world.wait_until_admitted("flips-dev", &signed).await?;
        for action in ["Audit", "Enforce", "Audit", "Enforce"] {
            world.apply(&manifest("flips", &format!("  policy: {{action: {action}}}\n"))).await?;
            wait_until(&format!("flips: {action}"), async || {
                let verdict = world.admit("flips-dev", &signed).await?;
                // Not an error, which would be tried again.
                assert_eq!(verdict, Verdict::Admitted, "while the action becomes {action}");
                let said = world.condition("flips", "PolicyEnforced").await?;
                Ok(said.starts_with(&format!("True {action}")))
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_ring_without_namespaces_says_so() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("lonely").await?;
        world.kubectl(&["label", "namespace", "lonely-dev", "signing.odj.cloud/ring-"]).await?;
        world.wait_for_field("lonely", "{.status.enrolledNamespaces}", "0").await?;
        let ready = world
            .wait_for_condition("lonely", "Ready", "True Available no namespace is enrolled")
            .await?;
        ensure!(
            ready.contains("kubectl label namespace NAME signing.odj.cloud/ring=lonely"),
            "{ready}"
        );
        Ok(())
    });
}
