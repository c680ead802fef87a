//! Taking keys out: at once, for ever, and without an outage.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{World, manifest, namespaces, wait_until},
};

use crate::common::run;

async fn apply(world: &World, ring: &str, more: &str) -> Result<()> {
    world.apply(&manifest(ring, more)).await?;
    Ok(())
}

/// Waits until a ring says that what is revoked is not accepted any more.
async fn applied(world: &World, ring: &str) -> Result<()> {
    let wanted = "True RevocationsApplied";
    world.wait_for_condition(ring, "RevocationsApplied", wanted).await?;
    Ok(())
}

async fn signed(world: &World, ring: &str, tag: &str) -> Result<String> {
    let image = world.push(&format!("{ring}/app"), tag).await?;
    world.sign(&image, &format!("{ring}-ci/image-signing")).await?;
    world.wait_until_admitted(&format!("{ring}-dev"), &image).await?;
    Ok(image)
}

#[test]
fn a_revoked_signer_is_replaced_and_its_images_are_refused() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("leaked").await?;
        let first = signed(world, "leaked", "v1").await?;
        world.rotate("leaked", "b").await?;
        let second = signed(world, "leaked", "v2").await?;
        apply(world, "leaked", "  revoked: [{version: 2, reason: leaked in a build log}]\n")
            .await?;
        world.wait_for_field("leaked", "{.status.currentVersion}", "3").await?;
        applied(world, "leaked").await?;
        ensure!(matches!(world.admit("leaked-dev", &second).await?, Verdict::Refused(_)));
        ensure!(world.admit("leaked-dev", &first).await? == Verdict::Admitted);
        signed(world, "leaked", "v3").await?;
        world.wait_for_condition("leaked", "Ready", "True").await?;

        // Taking the entry out and widening the window bring nothing back.
        apply(world, "leaked", "  keepVersions: 10\n").await?;
        world.rotate("leaked", "c").await?;
        ensure!(world.ring("leaked", "{.status.acceptedVersions}").await? == "[4,3,1]");
        ensure!(matches!(world.admit("leaked-dev", &second).await?, Verdict::Refused(_)));

        // The same by fingerprint.
        let fingerprint = "{.status.versions[?(@.version==1)].fingerprint}";
        let fingerprint = world.ring("leaked", fingerprint).await?;
        let entry = format!("  revoked: [{{fingerprint: '{fingerprint}', reason: test}}]\n");
        apply(world, "leaked", &entry).await?;
        world.wait_until_refused("leaked-dev", &first).await?;
        applied(world, "leaked").await?;
        ensure!(world.ring("leaked", "{.status.acceptedVersions}").await? == "[4,3]");
        Ok(())
    });
}

#[test]
fn with_all_revoked_the_rule_stays_and_excluded_images_pass() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("burnt").await?;
        let first = signed(world, "burnt", "v1").await?;
        let run = ["run", "before", "-n", "burnt-dev", "--restart=Never", "--image", &first];
        world.kubectl(&run).await?;
        let excluded = "  policy: {exclude: [{image: 'quay.io/burnt/*', reason: test}]}\n";
        let frozen =
            format!("  suspend: true\n  revoked: [{{version: 1, reason: test}}]\n{excluded}");
        apply(world, "burnt", &frozen).await?;
        let text = world.wait_for_condition("burnt", "Ready", "False AllRevoked").await?;
        ensure!(text.contains("spec.suspend"), "{text}");
        world.wait_until_refused("burnt-dev", &first).await?;
        world.push("burnt/base", "v1").await?;
        world.wait_until_admitted("burnt-dev", "quay.io/burnt/base:v1").await?;
        let gone = world.get(&["secret", "image-signing", "-n", "burnt-ci"], "{.kind}").await;
        ensure!(gone.is_err(), "the revoked private key is still in the pipeline");
        ensure!(world.ring("burnt", "{.status.versions[*].version}").await? == "1");
        // What runs can be changed and ended.
        world.kubectl(&["label", "pod", "before", "-n", "burnt-dev", "looked-at=yes"]).await?;
        world.kubectl(&["delete", "pod", "before", "-n", "burnt-dev", "--wait=false"]).await?;

        apply(world, "burnt", &frozen.replace("suspend: true", "suspend: false")).await?;
        world.wait_for_condition("burnt", "Ready", "True").await?;
        ensure!(world.ring("burnt", "{.status.acceptedVersions}").await? == "[2]");
        signed(world, "burnt", "v2").await?;
        Ok(())
    });
}

#[test]
fn a_revocation_of_nothing_is_said() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("typo").await?;
        apply(world, "typo", "  revoked: [{version: 7, reason: typo}]\n").await?;
        let wanted = "False RevocationUnknown";
        let text = world.wait_for_condition("typo", "RevocationsApplied", wanted).await?;
        ensure!(text.contains("version 7"), "{text}");
        apply(world, "typo", "").await?;
        wait_until("the condition is gone", async || {
            Ok(world.condition("typo", "RevocationsApplied").await?.trim().is_empty())
        })
        .await
    });
}

