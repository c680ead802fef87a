//! How many requests to the API server a rotation costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    audit::{Request, Requests},
    world::{World, manifest, namespaces, wait_until},
};

use common::{Shared, run, start_operator};

/// A rotation with one pipeline after which a version retires, dry runs aside: those are
/// the gate's questions, of a policy and not of a ring, and the trial of each kind of
/// policy every half a minute. Twelve, and two more where Kyverno takes longer than two
/// seconds to take the version in, or to let go of the one before: a status of that, and a
/// look at the pipeline.
const MOST: usize = 14;

/// Starts the operator as it is installed: the tests' settings have it look more often.
async fn as_installed(shared: &Shared) -> Result<()> {
    let mut operator = shared.operator.lock().await;
    if let Some(operator) = operator.take() {
        operator.kill().await?;
    }
    let log = ["--log-level", "info,signingkeyring_operator=debug"];
    *operator = Some(start_operator(&shared.world, &log).await?);
    Ok(())
}

/// How often each request was made, by verb and resource.
fn counted(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let Request { verb, resource, .. } = request;
        let dry_run = if request.dry_run { " (dry run)" } else { "" };
        *counts.entry(format!("{verb} {resource}{dry_run}")).or_default() += 1;
    }
    counts
}

/// Rotates, and waits until everything about it is over.
async fn rotate(world: &World, ring: &str, token: &str) -> Result<()> {
    world.rotate(ring, token).await?;
    let policy = world.ring(ring, "{.status.policy.name}").await?;
    wait_until("the version before is let go of", async || {
        Ok(world.keys(&policy, ring).await?.is_some_and(|keys| keys.len() == 1))
    })
    .await?;
    let current = world.ring(ring, "{.status.currentVersion}").await?;
    let enforced = format!("True Enforced Kyverno accepts the versions {current}, ");
    world.wait_for_condition(ring, "PolicyEnforced", &enforced).await?;
    world.wait_for_condition(ring, "Reconciling", " ").await?;
    Ok(())
}

#[test]
fn a_rotation_costs_few_requests() {
    run(async |shared| {
        as_installed(shared).await?;
        let (world, ring) = (&shared.world, "costs");
        world.apply(&namespaces(ring)).await?;
        // The default soak, and with each rotation the version before retires.
        let spec = manifest(ring, "  keepVersions: 1\n").replace("{soak: 1s}", "{soak: 10s}");
        let since = Requests::from_now(&world.info.folder)?;
        world.apply(&spec).await?;
        world.wait_for_condition(ring, "Ready", "True").await?;
        let birth = counted(&since.until_now(&world.info.folder)?);
        eprintln!("a birth: {birth:#?}");
        ensure!(!birth.keys().any(|what| what.starts_with("list ")), "{birth:#?}");

        rotate(world, ring, "first").await?;
        let since = Requests::from_now(&world.info.folder)?;
        rotate(world, ring, "second").await?;
        let requests = since.until_now(&world.info.folder)?;
        let counts = counted(&requests);
        let others = requests.iter().filter(|request| !request.dry_run).count();
        eprintln!("a rotation: {others} requests, and dry runs: {counts:#?}");
        let keys =
            |request: &&Request| request.verb == "get" && request.name == format!("ring-{ring}");
        let reads = requests.iter().filter(keys).count();
        ensure!(reads <= 1, "{reads} reads of private keys: {requests:#?}");
        ensure!(others <= MOST, "{others} requests, {MOST} at most: {requests:#?}");
        Ok(())
    });
}
