//! A replica that does not lead writes nothing and asks Kyverno nothing, and takes over once
//! nobody has renewed the Lease for as long as it lasts, whatever time stands in it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    audit::Requests,
    operator::{Operator, Role},
    world::{World, manifest, namespaces, wait_until},
};
use tokio::time::{Instant, sleep_until};

use crate::{NAMESPACE, in_turn, in_turn_on};

const RING: &str = "stands-by";

/// How long the Lease lasts.
const LASTS: Duration = Duration::from_secs(10);

/// How much later it is taken, and how long who takes it may take to say so.
const LATER: Duration = Duration::from_secs(4);

/// How often somebody else renews it, and how many times: for longer than it lasts.
const RENEW: Duration = Duration::from_secs(2);
const RENEWALS: u32 = 7;

/// Somebody renews the Lease by a clock that is decades slow.
async fn renew(world: &World, second: u32) -> Result<Instant> {
    world
        .apply(&format!(
            "apiVersion: coordination.k8s.io/v1\nkind: Lease\n\
             metadata: {{name: signingkeyring-operator, namespace: {NAMESPACE}}}\n\
             spec: {{holderIdentity: somebody, leaseDurationSeconds: {}, \
             renewTime: '1999-12-31T23:59:{second:02}.000000Z'}}\n",
            LASTS.as_secs()
        ))
        .await?;
    Ok(Instant::now())
}

async fn leads(operator: &Operator) -> Result<String> {
    let metrics = operator.metrics().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("signingkeyring_leader "));
    Ok(value.context("no signingkeyring_leader")?.to_owned())
}

#[test]
fn a_standby_does_nothing_until_nobody_renews_the_lease() {
    in_turn(async |world, replicas| {
        renew(world, 0).await?;
        let since = Requests::from_now(&world.info.folder)?;
        replicas.start().await?;
        let standby = replicas.running.first().context("no replica")?;
        world.apply(&namespaces(RING)).await?;
        world.apply(&manifest(RING, "")).await?;
        let mut last = renew(world, 1).await?;
        for second in 2..RENEWALS {
            sleep_until(last + RENEW).await;
            last = renew(world, second).await?;
            ensure!(standby.role().await == Some(Role::Standby), "it has not said that it waits");
        }
        ensure!(leads(standby).await? == "0");
        let metrics = standby.metrics().await?;
        ensure!(!metrics.contains("gate_asked_timestamp_seconds{"), "it has asked Kyverno");
        let written = since.writes_until_now(&world.info.folder)?;
        ensure!(written.is_empty(), "a standby has written: {written:#?}");

        // That the Lease is deleted does not tell its holder that it is over.
        world.kubectl(&["delete", "lease", "signingkeyring-operator", "-n", NAMESPACE]).await?;
        replicas.until_led().await?;
        let waited = last.elapsed();
        ensure!(
            waited >= LASTS && waited <= LASTS + LATER,
            "taken over {waited:?} after the last renewal"
        );
        let leader = replicas.running.first().context("no replica")?;
        ensure!(leads(leader).await? == "1");
        world.wait_for_condition(RING, "Ready", "True").await?;

        // A second one is ready and stands by; of the two, one leads.
        replicas.start().await?;
        let both = replicas.running.iter();
        let roles = futures::future::join_all(both.map(Operator::role)).await;
        ensure!(roles == [Some(Role::Leader), Some(Role::Standby)], "{roles:?}");
        Ok(())
    });
}

/// Who may not see the cluster cannot work, and would hold the Lease in vain.
#[test]
fn who_has_not_seen_the_cluster_takes_no_lease() {
    in_turn(async |world, replicas| {
        let holder = async || {
            let lease = ["lease", "signingkeyring-operator", "-n", NAMESPACE];
            world.get(&lease, "{.spec.holderIdentity}").await
        };
        replicas.start().await?;
        let leader = replicas.take_leader().await?;
        let before = holder().await?;
        world.kubectl(&["delete", "clusterrolebinding", "signingkeyring-operator"]).await?;
        leader.kill().await?;
        let killed = Instant::now();
        let looked = async {
            sleep_until(killed + LASTS + LATER).await;
            let after = holder().await;
            // Its rights among all else.
            world.install().await?;
            let after = after?;
            ensure!(after == before, "{after} holds it and has not seen the cluster");
            Ok(())
        };
        let (started, looked) = tokio::join!(replicas.start(), looked);
        looked.and(started)?;
        replicas.until_led().await?;
        ensure!(holder().await? != before);
        world.ready_ring("seen-at-last").await?;
        Ok(())
    });
}

/// Who cannot renew the Lease stops by itself, and begins anew when it can again.
#[test]
fn a_leader_without_an_api_server_stops_and_comes_back() {
    in_turn_on(async |cluster, world, replicas| {
        replicas.start().await?;
        replicas.until_led().await?;
        let leader = replicas.running.first().context("no replica")?;
        cluster.stop("kube-apiserver").await?;
        let stopped = Instant::now();
        wait_until("it leads no longer", async || Ok(leads(leader).await? == "0")).await?;
        let took = stopped.elapsed();
        cluster.start_again("kube-apiserver").await?;
        cluster.start_again("kyverno").await?;
        ensure!(took < LASTS, "it led for {took:?} without renewing the Lease");
        replicas.until_led().await?;
        world.ready_ring("comes-back").await?;
        Ok(())
    });
}
