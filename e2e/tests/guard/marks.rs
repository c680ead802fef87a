//! Notes of Kyverno's that are stocked where no ring enforces yet: what becomes of
//! them when one does; and what honest copies with old notes meet.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use crate::{
    said::Said,
    turn::{self, in_turn},
};

const NOTE: &str = "kyverno.io/verify-images-scoped";

async fn pods(world: &World, namespace: &str) -> Result<Api<Pod>> {
    wait_until("its account is there", async || {
        Ok(world.get(&["serviceaccount", "default", "-n", namespace], "{.kind}").await.is_ok())
    })
    .await?;
    Ok(Api::namespaced(world.client().await?, namespace))
}

/// A note that these rules of the first policy that enforces passed an image.
fn note(rules: &[&str], image: &str) -> String {
    let rules: Map<String, Value> =
        rules.iter().map(|rule| ((*rule).to_owned(), json!({image: "pass"}))).collect();
    json!({"version": 1, "policies": {"/signing-enforce-0001": rules}}).to_string()
}

/// A Pod behind a scheduling gate.
fn gated(name: &str, note: &str, images: &[&str]) -> Result<Pod> {
    let containers: Vec<Value> = (0..)
        .zip(images)
        .map(|(index, image)| json!({"name": format!("c{index}"), "image": image}))
        .collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {NOTE: note}},
        "spec": {"schedulingGates": [{"name": "x.example/wait"}], "containers": containers},
    }))?)
}

/// Ensures that Kyverno refuses to let a Pod start.
async fn stays(pods: &Api<Pod>, name: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
    let released = pods.patch(name, &PatchParams::default(), &patch).await;
    let Err(kube::Error::Api(status)) = released else {
        anyhow::bail!("{name} starts: {released:?}");
    };
    ensure!(status.message.contains("failed to verify image"), "{}", status.message);
    Ok(())
}

async fn enforce(world: &World, ring: &str, action: &str) -> Result<()> {
    let patch = format!("--patch={{\"spec\":{{\"policy\":{{\"action\":\"{action}\"}}}}}}");
    world.kubectl(&["patch", "skr", ring, "--type=merge", &patch]).await?;
    let policy = format!("signing-{}-0001", action.to_lowercase());
    world.wait_for_field(ring, "{.status.policy.name}", &policy).await?;
    world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    Ok(())
}

#[test]
fn what_is_stocked_while_a_ring_audits_is_verified_when_it_enforces() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("audited").await?;
        let unsigned = world.push("audited/unsigned", "v1").await?;
        // The attacker knows what the rules will be called: the ring has enforced before.
        let rules = world.rules("signing-enforce-0001", "audited").await?;
        let names: Vec<&str> = rules.iter().filter_map(|rule| rule["name"].as_str()).collect();
        ensure!(names.iter().any(|name| name.contains(".gates-")), "{names:?}");
        let forged = note(&names, &unsigned);
        enforce(world, "audited", "Audit").await?;
        world.wait_until_admitted("audited-dev", &unsigned).await?;

        let pods = pods(world, "audited-dev").await?;
        let post = PostParams::default();
        pods.create(&post, &gated("created", &forged, &[&unsigned])?).await?;
        pods.create(&post, &gated("written", "{}", &[&unsigned])?).await?;
        let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: forged}}}));
        pods.patch("written", &PatchParams::default(), &written).await?;
        for name in ["created", "written"] {
            let found = pods.get(name).await?.metadata.annotations.context("no note")?;
            ensure!(!found[NOTE].contains("signing-enforce"), "Kyverno leaves it: {found:?}");
        }
        // Past Kyverno, and where it looks at no image.
        let said = Said::of(pods.patch_status("written", &PatchParams::default(), &written).await)?;
        ensure!(said == Said::Guard, "{said:?}");
        let unread = gated("unread", &forged, &[&unsigned, "quay.io./X"])?;
        let said = Said::of(pods.create(&post, &unread).await)?;
        ensure!(said == Said::Guard, "{said:?}");

        enforce(world, "audited", "Enforce").await?;
        world.wait_until_refused("audited-dev", &unsigned).await?;
        for name in ["created", "written"] {
            stays(&pods, name).await?;
        }
        Ok(())
    });
}

#[test]
fn what_is_stocked_before_there_is_a_ring_is_verified_when_it_comes() {
    in_turn(async |shared| {
        let world = &shared.world;
        // Nobody but the guard looks at such namespaces.
        turn::kill(shared).await?;
        turn::start(shared, &["--unknown-rings=Ignore"]).await?;
        world.apply(&namespaces("unborn")).await?;
        let unsigned = world.push("unborn/unsigned", "v1").await?;
        let pods = pods(world, "unborn-dev").await?;
        let names = ["unborn", "unborn.debug", "unborn.gates", "unborn.gates-00000000"];
        let forged = note(&names, &unsigned);
        pods.create(&PostParams::default(), &gated("stocked", &forged, &[&unsigned])?).await?;
        world.apply(&manifest("unborn", "")).await?;
        world.wait_for_condition("unborn", "Ready", "True").await?;
        world.wait_until_refused("unborn-dev", &unsigned).await?;
        // The rule that asks has the ring's keys in its name.
        stays(&pods, "stocked").await?;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}

#[test]
fn a_copy_with_an_old_note_is_refused_where_nothing_verifies_it() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("copied").await?;
        let image = world.push("copied/app", "v1").await?;
        world.sign(&image, "copied-ci/image-signing").await?;
        world.wait_until_admitted("copied-dev", &image).await?;
        let here = pods(world, "copied-dev").await?;
        let post = PostParams::default();
        here.create(&post, &gated("app", "{}", &[&image])?).await?;
        let noted = here.get("app").await?.metadata.annotations.context("no note")?[NOTE].clone();
        ensure!(noted.contains("\"/signing-enforce-"), "{noted}");

        world.kubectl(&["create", "namespace", "copied-elsewhere"]).await?;
        let there = pods(world, "copied-elsewhere").await?;
        let copy = gated("copy", &noted, &[&image])?;
        let Err(kube::Error::Api(status)) = there.create(&post, &copy).await else {
            anyhow::bail!("the copy is taken");
        };
        ensure!(status.message.contains("take the annotation off"), "{}", status.message);
        there.create(&post, &gated("copy", "{}", &[&image])?).await?;
        // Where the namespace is enrolled Kyverno verifies anew.
        here.create(&post, &copy).await?;

        // A controller hears the same.
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "copied", "namespace": "copied-elsewhere"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}, "annotations": {NOTE: noted}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            }},
        });
        world.apply(&deployment.to_string()).await?;
        wait_until("an event has the guard's words", async || {
            let notes =
                world.get(&["events.events.k8s.io", "-n", "copied-elsewhere"], "{.items[*].note}");
            Ok(notes.await?.contains("signingkeyring-guard-marks"))
        })
        .await
    });
}
