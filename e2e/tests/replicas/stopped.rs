//! A leader that is stopped and woken (SIGSTOP, SIGCONT) finds that another one leads. What
//! it had sent before is stopped by compare-and-swap, whenever it arrives.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    audit::{Request, Requests},
    operator::{Role, Signal},
    valve::Valve,
    world::{World, manifest, namespaces, wait_until},
};

use crate::{NAMESPACE, in_turn};

const RING: &str = "stopped";

/// More bytes than a renewal of the Lease has, or a question to Kyverno, and fewer than a
/// new version's keys.
const COMMIT: usize = 3000;

/// The writes of the ring's ledger.
fn of_ledger(world: &World, since: Requests) -> Result<Vec<Request>> {
    let mut requests = since.writes_until_now(&world.info.folder)?;
    let name = format!("ring-{RING}");
    requests.retain(|request| request.namespace == NAMESPACE && request.name == name);
    Ok(requests)
}

#[test]
fn a_leader_that_was_stopped_writes_nothing_when_it_is_woken() {
    in_turn(async |world, replicas| {
        let port = world.info.server.rsplit(':').next().unwrap_or_default().parse()?;
        let valve = Valve::to(port).await?;
        replicas.start_at(&format!("https://127.0.0.1:{}", valve.port)).await?;
        replicas.until_led().await?;
        replicas.start().await?;
        world.apply(&namespaces(RING)).await?;
        world.apply(&manifest(RING, "")).await?;
        world.wait_for_condition(RING, "Ready", "True").await?;

        // The new version is on its way to the ledger when the leader stops.
        valve.close();
        world.ask_for_rotation(RING, "while-it-stops").await?;
        wait_until("a commit is on its way", async || Ok(valve.largest() > COMMIT)).await?;
        let old = replicas.running.remove(0);
        old.signal(Signal::STOP)?;
        ensure!(old.role().await.is_none(), "it answers although it is stopped");

        // The other one does what the first had begun.
        replicas.until_led().await?;
        world.wait_for_field(RING, "{.status.observedRotation}", "while-it-stops").await?;
        world.wait_for_condition(RING, "Ready", "True").await?;
        let ledger = ["secret", &format!("ring-{RING}"), "-n", NAMESPACE];
        let before = world.get(&ledger, "{.metadata.resourceVersion}").await?;

        // What the first had sent arrives now.
        let since = Requests::from_now(&world.info.folder)?;
        valve.open();
        wait_until("the old commit has arrived", async || {
            Ok(of_ledger(world, since)?.iter().any(|request| request.verb == "patch"))
        })
        .await?;
        let arrived = of_ledger(world, since)?;
        ensure!(arrived.iter().all(|request| request.code == 409), "{arrived:#?}");

        old.signal(Signal::CONT)?;
        wait_until("it stands by", async || Ok(old.role().await == Some(Role::Standby))).await?;
        let log = fs::read_to_string(&old.log)?;
        ensure!(log.contains("leads no longer"), "its log does not say that it lost the Lease");
        let written = of_ledger(world, since)?;
        ensure!(written.iter().all(|request| !request.was_done()), "{written:#?}");
        ensure!(world.get(&ledger, "{.metadata.resourceVersion}").await? == before);
        ensure!(world.ring(RING, "{.status.versions[*].version}").await? == "2 1");

        // It is as good as any, and takes over from the other one.
        let leader = replicas.take_leader().await?;
        leader.stop().await?;
        replicas.running.push(old);
        replicas.until_led().await?;
        tokio::time::timeout(Duration::from_secs(60), world.rotate(RING, "once-more")).await??;
        Ok(())
    });
}
