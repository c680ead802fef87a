//! Takes away what the operator lives on, one thing at a time: the operator
//! itself, the API server, Kyverno, its webhooks.

use std::time::Duration;

use anyhow::Result;
use signingkeyring_e2e_observer::invariant::Invariant;
use signingkeyring_e2e_testbed::images::Verdict;
use tokio::time::{Instant, sleep};

use super::{
    disturbances::Scope,
    journal::{OPEN, TAKEN_OVER},
    prober,
    random::{Random, ShuffleBag},
    run::Run,
    wait::{wait, wait_to_know},
    webhooks,
};

#[derive(Clone, Copy, Debug)]
enum Outage {
    Leader,
    Operator,
    HandOver,
    ApiServer,
    Kyverno,
    WebhooksDeleted,
    WebhooksEdited,
    OpenGate,
}

/// How long the conditions may take to say that the gate is open.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long Kyverno and the API server may take for what somebody undid to
/// be known to them.
const SPREAD: Duration = Duration::from_secs(2);

/// Strikes until the breaking is to end.
///
/// # Errors
/// If something cannot be started again.
pub async fn strike(run: &Run) -> Result<()> {
    let mut random = Random::new(run.options.seed, "outages");
    let kinds = [
        (Outage::Leader, 4),
        (Outage::Operator, 1),
        (Outage::HandOver, 2),
        (Outage::WebhooksDeleted, 2),
        (Outage::WebhooksEdited, 2),
        (Outage::ApiServer, 1),
        (Outage::Kyverno, 1),
        (Outage::OpenGate, 1),
    ];
    let mut bag = ShuffleBag::new(&kinds, Random::new(run.options.seed, "bag of outages"));
    // One of each early, so that a short run has seen them all.
    let mut first = [Outage::OpenGate, Outage::ApiServer, Outage::Kyverno];
    random.shuffle(&mut first);
    let mut first = first.into_iter();
    loop {
        run.rest(Duration::from_millis(random.between(2000, 7000))).await;
        let outage =
            if random.one_in(3) { first.next().or_else(|| bag.draw()) } else { bag.draw() };
        let Some(outage) = outage.filter(|_| !run.is_over()) else { return Ok(()) };
        let pause = Duration::from_millis(random.between(0, 3000));
        // If it ended by itself; nothing is done while it runs.
        run.cluster.start_again("kyverno").await?;
        match outage {
            Outage::Leader => leader(run).await?,
            Outage::Operator => operator(run, pause).await?,
            Outage::HandOver => hand_over(run).await?,
            Outage::ApiServer => api_server(run, pause).await?,
            Outage::Kyverno => kyverno(run, pause).await?,
            Outage::WebhooksDeleted => while_kyverno_runs(run, "webhooks deleted", false).await,
            Outage::WebhooksEdited => while_kyverno_runs(run, "webhooks edited", true).await,
            Outage::OpenGate => open_gate(run).await?,
        }
    }
}

/// The other replica takes over.
async fn leader(run: &Run) -> Result<()> {
    run.journal.fault("leader killed", "");
    let mut replicas = run.replicas.lock().await;
    replicas.take_leader().await?.kill().await?;
    let start = Instant::now();
    replicas.until_led().await?;
    run.journal.took(TAKEN_OVER, start.elapsed());
    drop(replicas);
    run.start_replicas().await
}

async fn operator(run: &Run, pause: Duration) -> Result<()> {
    run.journal.fault("both replicas killed", &format!("for {pause:?}"));
    run.replicas.lock().await.kill_all().await?;
    sleep(pause).await;
    run.start_replicas().await
}

/// As where a node is drained, or a new version installed.
async fn hand_over(run: &Run) -> Result<()> {
    run.journal.fault("leader asked to end", "");
    let mut replicas = run.replicas.lock().await;
    replicas.take_leader().await?.stop().await?;
    drop(replicas);
    run.start_replicas().await
}

