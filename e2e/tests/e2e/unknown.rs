//! Namespaces whose label names no ring are told of and covered until their
//! ring comes. (What `--unknown-rings=Enforce` makes of them: `faults/unknown.rs`.)

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::common::run;

async fn is_covered(world: &World, value: &str) -> bool {
    let kind = Kind::under_test();
    let policy = world.policy(&kind.audit(0)).await.unwrap_or_default();
    kind.covered(&policy["spec"]).iter().any(|covered| covered == value)
}

/// What the events on a namespace say of its label.
async fn told(world: &World, namespace: &str) -> Result<String> {
    let of = format!("{{.items[?(@.regarding.name==\"{namespace}\")]['reason','type','note']}}");
    world.get(&["events.events.k8s.io", "-n", "default"], &of).await
}

#[test]
fn a_label_that_names_no_ring_is_told_and_covered_until_the_ring_comes() {
    run(async |shared| {
        let world = &shared.world;
        let counted = async || -> Result<u32> {
            let operator = shared.operator.lock().await;
            let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
            let name = "signingkeyring_unknown_ring_namespaces ";
            let value = metrics.lines().find_map(|line| line.strip_prefix(name));
            Ok(value.context("no such metric")?.parse()?)
        };
        world.apply(&namespaces("unknown").replace("ring: unknown", "ring: unkown")).await?;
        wait_until("the value is covered", async || Ok(is_covered(world, "unkown").await)).await?;
        ensure!(counted().await? >= 1);
        let unsigned = world.push("unknown/unsigned", "v1").await?;
        world.wait_until_admitted("unknown-dev", &unsigned).await?;
        wait_until("an event tells of it", async || {
            Ok(told(world, "unknown-dev").await?.contains("RingUnknown"))
        })
        .await?;
        let text = told(world, "unknown-dev").await?;
        let covering = format!(
            "Kyverno reports them and refuses none, by policy {}",
            Kind::under_test().audit(0)
        );
        for part in [
            "Warning",
            "label signing.odj.cloud/ring=unkown names no SigningKeyRing",
            &format!("are not verified: {covering}"),
            "kubectl label --overwrite namespace unknown-dev signing.odj.cloud/ring=RING",
        ] {
            ensure!(text.contains(part), "{part:?} is missing in {text:?}");
        }

        // The ring comes under the name that the label has.
        world.apply(&manifest("unkown", "").replace("unkown-ci", "unknown-ci")).await?;
        world.wait_for_condition("unkown", "Ready", "True").await?;
        ensure!(!is_covered(world, "unkown").await, "its namespaces are still covered");
        let signed = world.push("unknown/app", "v1").await?;
        world.sign(&signed, "unknown-ci/image-signing").await?;
        world.wait_until_admitted("unknown-dev", &signed).await?;
        world.wait_until_refused("unknown-dev", &unsigned).await?;

        // A namespace that goes takes its value along.
        let other = namespaces("unknown-other");
        world.apply(&other).await?;
        wait_until("the value is covered", async || Ok(is_covered(world, "unknown-other").await))
            .await?;
        world.kubectl(&["delete", "namespace", "unknown-other-dev", "--wait=false"]).await?;
        wait_until("it is not covered any more", async || {
            Ok(!is_covered(world, "unknown-other").await)
        })
        .await
    });
}
