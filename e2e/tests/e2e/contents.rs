//! What a pipeline's Secret holds counts, whoever wrote it.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use crate::common::run;

fn secret(ring: &str) -> [String; 4] {
    ["secret", "image-signing", "-n", &format!("{ring}-ci")].map(str::to_owned)
}

async fn get(world: &World, ring: &str, path: &str) -> Result<String> {
    let secret = secret(ring);
    let secret: Vec<&str> = secret.iter().map(String::as_str).collect();
    world.get(&secret, path).await
}

async fn apply_as(world: &World, manager: &str, yaml: &str) -> Result<()> {
    let manager = format!("--field-manager={manager}");
    let arguments = ["apply", "--server-side", "--force-conflicts", &manager, "--filename=-"];
    world.run("kubectl", &arguments, &[], yaml).await?;
    Ok(())
}

#[test]
fn a_wrong_password_and_an_old_pair_are_undone_whoever_put_them_in() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("content").await?;
        let old = get(world, "content", "{.data}").await?;
        world.rotate("content", "b").await?;
        let wanted = get(world, "content", "{.data}").await?;
        ensure!(old != wanted);
        let head =
            "apiVersion: v1, kind: Secret, metadata: {name: image-signing, namespace: content-ci}";
        let password = "stringData: {cosign.password: the-old-password-from-git}";
        // The one as somebody's GitOps tool applies it, the other in our own name.
        for (manager, data) in [
            ("kustomize-controller", password.to_owned()),
            ("signingkeyring-operator", password.to_owned()),
            ("backup", format!("data: {old}")),
        ] {
            apply_as(world, manager, &format!("{{{head}, {data}}}")).await?;
            wait_until(&format!("what {manager} put in is undone"), async || {
                Ok(get(world, "content", "{.data}").await? == wanted)
            })
            .await?;
        }
        let image = world.push("content/app", "v1").await?;
        world.sign(&image, "content-ci/image-signing").await?;
        world.wait_until_admitted("content-dev", &image).await
    });
}

#[test]
fn the_same_values_put_back_are_left_as_they_are() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("same").await?;
        let data = get(world, "same", "{.data}").await?;
        let yaml = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: image-signing, namespace: same-ci}}, data: {data}}}"
        );
        apply_as(world, "backup", &yaml).await?;
        let version = get(world, "same", "{.metadata.resourceVersion}").await?;
        // A rotation of another pipeline shows that the ring was looked at since.
        world.apply(&manifest("same", "  keepVersions: 2\n")).await?;
        world.wait_for_condition("same", "Ready", "True").await?;
        let generation = world.ring("same", "{.metadata.generation}").await?;
        world.wait_for_field("same", "{.status.observedGeneration}", &generation).await?;
        ensure!(get(world, "same", "{.metadata.resourceVersion}").await? == version);
        Ok(())
    });
}

#[test]
fn a_live_key_is_not_forgotten_because_its_secret_does_not_name_the_ring() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("nameless").await?;
        let annotation = "signing.odj.cloud/ring-";
        let secret = ["annotate", "secret", "image-signing", "-n", "nameless-ci", annotation];
        world.kubectl(&secret).await?;
        world.apply(&manifest("nameless", "").replace("[{namespace: nameless-ci}]", "[]")).await?;
        let wanted = "True SecretLeftBehind";
        let said = world.wait_for_condition("nameless", "PipelinesPublished", wanted).await?;
        let command = "kubectl delete secret image-signing --namespace=nameless-ci";
        ensure!(said.contains("version 1") && said.contains(command), "{said}");
        ensure!(
            get(world, "nameless", "{.kind}").await.is_ok(),
            "it is not the operator's to delete"
        );
        world.kubectl(&command.split(' ').skip(1).collect::<Vec<_>>()).await?;
        world.wait_for_condition("nameless", "PipelinesPublished", "True NoPipelines").await?;
        Ok(())
    });
}

#[test]
fn a_conflict_names_the_ring_that_has_the_secret() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("first").await?;
        let second = manifest("second", "").replace("second-ci", "first-ci");
        world.apply(&second).await?;
        let wanted = "False SecretConflict";
        let said = world.wait_for_condition("second", "PipelinesPublished", wanted).await?;
        ensure!(said.contains("ring first") && !said.contains("delete"), "{said}");
        world.wait_for_condition("first", "Ready", "True").await?;
        Ok(())
    });
}

/// A standby is of use only if it can sign at once.
#[test]
fn a_standby_that_somebody_spoiled_is_replaced_before_it_is_needed() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("spoiled")).await?;
        let standby = manifest("spoiled", "").replace("{soak: 1s}", "{soak: 1s, standby: true}");
        world.apply(&standby).await?;
        world.wait_for_field("spoiled", "{.status.versions[0].state}", "Standby").await?;
        let names = ["get", "secrets", "-n", "signing-system", "-o", "name"];
        let names = world.kubectl(&names).await?;
        let name = names.lines().find_map(|name| name.strip_prefix("secret/standby-spoiled."));
        let name = format!("standby-spoiled.{}", name.context("no standby")?);
        let edit = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: signing-system}}, \
             type: signing.odj.cloud/key-ring, stringData: {{v2.password: wrong}}}}"
        );
        apply_as(world, "other", &edit).await?;
        wait_until("another version stands by", async || {
            let path = "{.status.versions[0].version} {.status.versions[0].state}";
            Ok(world.ring("spoiled", path).await? == "3 Standby")
        })
        .await?;
        wait_until("the spoiled Secret is gone", async || {
            Ok(world.get(&["secret", &name, "-n", "signing-system"], "{.kind}").await.is_err())
        })
        .await?;
        world.rotate("spoiled", "b").await?;
        let image = world.push("spoiled/app", "v1").await?;
        world.sign(&image, "spoiled-ci/image-signing").await?;
        world.wait_until_admitted("spoiled-dev", &image).await
    });
}
