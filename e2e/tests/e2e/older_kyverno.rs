//! Kyverno 1.18 serves the newer kind of policy and executes it in another way: the
//! operator takes it for one that is not there.

use anyhow::ensure;
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{manifest, namespaces},
};

use crate::common::run_on_older_kyverno;

#[test]
fn a_ring_of_the_newer_kind_says_that_kyverno_is_too_old() {
    run_on_older_kyverno("this one is not too old", async |shared| {
        let world = &shared.world;
        let kind = |kind: &str| manifest("too-new", &format!("  policy: {{kind: {kind}}}\n"));
        world.apply(&namespaces("too-new")).await?;
        world.apply(&kind("ImageValidatingPolicy")).await?;
        let wanted = "False KyvernoMissing";
        let text = world.wait_for_condition("too-new", "PolicyEnforced", wanted).await?;
        ensure!(text.contains("OPEN") && text.contains("as Kyverno 1.19 or newer does"), "{text}");
        let unsigned = world.push("too-new/app", "v1").await?;
        let verdict = world.admit("too-new-dev", &unsigned).await?;
        ensure!(verdict == Verdict::Admitted, "{verdict:?}");
        // Nobody signs with a key that is not in force.
        let secret = ["get", "secret", "image-signing", "--namespace=too-new-ci"];
        ensure!(world.kubectl(&secret).await.is_err());

        world.apply(&kind("ClusterPolicy")).await?;
        world.wait_for_condition("too-new", "Ready", "True").await?;
        world.wait_until_refused("too-new-dev", &unsigned).await
    });
}
