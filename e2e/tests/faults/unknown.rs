//! `--unknown-rings=Enforce`: what runs in a namespace whose label names no ring
//! is refused until its ring comes, which then takes over without a gap.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::{
    common::Shared,
    turn::{self, in_turn},
};

/// The values that a policy covers; nothing if it does not exist.
async fn covered(world: &World, policy: &str) -> Option<Vec<String>> {
    let object = world.policy(policy).await.ok()?;
    Some(Kind::of(policy).covered(&object["spec"]))
}

async fn covers(world: &World, policy: &str, value: &str) -> bool {
    covered(world, policy).await.is_some_and(|values| values.iter().any(|found| found == value))
}

async fn is_gone(world: &World, policy: &str) -> Result<()> {
    wait_until(&format!("policy {policy} is gone"), async || {
        Ok(covered(world, policy).await.is_none())
    })
    .await
}

/// Starts the operator anew with this setting.
async fn restart(shared: &Shared, unknown_rings: &str) -> Result<()> {
    turn::kill(shared).await?;
    turn::start(shared, &[&format!("--unknown-rings={unknown_rings}")]).await
}

#[test]
fn a_label_that_names_no_ring_is_refused_until_the_ring_comes() {
    in_turn(async |shared| {
        let world = &shared.world;
        let kind = Kind::under_test();
        let (audit, enforce) = (&kind.audit(0)[..], &kind.enforce(0)[..]);
        let unsigned = world.push("stray/unsigned", "v1").await?;
        world.apply(&namespaces("stray")).await?;
        wait_until("the value is covered", async || Ok(covers(world, audit, "stray").await))
            .await?;
        world.wait_until_admitted("stray-dev", &unsigned).await?;

        // What is covered moves to the policy that is asked for.
        restart(shared, "Enforce").await?;
        world.wait_until_refused("stray-dev", &unsigned).await?;
        is_gone(world, audit).await?;
        let refused = world.admit("stray-dev", &unsigned).await?;
        ensure!(
            matches!(&refused, Verdict::Refused(text) if text.contains(enforce)),
            "{refused:?}"
        );
        // What is no reference passes no more than elsewhere.
        let odd = world.admit_all("stray-dev", &["quay.io./x:v1", &unsigned]).await?;
        ensure!(matches!(odd, Verdict::Refused(_)), "{odd:?}");

        // An operator that ends in between goes on where it was.
        world.apply(&manifest("stray", "")).await?;
        restart(shared, "Enforce").await?;
        world.wait_for_condition("stray", "Ready", "True").await?;
        ensure!(!covers(world, enforce, "stray").await, "its namespaces are still covered");
        let signed = world.push("stray/app", "v1").await?;
        world.sign(&signed, "stray-ci/image-signing").await?;
        let verdict = world.admit("stray-dev", &signed).await?;
        ensure!(verdict == Verdict::Admitted, "{verdict:?}");
        world.wait_until_refused("stray-dev", &unsigned).await?;

        // An empty value names nobody; with its namespace goes what covers it.
        let empty = "{apiVersion: v1, kind: Namespace, metadata: {name: stray-empty, labels: \
                     {signing.odj.cloud/ring: \"\"}}}";
        world.apply(empty).await?;
        world.wait_until_refused("stray-empty", &unsigned).await?;
        world.kubectl(&["delete", "namespace", "stray-empty", "--wait=false"]).await?;
        wait_until("it is not covered any more", async || Ok(!covers(world, enforce, "").await))
            .await?;

        world.apply(&namespaces("stray-left")).await?;
        world.wait_until_refused("stray-left-dev", &unsigned).await?;
        // The operator's own namespace is not covered: it starts, and asks, there.
        let own = ["label", "namespace", "signing-system", "signing.odj.cloud/ring=stray-left"];
        world.kubectl(&own).await?;
        world.rotate("stray", "b").await?;
        world.wait_for_condition("stray", "Ready", "True").await?;
        let off = ["label", "namespace", "signing-system", "signing.odj.cloud/ring-"];
        world.kubectl(&off).await?;
        restart(shared, "Ignore").await?;
        is_gone(world, enforce).await?;
        world.wait_until_admitted("stray-left-dev", &unsigned).await?;
        world.kubectl(&["delete", "namespace", "stray-left-dev", "--wait=false"]).await?;
        turn::kill(shared).await
    });
}