/// Kyverno ends when it cannot renew its lease for some seconds; what a
/// kubelet would do then is done here.
async fn api_server(run: &Run, pause: Duration) -> Result<()> {
    run.journal.fault("API server stopped", &format!("for {pause:?}"));
    run.facts.disturb(Scope::Everything);
    run.cluster.stop("kube-apiserver").await?;
    sleep(pause).await;
    run.cluster.start_again("kube-apiserver").await?;
    run.journal.note("the API server serves again");
    run.cluster.start_again("kyverno").await?;
    run.facts.restored(Scope::Everything, None);
    run.journal.note("Kyverno serves");
    Ok(())
}

async fn kyverno(run: &Run, pause: Duration) -> Result<()> {
    run.journal.fault("Kyverno stopped", &format!("for {pause:?}"));
    run.facts.disturb(Scope::Everything);
    run.cluster.stop("kyverno").await?;
    sleep(pause).await;
    run.cluster.start_again("kyverno").await?;
    run.facts.restored(Scope::Everything, None);
    run.journal.note("Kyverno serves again");
    Ok(())
}

/// Kyverno puts back what is deleted or edited.
async fn while_kyverno_runs(run: &Run, what: &'static str, edit: bool) {
    run.journal.fault(what, "");
    run.facts.disturb(Scope::Everything);
    let start = Instant::now();
    let broken =
        if edit { webhooks::edit(&run.client).await } else { webhooks::delete(&run.client).await };
    if let Err(error) = broken {
        run.journal.note(&format!("{what}: {error:#}"));
    }
    whole(run).await;
    run.journal.note(&format!("whole again after {:?}", start.elapsed()));
    sleep(SPREAD).await;
    run.facts.restored(Scope::Everything, None);
}

async fn whole(run: &Run) {
    if wait(PATIENCE, || are_whole(run)).await.is_none() {
        // It stays a disturbance of which nobody knows when it ended: start
        // Kyverno anew, as its administrator would.
        run.journal.fault("Kyverno did not put its webhooks back", "");
    }
}

async fn are_whole(run: &Run) -> bool {
    webhooks::are_whole(&run.client).await.unwrap_or(false)
}

/// Kyverno and its webhooks are gone: pods pass unverified, and the rings'
/// conditions have to say so.
async fn open_gate(run: &Run) -> Result<()> {
    run.journal.fault("Kyverno stopped and its webhooks deleted", "");
    run.facts.disturb(Scope::Everything);
    run.cluster.stop("kyverno").await?;
    webhooks::delete(&run.client).await?;
    let start = Instant::now();
    let admitted = match run.rings.first() {
        Some(ring) => prober::admit(run, ring, &run.unsigned).await,
        None => None,
    };
    run.journal.note(&format!("an unsigned image now: {admitted:?}"));
    if admitted == Some(Verdict::Admitted) {
        said(run, start).await;
    }
    run.cluster.start_again("kyverno").await?;
    whole(run).await;
    run.facts.restored(Scope::Everything, None);
    run.journal.note("Kyverno serves again");
    Ok(())
}

async fn said(run: &Run, start: Instant) {
    let all = || run.rings.iter().all(|ring| said_after(run, ring, start).is_some());
    let in_time = wait_to_know(PATIENCE, all).await.is_some();
    for ring in &run.rings {
        match said_after(run, ring, start) {
            Some(took) => run.journal.took(OPEN, took),
            None if in_time => {}
            None => {
                let text = format!("the gate was open for {PATIENCE:?} and {ring} did not say so");
                run.journal.violated(Invariant::ClosedNotOpen, &text);
            }
        }
    }
}

fn said_after(run: &Run, ring: &str, start: Instant) -> Option<Duration> {
    let since = run.facts.lock().since(ring, "PolicyEnforced", "False", "GateOpen");
    since.map(|since| since.saturating_duration_since(start))
}
