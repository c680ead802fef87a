//! The installed Kyverno is too old for the newer kind of policy by now: rings leave it,
//! by themselves where nobody holds them there.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signingkeyring_e2e_testbed::{
    kind::Kind,
    tools,
    world::{World, manifest, namespaces, wait_until},
};

use crate::turn::{self, in_turn_only};

const CRD: &str = "imagevalidatingpolicies.policies.kyverno.io";

/// What the CRD's schema has since Kyverno 1.19.
const FIELD: &str = "/schema/openAPIV3Schema/properties/spec/properties/attestors/items/properties/\
                     cosign/properties/trustedRoot";

async fn crd(world: &World) -> Result<Value> {
    Ok(serde_json::from_str(&world.kubectl(&["get", "crd", CRD, "--output=json"]).await?)?)
}

/// Has the API serve the kind as Kyverno 1.18 has it; returns the CRD as it was.
async fn take_back(world: &World) -> Result<Value> {
    let before = crd(world).await?;
    let versions = before["spec"]["versions"].as_array().context("versions")?;
    let newest = versions.iter().position(|version| version["name"] == "v1").context("v1")?;
    ensure!(versions[newest].pointer(FIELD).is_some(), "{}", versions[newest]);
    let patch = format!(r#"[{{"op":"remove","path":"/spec/versions/{newest}{FIELD}"}}]"#);
    world.kubectl(&["patch", "crd", CRD, "--type=json", &format!("--patch={patch}")]).await?;
    Ok(before)
}

/// Has it serve the kind as it did.
async fn bring_forward(world: &World, mut before: Value) -> Result<()> {
    let version = crd(world).await?["metadata"]["resourceVersion"].clone();
    before["metadata"]["resourceVersion"] = version;
    world.run("kubectl", &["replace", "--filename=-"], &[], &before.to_string()).await?;
    Ok(())
}

async fn kind_of(world: &World, ring: &str) -> Result<String> {
    world.ring(ring, "{.status.policy.kind}").await
}

fn is_told(ring: &str, kind: &str) -> String {
    manifest(ring, &format!("  policy: {{kind: {kind}}}\n"))
}

#[test]
fn rings_leave_a_kind_that_kyverno_is_too_old_for() {
    let newer = Kind::ImageValidatingPolicy.as_str();
    in_turn_only(Kind::ClusterPolicy, "it is left for that", async |shared| {
        if tools::older_kyverno().is_some() {
            return Ok(());
        }
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &["--policy-kind=Auto"]).await?;
        for ring in ["old-told", "old-free"] {
            world.apply(&namespaces(ring)).await?;
            world.apply(&is_told(ring, newer)).await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
            ensure!(kind_of(world, ring).await? == newer);
        }
        world.apply(&manifest("old-free", "")).await?;
        world.rotate("old-free", "b").await?;
        ensure!(kind_of(world, "old-free").await? == newer, "what works is not moved");

        let before = take_back(world).await?;
        let wanted = "False KyvernoMissing";
        let text = world.wait_for_condition("old-told", "PolicyEnforced", wanted).await?;
        // Nobody accepts a new key, so none signs.
        world.ask_for_rotation("old-told", "b").await?;
        wait_until("a ring moves by itself", async || {
            Ok(kind_of(world, "old-free").await? == "ClusterPolicy")
        })
        .await?;
        world.rotate("old-free", "c").await?;
        ensure!(world.ring("old-told", "{.status.currentVersion}").await? == "1");
        ensure!(kind_of(world, "old-told").await? == newer);

        world.do_as_told(&text).await?;
        world.wait_for_field("old-told", "{.status.observedRotation}", "b").await?;
        ensure!(kind_of(world, "old-told").await? == "ClusterPolicy");
        wait_until("their rules are gone", async || {
            Ok(!world.kubectl(&["get", CRD, "--output=yaml"]).await?.contains("old-"))
        })
        .await?;
        let unsigned = world.push("old/app", "v1").await?;
        for ring in ["old-told", "old-free"] {
            world.wait_until_refused(&format!("{ring}-dev"), &unsigned).await?;
        }

        bring_forward(world, before).await?;
        world.apply(&is_told("old-free", newer)).await?;
        wait_until("a ring comes back", async || Ok(kind_of(world, "old-free").await? == newer))
            .await?;
        world.rotate("old-free", "d").await?;
        turn::kill(shared).await
    });
}
