//! A leader that is asked to end lets go of the Lease, and the other one need not wait.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::{NAMESPACE, clock::Times, in_turn, say, times};

/// Within this the other one leads.
const TAKEN: Duration = Duration::from_secs(2);

#[test]
fn a_leader_that_is_asked_to_end_is_followed_at_once() {
    in_turn(async |world, replicas| {
        replicas.start().await?;
        replicas.start().await?;
        let mut taken = Times::default();
        for _ in 0..times("HA_STOPS", 4)? {
            let leader = replicas.take_leader().await?;
            let asked = Instant::now();
            let (code, next) = tokio::join!(leader.stop(), replicas.until_led());
            taken.add(asked.elapsed());
            ensure!(code? == Some(0) && next? == 0);
            replicas.start().await?;
        }
        say(&format!("\nasked to end: taken over {}", taken.summary()));
        ensure!(taken.max() <= TAKEN, "taken over after {:?}", taken.max());
        // The last one leaves it to whoever comes next.
        let leader = replicas.take_leader().await?;
        replicas.stop_all().await?;
        leader.stop().await?;
        let lease = ["lease", "signingkeyring-operator", "-n", NAMESPACE];
        let holder = world.get(&lease, "{.spec.holderIdentity}").await?;
        ensure!(holder.is_empty(), "{holder} holds the Lease");
        Ok(())
    });
}