#[test]
fn a_standby_takes_over_while_kyverno_need_not_be_told() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("spare")).await?;
        let standby = manifest("spare", "").replace("{soak: 1s}", "{soak: 1s, standby: true}");
        world.apply(&standby).await?;
        world.wait_for_field("spare", "{.status.versions[0].state}", "Standby").await?;
        let first = signed(world, "spare", "v1").await?;
        let policy = world.ring("spare", "{.status.policy.name}").await?;
        let held = world.keys(&policy, "spare").await?.unwrap_or_default().concat();
        let standby_key = world.ring("spare", "{.status.versions[0].publicKey}").await?;
        ensure!(held.contains(standby_key.trim()), "the standby is not accepted yet");
        // Its private key is in a Secret of its own.
        let apart = ["get", "secrets", "-n", "signing-system", "-o", "name"];
        let secrets = world.kubectl(&apart).await?;
        ensure!(secrets.contains("secret/standby-spare.v2-"), "{secrets}");

        world.rotate("spare", "b").await?;
        ensure!(world.ring("spare", "{.status.currentVersion}").await? == "2");
        let second = signed(world, "spare", "v2").await?;
        world.wait_for_field("spare", "{.status.versions[0].state}", "Standby").await?;
        world.apply(&format!("{standby}  revoked: [{{version: 2, reason: test}}]\n")).await?;
        world.wait_for_field("spare", "{.status.currentVersion}", "3").await?;
        applied(world, "spare").await?;
        ensure!(matches!(world.admit("spare-dev", &second).await?, Verdict::Refused(_)));
        ensure!(world.admit("spare-dev", &first).await? == Verdict::Admitted);
        world.wait_for_condition("spare", "PipelinesPublished", "True").await?;
        signed(world, "spare", "v3").await?;
        wait_until("the revoked key's Secret is gone", async || {
            Ok(!world.kubectl(&apart).await?.contains("standby-spare.v2-"))
        })
        .await
    });
}

#[test]
fn a_suspended_ring_starts_nothing_and_undoes_drift() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("frozen").await?;
        apply(world, "frozen", "  suspend: true\n").await?;
        world.ask_for_rotation("frozen", "b").await?;
        world.kubectl(&["delete", "secret", "image-signing", "-n", "frozen-ci"]).await?;
        wait_until("the Secret is back", async || {
            let secret = ["secret", "image-signing", "-n", "frozen-ci"];
            Ok(world.get(&secret, "{.kind}").await.is_ok())
        })
        .await?;
        ensure!(world.ring("frozen", "{.status.versions[*].version}").await? == "1");
        apply(world, "frozen", "").await?;
        world.wait_for_field("frozen", "{.status.observedRotation}", "b").await
    });
}

#[test]
fn an_existing_key_pair_is_taken_over() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("moved")).await?;
        let folder = world.info.folder.join("moved");
        std::fs::create_dir_all(&folder)?;
        let prefix = folder.join("old").display().to_string();
        let make = ["generate-key-pair", "--output-key-prefix", &prefix];
        world.run("cosign", &make, &[("COSIGN_PASSWORD", "from before")], "").await?;
        let image = world.push("moved/app", "v0").await?;
        let key = format!("{prefix}.key");
        world.sign_with(&image, &key, &[("COSIGN_PASSWORD", "from before")]).await?;

        let from = "  importFrom: {secret: {namespace: moved-ci, name: cosign}}\n";
        apply(world, "moved", from).await?;
        let text = world.wait_for_condition("moved", "Ready", "False ImportFailed").await?;
        ensure!(text.contains("kubectl create role"), "{text}");
        let command = text.rsplit("access: ").next().unwrap_or_default();
        for command in command.trim().split(" && ") {
            let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
            world.kubectl(&arguments).await?;
        }
        world.wait_for_condition("moved", "Ready", "False ImportFailed the key pair in Secret moved-ci/cosign cannot be taken over, and none is minted: the Secret does not exist").await?;
        let secret = [
            "create",
            "secret",
            "generic",
            "cosign",
            "-n",
            "moved-ci",
            &format!("--from-file=cosign.key={key}"),
            &format!("--from-file=cosign.pub={prefix}.pub"),
            "--from-literal=cosign.password=wrong",
        ];
        world.kubectl(&secret).await?;
        let wrong = "False ImportFailed the key pair in Secret moved-ci/cosign cannot be taken over, and none is minted: the password does not open";
        world.wait_for_condition("moved", "Ready", wrong).await?;
        world.kubectl(&["delete", "secret", "cosign", "-n", "moved-ci"]).await?;
        let mut secret = secret;
        secret[8] = "--from-literal=cosign.password=from before";
        world.kubectl(&secret).await?;
        world.wait_for_condition("moved", "Ready", "True").await?;
        world.wait_until_admitted("moved-dev", &image).await?;
        signed(world, "moved", "v1").await?;
        ensure!(world.ring("moved", "{.status.versions[*].version}").await? == "1");
        Ok(())
    });
}
