//! What Kyverno leaves out of a ring's check shows on the ring, and goes when it is
//! mended: one test for each kind. Each changes what the others need, so they take
//! turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../faults/turn.rs"]
mod turn;

mod image_validating;
mod others;
mod settings;
mod webhooks;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::world::{World, wait_until};

/// The ring of all tests; it enforces.
const RING: &str = "shop";

/// Its namespace.
const NAMESPACE: &str = "shop-dev";

/// Begins with a ring for which all is seen and nothing left out.
async fn begins(world: &World) -> Result<()> {
    world.kubectl(&["apply", "--kustomize=manifests/kyverno-access"]).await?;
    world.ready_ring(RING).await?;
    is_complete(world).await
}

/// Waits until nothing is left out.
async fn is_complete(world: &World) -> Result<()> {
    is_complete_for(world, RING).await
}

/// The same of another ring.
async fn is_complete_for(world: &World, ring: &str) -> Result<()> {
    world.wait_for_condition(ring, "EnforcementComplete", "True Complete").await?;
    let ready = world.wait_for_condition(ring, "Ready", "True Available").await?;
    ensure!(ready.ends_with("all is as asked"), "{ready}");
    Ok(())
}

/// Waits until the condition begins so, and has these words; Ready says the same.
async fn says(world: &World, begins: &str, words: &[&str]) -> Result<()> {
    says_of(world, RING, begins, words).await
}

/// The same of another ring.
async fn says_of(world: &World, ring: &str, begins: &str, words: &[&str]) -> Result<()> {
    let mut text = String::new();
    let what = format!("{ring}: {begins}, with {words:?}");
    // Kyverno writes its configurations one after the other.
    let told = wait_until(&what, async || {
        text = world.condition(ring, "EnforcementComplete").await?;
        Ok(text.starts_with(begins) && words.iter().all(|word| text.contains(word)))
    });
    told.await.with_context(|| format!("EnforcementComplete {text}"))?;
    println!("EnforcementComplete {text}");
    let ready = match begins.strip_prefix("Unknown ") {
        // What cannot be told keeps no ring from being ready.
        Some(_) => world.wait_for_condition(ring, "Ready", "True Available").await?,
        None => world.wait_for_condition(ring, "Ready", begins).await?,
    };
    let message = text.splitn(3, ' ').nth(2).unwrap_or_default();
    ensure!(ready.contains(message), "Ready is {ready}");
    for output in ["", "wide"] {
        let output = format!("--output={output}");
        print!("{}", world.kubectl(&["get", "skr", ring, &output]).await?);
    }
    Ok(())
}

/// Whether an unsigned image runs in the ring's namespace when it is asked for so.
async fn admits(world: &World, more: &[&str]) -> Result<bool> {
    admits_in(world, NAMESPACE, more).await
}

/// The same of another namespace.
async fn admits_in(world: &World, namespace: &str, more: &[&str]) -> Result<bool> {
    let image = format!("--image={}", world.push("shop/unsigned", "v1").await?);
    let run = ["run", "probe", &image, "--namespace", namespace, "--dry-run=server"];
    let refusals = ["signing-enforce", "signing.enforce"];
    match world.kubectl(&[&run[..], more].concat()).await {
        Ok(_) => Ok(true),
        Err(error) if refusals.iter().any(|by| format!("{error:#}").contains(by)) => Ok(false),
        Err(error) => Err(error),
    }
}
