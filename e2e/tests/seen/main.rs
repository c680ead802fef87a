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
    wait_until(&format!("{ring}: nothing is left out"), async || {
        let Said { complete, ready } = said(world, ring).await?;
        ensure!(complete.starts_with("True Complete"), "EnforcementComplete {complete}");
        ensure!(ready.starts_with("True Available"), "Ready {ready}");
        ensure!(ready.ends_with("all is as asked"), "Ready {ready}");
        Ok(true)
    })
    .await
}

/// What a ring says of what is left out, at one moment.
struct Said {
    complete: String,
    ready: String,
}

async fn said(world: &World, ring: &str) -> Result<Said> {
    let each = "{range .status.conditions[*]}{.type} {.status} {.reason} {.message}{\"\\n\"}{end}";
    let conditions = world.ring(ring, each).await?;
    let of = |kind: &str| {
        let found = conditions.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        found.with_context(|| format!("{kind} is not among\n{conditions}")).map(str::to_owned)
    };
    Ok(Said { complete: of("EnforcementComplete")?, ready: of("Ready")? })
}

/// Waits until the condition begins so, and has these words; Ready says the same.
async fn says(world: &World, begins: &str, words: &[&str]) -> Result<()> {
    says_of(world, RING, begins, words).await
}

/// The same of another ring.
async fn says_of(world: &World, ring: &str, begins: &str, words: &[&str]) -> Result<()> {
    let mut text = String::new();
    // What cannot be told keeps no ring from being ready.
    let is_ready = if begins.starts_with("Unknown ") { "True Available" } else { begins };
    // Kyverno writes its configurations one after the other.
    wait_until(&format!("{ring}: {begins}, with {words:?}"), async || {
        let Said { complete, ready } = said(world, ring).await?;
        let is_told = complete.starts_with(begins) && words.iter().all(|w| complete.contains(w));
        ensure!(is_told, "EnforcementComplete {complete}");
        let message = complete.splitn(3, ' ').nth(2).unwrap_or_default();
        ensure!(
            ready.starts_with(is_ready) && ready.contains(message),
            "{complete}; Ready {ready}"
        );
        text = complete;
        Ok(true)
    })
    .await?;
    println!("EnforcementComplete {text}");
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
