//! Prepares the rings, lets everybody loose on them, and ends it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    world::{consent, manifest, namespaces},
};
use tokio::{task::JoinSet, time::sleep};

use super::{
    journal::Kind,
    monitor, outages, owners, prober,
    run::{Options, Run},
    signer, tampering, verdict,
};

/// Of five rings, this one has a schedule.
const SCHEDULED: usize = 1;

/// And this one a version that stands by.
const STANDBY: usize = 2;

/// Prepares a cluster with the operator's replicas and rings that are ready.
///
/// # Errors
/// If they do not become so.
pub async fn prepare(cluster: Cluster, options: Options) -> Result<Arc<Run>> {
    let run = Arc::new(Run::new(cluster, options).await?);
    for (number, ring) in run.rings.iter().enumerate() {
        let mut known = run.facts.lock();
        let facts = known.rings.entry(ring.clone()).or_default();
        facts.scheduled = number % 5 == SCHEDULED;
        // The one that stands by was not asked for.
        facts.allowed = u32::from(number % 5 == STANDBY);
    }
    run.set_clock(0)?;
    run.start_replicas().await?;
    let yaml: Vec<String> =
        run.rings.iter().enumerate().map(|(i, ring)| ring_of_its_own(i, ring)).collect();
    run.world.apply(&yaml.join("\n---\n")).await?;
    for ring in &run.rings {
        run.world.wait_for_condition(ring, "Ready", "True").await?;
    }
    Ok(run)
}

/// Breaks things for as long as the options say, and judges what became
/// of the rings after that.
///
/// # Errors
/// If the harness itself fails.
pub async fn go(run: &Arc<Run>) -> Result<()> {
    let mut watching = JoinSet::new();
    watching.spawn(monitor::observe(Arc::clone(run)));
    for number in 1..=2 {
        watching.spawn(prober::probe(Arc::clone(run), format!("prober-{number}")));
        watching.spawn(signer::sign(Arc::clone(run), format!("signer-{number}")));
    }
    watching.spawn(progress(Arc::clone(run)));

    let end = async {
        sleep(run.options.length).await;
        run.end();
        Ok(())
    };
    // These end by themselves, so that nothing stays half broken.
    futures::try_join!(
        end,
        outages::strike(run),
        tampering::strike(Arc::clone(run)),
        owners::ask(Arc::clone(run)),
    )?;
    run.journal.note("nothing is broken any more");
    run.set_clock(0)?;
    verdict::settle(run).await;
    watching.abort_all();
    verdict::judge(run).await;
    Ok(())
}

/// Rings differ: in how many versions they keep, whether they have a schedule,
/// a second pipeline, a version that stands by.
fn ring_of_its_own(number: usize, ring: &str) -> String {
    let keep = match number % 5 {
        4 => 2,
        3 if number > 10 => 1,
        _ => 3,
    };
    let plain = manifest(ring, &format!("  keepVersions: {keep}\n"));
    let (more, ring_manifest) = match number % 5 {
        0 => (
            format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-env}}}}\n---\n{}---\n",
                consent(&format!("{ring}-env"))
            ),
            plain.replace(
                &format!("[{{namespace: {ring}-ci}}]"),
                &format!(
                    "[{{namespace: {ring}-ci}}, {{namespace: {ring}-env, layout: Environment}}]"
                ),
            ),
        ),
        SCHEDULED => (String::new(), plain.replace("{soak: 1s}", "{soak: 1s, every: 1h}")),
        STANDBY => (String::new(), plain.replace("{soak: 1s}", "{soak: 1s, standby: true}")),
        _ => (String::new(), plain),
    };
    format!("{}---\n{more}{ring_manifest}", namespaces(ring))
}

async fn progress(run: Arc<Run>) {
    loop {
        sleep(Duration::from_secs(15)).await;
        eprintln!(
            "  {:4.0} s: {} rotations, {} faults, {} probes decided, {} not",
            run.journal.elapsed().as_secs_f64(),
            verdict::rotations(&run),
            run.journal.total(Kind::Fault),
            run.journal.total(Kind::Decided),
            run.journal.total(Kind::Undecided),
        );
    }
}
