//! Damaged and old ledgers, and a restore into a cluster that is empty.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, consent, manifest, wait_until},
};

use crate::turn::{self, in_turn};

const LEDGERS: [&str; 5] = [
    "secrets",
    "-n",
    "signing-system",
    "--field-selector=type=signing.odj.cloud/key-ring",
    "-oyaml",
];

/// What a backup keeps of kubectl's output: the documented sed line.
fn portable(yaml: &str) -> String {
    let kept = yaml.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("resourceVersion:") && !line.starts_with("uid:")
    });
    kept.collect::<Vec<_>>().join("\n")
}

async fn ledger(world: &World, ring: &str) -> Result<String> {
    let name = format!("ring-{ring}");
    let yaml = world.kubectl(&["get", "secret", &name, "-n", "signing-system", "-oyaml"]).await?;
    Ok(portable(&yaml))
}

async fn replace(world: &World, yaml: &str) -> Result<()> {
    world.run("kubectl", &["replace", "--force", "-f-"], &[], yaml).await?;
    Ok(())
}

async fn recover(world: &World, ring: &str, after: u32) -> Result<()> {
    let annotation = format!("signing.odj.cloud/recover-after-version={after}");
    world.kubectl(&["annotate", "--overwrite", "skr", ring, &annotation]).await?;
    Ok(())
}

#[test]
fn a_damaged_ledger_stalls_the_ring_until_it_is_restored() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("damaged").await?;
        let image = world.push("damaged/app", "v1").await?;
        world.sign(&image, "damaged-ci/image-signing").await?;
        world.wait_until_admitted("damaged-dev", &image).await?;
        let sound = ledger(world, "damaged").await?;
        world.ready_ring("other").await?;
        let other = ledger(world, "other").await?;
        let entry = |yaml: &str| {
            let line = yaml.lines().find(|line| line.trim_start().starts_with("v1.key:"));
            line.map(str::to_owned).context("no private key")
        };
        let cases = [
            ("a key is missing", sound.replace(&entry(&sound)?, ""), "is missing"),
            (
                "a private key is another's",
                sound.replace(&entry(&sound)?, &entry(&other)?),
                "does not fit",
            ),
            ("the annotation is edited", sound.replace("Current", "Accepted"), "cut or edited"),
        ];
        for (what, yaml, words) in cases {
            ensure!(yaml != sound, "{what}");
            replace(world, &yaml).await?;
            let text = world.wait_for_condition("damaged", "Stalled", "True KeyMaterialLost").await;
            let text = text.with_context(|| what)?;
            ensure!(text.contains(words), "{what}: {text}");
            ensure!(world.admit("damaged-dev", &image).await? == Verdict::Admitted, "{what}");
            replace(world, &sound).await?;
            let again = wait_until("it works again", async || {
                Ok(world.condition("damaged", "Stalled").await?.trim().is_empty())
            });
            again.await.with_context(|| what)?;
        }
        // Nothing is minted over a damage, and what was asked meanwhile follows.
        replace(world, &sound.replace("Current", "Accepted")).await?;
        world.wait_for_condition("damaged", "Stalled", "True KeyMaterialLost").await?;
        world.rotate("other", "b").await?;
        world.ask_for_rotation("damaged", "b").await?;
        world.rotate("other", "c").await?;
        ensure!(world.ring("damaged", "{.status.versions[*].version}").await? == "1");
        replace(world, &sound).await?;
        world.wait_for_field("damaged", "{.status.observedRotation}", "b").await?;
        world.wait_for_condition("damaged", "Ready", "True").await?;

        // What is revoked meanwhile is out at once, and stays out.
        let sound = ledger(world, "damaged").await?;
        let lacks = sound.lines().filter(|line| !line.trim_start().starts_with("v2.key:"));
        replace(world, &lacks.collect::<Vec<_>>().join("\n")).await?;
        world.wait_for_condition("damaged", "Stalled", "True KeyMaterialLost").await?;
        ensure!(world.admit("damaged-dev", &image).await? == Verdict::Admitted);
        let revoked = manifest("damaged", "  revoked: [{version: 1, reason: test}]\n");
        world.apply(&revoked).await?;
        world.wait_until_refused("damaged-dev", &image).await?;
        world.wait_for_condition("damaged", "RevocationsApplied", "True").await?;
        replace(world, &sound).await?;
        world.wait_for_condition("damaged", "Ready", "True").await?;
        ensure!(world.ring("damaged", "{.status.acceptedVersions}").await? == "[2]");
        ensure!(matches!(world.admit("damaged-dev", &image).await?, Verdict::Refused(_)));
        Ok(())
    });
}

#[test]
fn a_lost_ledger_goes_on_as_the_message_says() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("goeson").await?;
        world.rotate("goeson", "b").await?;
        let image = world.push("goeson/app", "v2").await?;
        world.sign(&image, "goeson-ci/image-signing").await?;
        world.kubectl(&["delete", "secret", "ring-goeson", "-n", "signing-system"]).await?;
        let text = world.wait_for_condition("goeson", "Stalled", "True KeyMaterialLost").await?;
        ensure!(text.contains("signing.odj.cloud/recover-after-version=2"), "{text}");
        recover(world, "goeson", 2).await?;
        world.wait_for_field("goeson", "{.status.currentVersion}", "3").await?;
        world.wait_for_condition("goeson", "Ready", "True").await?;
        ensure!(world.ring("goeson", "{.status.acceptedVersions}").await? == "[3,2,1]");
        ensure!(world.admit("goeson-dev", &image).await? == Verdict::Admitted);
        Ok(())
    });
}

