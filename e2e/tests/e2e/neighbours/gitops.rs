//! Tools that apply, prune and restore what they have a copy of.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{World, manifest, wait_until},
};

use crate::common::run;

/// What a tool has in its repository: the ring as somebody wrote it.
async fn written(world: &World, ring: &str, verb: &[&str]) -> Result<String> {
    let arguments = [verb, &["--filename=-"]].concat();
    world.run("kubectl", &arguments, &[], &manifest(ring, "")).await
}

async fn ready(world: &World, ring: &str) -> Result<String> {
    world.ready_ring(ring).await?;
    let image = world.push(&format!("{ring}/app"), "v1").await?;
    world.sign(&image, &format!("{ring}-ci/image-signing")).await?;
    world.wait_until_admitted(&format!("{ring}-dev"), &image).await?;
    Ok(image)
}

/// Nothing that matters has changed.
async fn is_as_before(world: &World, ring: &str, image: &str) -> Result<()> {
    world.wait_for_condition(ring, "Ready", "True").await?;
    ensure!(world.ring(ring, "{.status.versions[*].version}").await? == "1");
    ensure!(world.admit(&format!("{ring}-dev"), image).await? == Verdict::Admitted);
    Ok(())
}

#[test]
fn a_ring_that_is_replaced_keeps_its_versions_and_its_finalizer() {
    run(async |shared| {
        let world = &shared.world;
        let image = ready(world, "replaced").await?;
        written(world, "replaced", &["replace"]).await?;
        wait_until("what the replacement took away is back", async || {
            let finalizers = world.ring("replaced", "{.metadata.finalizers}").await?;
            let annotations = world.ring("replaced", "{.metadata.annotations}").await?;
            Ok(finalizers.contains("signing.odj.cloud/")
                && annotations.contains("signing.odj.cloud/"))
        })
        .await?;
        is_as_before(world, "replaced", &image).await
    });
}

#[test]
fn a_ring_that_is_replaced_by_force_stays_while_it_is_enrolled() {
    run(async |shared| {
        let world = &shared.world;
        let image = ready(world, "forced").await?;
        let forced = ["replace", "--force", "--timeout=3s"];
        let error = written(world, "forced", &forced).await.unwrap_err().to_string();
        ensure!(error.contains("deadline exceeded"), "{error}");
        let said = world.wait_for_condition("forced", "Ready", "False").await?;
        ensure!(said.contains("forced-dev"), "it names the namespace: {said}");
        ensure!(world.admit("forced-dev", &image).await? == Verdict::Admitted);
        let unsigned = world.push("forced/unsigned", "v1").await?;
        ensure!(world.admit("forced-dev", &unsigned).await? != Verdict::Admitted);
        // A deletion cannot be taken back: the way out is through it.
        world.kubectl(&["label", "namespace", "forced-dev", "signing.odj.cloud/ring-"]).await?;
        wait_until("the ring is gone", async || Ok(world.ring("forced", "{.kind}").await.is_err()))
            .await
    });
}

#[test]
fn a_ring_that_is_applied_again_and_again_is_left_alone() {
    run(async |shared| {
        let world = &shared.world;
        let image = ready(world, "fluxed").await?;
        let apply =
            ["apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller"];
        written(world, "fluxed", &apply).await?;
        let before = world.ring("fluxed", "{.metadata.resourceVersion}").await?;
        for _ in 0..3 {
            written(world, "fluxed", &apply).await?;
        }
        ensure!(world.ring("fluxed", "{.metadata.resourceVersion}").await? == before);
        is_as_before(world, "fluxed", &image).await?;
        // A rotation that somebody asks for by hand is not taken back by it.
        world.rotate("fluxed", "by-hand").await?;
        written(world, "fluxed", &apply).await?;
        let annotation = "{.metadata.annotations.signing\\.odj\\.cloud/rotate}";
        ensure!(world.ring("fluxed", annotation).await? == "by-hand");
        // Pruning deletes, and that waits for those who are enrolled.
        world.kubectl(&["delete", "skr", "fluxed", "--wait=false"]).await?;
        let said = world.wait_for_condition("fluxed", "Ready", "False").await?;
        ensure!(said.contains("fluxed-dev"), "{said}");
        ensure!(world.admit("fluxed-dev", &image).await? == Verdict::Admitted);
        world.kubectl(&["label", "namespace", "fluxed-dev", "signing.odj.cloud/ring-"]).await?;
        wait_until("the ring is gone", async || Ok(world.ring("fluxed", "{.kind}").await.is_err()))
            .await
    });
}

#[test]
fn what_is_restored_over_itself_changes_nothing() {
    run(async |shared| {
        let world = &shared.world;
        let image = ready(world, "restored").await?;
        let label = "velero.io/restore-name=test";
        let pipeline = ["secret", "image-signing", "-n", "restored-ci"];
        let ledger = ["secret", "ring-restored", "-n", "signing-system"];
        let before = [world.get(&pipeline, "{.data}").await?, world.get(&ledger, "{.data}").await?];
        for object in [&pipeline[..], &ledger, &["skr", "restored"]] {
            world.kubectl(&[&["label"], object, &[label]].concat()).await?;
        }
        // A pass with all of it before its eyes.
        world.kubectl(&["annotate", "skr", "restored", "example.org/look=again"]).await?;
        is_as_before(world, "restored", &image).await?;
        let after = [world.get(&pipeline, "{.data}").await?, world.get(&ledger, "{.data}").await?];
        ensure!(before == after, "keys were written anew");
        let next = world.push("restored/next", "v1").await?;
        world.sign(&next, "restored-ci/image-signing").await?;
        world.wait_until_admitted("restored-dev", &next).await
    });
}
