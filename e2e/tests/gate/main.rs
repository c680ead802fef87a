//! Kyverno can be asked whatever else a platform has in its cluster, and where it
//! cannot, nothing is said that is not known. Each of these tests changes what
//! the others need, so they take turns.

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

mod kind;
mod kyverno;
mod platform;
mod slow;
mod upgrade;
mod webhooks;

use anyhow::Result;
use signingkeyring_e2e_testbed::world::World;

/// A ring is born and rotates while all is well with the conditions.
async fn lives(world: &World, ring: &str) -> Result<()> {
    world.ready_ring(ring).await?;
    rotates(world, ring).await
}

/// It rotates, and Kyverno is asked.
async fn rotates(world: &World, ring: &str) -> Result<()> {
    let version = world.ring(ring, "{.status.currentVersion}").await?;
    world.rotate(ring, &format!("after-{version}")).await?;
    world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    world.wait_for_condition(ring, "Ready", "True").await?;
    let unsigned = world.push(&format!("{ring}/app"), "unsigned").await?;
    world.wait_until_refused(&format!("{ring}-dev"), &unsigned).await
}
