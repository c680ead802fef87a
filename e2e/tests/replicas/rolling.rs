//! The Deployment replaces its Pods while rings rotate: a new replica is started, and once it
//! is ready an old one is told to end, as the manifest says.

use std::time::Duration;

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{operator::Role, replicas::Replicas, world::World};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    NAMESPACE,
    clock::{Times, seconds},
    in_turn,
    rings::Rings,
    say,
};

const RINGS: [&str; 5] = ["roll-a", "roll-b", "roll-c", "roll-d", "roll-e"];

/// Each ring rotates so often.
const ROUNDS: usize = 4;

/// How long a request that is lost is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the Deployment in the cluster says of how its Pods end.
struct Ends {
    before: Duration,
    grace: Duration,
}

async fn ends(world: &World) -> Result<Ends> {
    let deployment = ["deployment", "signingkeyring-operator", "-n", NAMESPACE];
    let of = async |path: &str| -> Result<Duration> {
        let path = format!("{{.spec.template.spec.{path}}}");
        Ok(Duration::from_secs(world.get(&deployment, &path).await?.parse()?))
    };
    Ok(Ends {
        before: of("containers[0].lifecycle.preStop.sleep.seconds").await?,
        grace: of("terminationGracePeriodSeconds").await?,
    })
}

/// Replaces one replica, the leader or another one.
async fn replace(replicas: &mut Replicas, ends: &Ends, leader: bool) -> Result<()> {
    let old = replicas.running.len();
    replicas.start().await?;
    let mut which = None;
    for (index, replica) in replicas.running.iter().take(old).enumerate() {
        if (replica.role().await == Some(Role::Leader)) == leader {
            which = Some(index);
        }
    }
    let old = replicas.running.remove(which.unwrap_or(0));
    let start = Instant::now();
    sleep(ends.before).await;
    let left = ends.grace.saturating_sub(start.elapsed());
    let code = timeout(left, old.stop()).await;
    ensure!(matches!(code, Ok(Ok(Some(0)))), "it was killed after its grace period: {code:?}");
    Ok(())
}

#[test]
fn a_rolling_update_loses_no_rotation() {
    in_turn(async |world, replicas| {
        replicas.start().await?;
        replicas.start().await?;
        let mut rings = Rings::born(world, &RINGS, PATIENCE).await?;
        let ends = ends(world).await?;
        let (mut took, mut updated) = (Times::default(), None);
        let update = async {
            let start = Instant::now();
            replace(replicas, &ends, true).await?;
            replace(replicas, &ends, false).await?;
            updated = Some(start.elapsed());
            anyhow::Ok(())
        };
        let rotate = async {
            for round in 0..ROUNDS {
                let requests = RINGS.map(|ring| rings.rotation(ring, &format!("round-{round}")));
                let start = Instant::now();
                for request in &requests {
                    rings.ask(request).await?;
                }
                for request in &requests {
                    rings.done(request, PATIENCE).await?;
                    took.add(start.elapsed());
                }
            }
            anyhow::Ok(())
        };
        tokio::try_join!(update, rotate)?;
        for ring in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        rings.judge().await?;
        say(&format!(
            "\nrolling update of both replicas in {}: of {} rotations none was lost, each took {}",
            seconds(updated.unwrap_or_default()),
            RINGS.len() * ROUNDS,
            took.summary()
        ));
        Ok(())
    });
}