#[test]
fn an_older_ledger_is_recognised() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("older").await?;
        world.rotate("older", "b").await?;
        let image = world.push("older/app", "v2").await?;
        world.sign(&image, "older-ci/image-signing").await?;
        world.wait_until_admitted("older-dev", &image).await?;
        let backup = ledger(world, "older").await?;
        let patch = r#"{"spec":{"revoked":[{"version":2,"reason":"leaked"}]}}"#;
        world.kubectl(&["patch", "skr", "older", "--type=merge", "-p", patch]).await?;
        world.wait_for_field("older", "{.status.currentVersion}", "3").await?;
        world.wait_for_condition("older", "Ready", "True").await?;
        // The entry is taken out, and the backup from before it comes back.
        let patch = r#"{"spec":{"revoked":null}}"#;
        world.kubectl(&["patch", "skr", "older", "--type=merge", "-p", patch]).await?;
        replace(world, &backup).await?;
        let text = world.wait_for_condition("older", "Stalled", "True LedgerOutdated").await?;
        ensure!(text.contains("recover-after-version=3"), "{text}");
        world.ask_for_rotation("older", "c").await?;
        ensure!(matches!(world.admit("older-dev", &image).await?, Verdict::Refused(_)));
        recover(world, "older", 3).await?;
        world.wait_for_field("older", "{.status.currentVersion}", "4").await?;
        world.wait_for_condition("older", "Ready", "True").await?;
        ensure!(matches!(world.admit("older-dev", &image).await?, Verdict::Refused(_)));
        // The revoked version keeps its place in the window of three.
        ensure!(world.ring("older", "{.status.acceptedVersions}").await? == "[4,3]");
        Ok(())
    });
}

#[test]
fn a_backup_restores_into_an_empty_cluster() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("moving").await?;
        world.rotate("moving", "b").await?;
        let image = world.push("moving/app", "v2").await?;
        world.sign(&image, "moving-ci/image-signing").await?;
        world.wait_until_admitted("moving-dev", &image).await?;
        let secret = ["secret", "image-signing", "-n", "moving-ci"];
        let key = world.get(&secret, "{.data}").await?;
        let mut get = vec!["get"];
        get.extend(LEDGERS);
        let ledgers = portable(&world.kubectl(&get).await?);
        let rings = portable(&world.kubectl(&["get", "skr", "moving", "-oyaml"]).await?);

        // What another cluster has: neither the ring, nor its ledger, policies
        // or Secrets, and namespaces of its own.
        turn::kill(shared).await?;
        let finalizers = r#"{"metadata":{"finalizers":null}}"#;
        world.kubectl(&["patch", "skr", "moving", "--type=merge", "-p", finalizers]).await?;
        world.kubectl(&["delete", "skr", "moving"]).await?;
        world.kubectl(&["delete", "secret", "ring-moving", "-n", "signing-system"]).await?;
        world.kubectl(&["delete", Kind::under_test().plural(), "--all"]).await?;
        world.kubectl(&["delete", "mutatingpolicies", "--all"]).await?;
        world.kubectl(&["delete", "namespace", "moving-dev", "moving-ci"]).await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("moving")).await?;
        world.apply(&consent("moving-ci")).await?;
        world.apply(&ledgers).await?;
        turn::start(shared, &[]).await?;
        world.apply(&rings).await?;

        world.wait_for_condition("moving", "Ready", "True").await?;
        ensure!(world.ring("moving", "{.status.versions[*].version}").await? == "2 1");
        ensure!(world.get(&secret, "{.data}").await? == key, "the pipeline got another key");
        world.wait_until_admitted("moving-dev", &image).await?;
        Ok(())
    });
}

#[test]
fn a_rule_comes_back_although_a_private_key_is_missing() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("keyless").await?;
        let unsigned = world.push("keyless/unsigned", "v1").await?;
        world.wait_until_refused("keyless-dev", &unsigned).await?;
        let policy = world.ring("keyless", "{.status.policy.name}").await?;
        let sound = ledger(world, "keyless").await?;
        let entry = sound.lines().find(|line| line.trim_start().starts_with("v1.key:"));
        let entry = entry.context("no private key")?;
        // Nothing of the policy is left to keep, and no memory of it either.
        turn::kill(shared).await?;
        replace(world, &sound.replace(entry, "")).await?;
        world.kubectl(&["delete", Kind::of(&policy).resource(), &policy]).await?;
        turn::start(shared, &[]).await?;
        world.wait_for_condition("keyless", "Stalled", "True KeyMaterialLost").await?;
        world.wait_until_refused("keyless-dev", &unsigned).await?;
        replace(world, &sound).await?;
        world.wait_for_condition("keyless", "Ready", "True").await?;
        Ok(())
    });
}
