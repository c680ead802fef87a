//! The windows in which the schedule may rotate.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{World, manifest};

use crate::common::run;

async fn in_window(world: &World, ring: &str, window: &str) -> Result<()> {
    let rotation = format!("rotation: {{soak: 1s, every: 90d, windows: [{window}]}}");
    world.apply(&manifest(ring, "").replace("rotation: {soak: 1s}", &rotation)).await?;
    Ok(())
}

#[test]
fn the_next_rotation_is_in_a_window_and_one_that_is_asked_for_is_not() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("windowed").await?;
        let window = "{days: [Saturday], start: '22:15', end: '22:16', timeZone: Asia/Kathmandu}";
        in_window(world, "windowed", window).await?;
        // A clock there is 5 hours and 45 minutes ahead.
        signingkeyring_e2e_testbed::world::wait_until("it is in the window", async || {
            let next = world.ring("windowed", "{.status.nextRotationTime}").await?;
            Ok(next.contains("T16:30:"))
        })
        .await?;
        world.rotate("windowed", "now").await?;
        let next = world.ring("windowed", "{.status.nextRotationTime}").await?;
        ensure!(next.contains("T16:30:"), "{next}");
        Ok(())
    });
}

#[test]
fn a_time_zone_that_does_not_exist_is_said() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("zoneless").await?;
        in_window(world, "zoneless", "{start: '22:00', end: '04:00', timeZone: Mars/Olympus}")
            .await?;
        let said = world.wait_for_condition("zoneless", "Ready", "False SpecInvalid").await?;
        ensure!(said.contains("\"Mars/Olympus\" is no time zone"), "{said}");
        let next = world.ring("zoneless", "{.status.nextRotationTime}").await?;
        ensure!(next.is_empty(), "{next}");
        in_window(world, "zoneless", "{start: '22:00', end: '04:00', timeZone: Europe/Berlin}")
            .await?;
        world.wait_for_condition("zoneless", "Ready", "True").await?;
        Ok(())
    });
}
