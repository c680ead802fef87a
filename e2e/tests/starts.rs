//! What pods meet while Kyverno starts and its policies are ImageValidatingPolicies: it
//! opens its port before it has loaded them. How long that lets anything through, and
//! what probes and a second replica change.
//!
//! A Service and a kubelet are played here (`testbed/src/service.rs`); the API server,
//! Kyverno and what they say to each other are real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64ct::{Base64, Encoding};
use kube::Client;
use signingkeyring_e2e_testbed::{
    images::{Verdict, admit},
    service::{Probes, Service},
    world::{World, manifest, namespaces, wait_until},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use common::{Shared, run, takes_long};

const RING: &str = "starting";
const NAMESPACE: &str = "starting-dev";

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(10);

/// So many questions may be on their way.
const AT_ONCE: usize = 16;

/// For so long it is asked on after all is as it should be.
const AFTER: Duration = Duration::from_secs(2);

/// The names of Kyverno's replicas.
const REPLICAS: [&str; 2] = ["kyverno", "kyverno-replica"];

/// Who asks whether an unsigned image may run.
struct Prober {
    running: Arc<AtomicBool>,
    asking: tokio::task::JoinHandle<Result<Counts>>,
}

/// What was answered.
#[derive(Debug, Default)]
struct Counts {
    /// When it was asked.
    asked: Vec<Instant>,
    /// When those were asked that were admitted.
    admitted: Vec<Instant>,
    /// How many nobody answered: they were refused, too.
    unanswered: usize,
    /// What the ring said of it meanwhile.
    said: BTreeSet<String>,
}

impl Counts {
    fn window(&self) -> Duration {
        match (self.admitted.iter().min(), self.admitted.iter().max()) {
            (Some(first), Some(last)) => *last - *first,
            _ => Duration::ZERO,
        }
    }

    /// How long it took from one question to the next: half of the times, and at most.
    fn pauses(&self) -> [Duration; 2] {
        let mut asked = self.asked.clone();
        asked.sort_unstable();
        let mut pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        pauses.sort_unstable();
        [pauses.len() / 2, pauses.len().saturating_sub(1)]
            .map(|at| pauses.get(at).copied().unwrap_or_default())
    }

    fn add(&mut self, other: Self) {
        self.asked.extend(other.asked);
        self.admitted.extend(other.admitted);
        self.unanswered += other.unanswered;
        self.said.extend(other.said);
    }
}

impl Prober {
    async fn start(world: &World, image: &str) -> Result<Self> {
        let running = Arc::new(AtomicBool::new(true));
        let (client, world, image) = (world.client().await?, world.clone(), image.to_owned());
        let asking = tokio::spawn(ask(client, world, image, Arc::clone(&running)));
        Ok(Self { running, asking })
    }

    async fn end(self) -> Result<Counts> {
        self.running.store(false, Ordering::Relaxed);
        self.asking.await?
    }
}

async fn ask(
    client: Client,
    world: World,
    image: String,
    running: Arc<AtomicBool>,
) -> Result<Counts> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut counts, mut asking) = (Counts::default(), JoinSet::new());
    let looking = tokio::spawn(look(world, Arc::clone(&running)));
    while running.load(Ordering::Relaxed) {
        ticks.tick().await;
        while let Some(done) = asking.try_join_next() {
            count(&mut counts, done?)?;
        }
        if asking.len() < AT_ONCE {
            let (client, image) = (client.clone(), image.clone());
            asking.spawn(async move {
                let at = Instant::now();
                (at, admit(&client, NAMESPACE, &[&image]).await)
            });
        }
    }
    while let Some(done) = asking.join_next().await {
        count(&mut counts, done?)?;
    }
    counts.said = looking.await??;
    Ok(counts)
}

/// What the ring says meanwhile.
async fn look(world: World, running: Arc<AtomicBool>) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    while running.load(Ordering::Relaxed) {
        let said = world.condition(RING, "PolicyEnforced").await?;
        all.insert(said.split(' ').take(2).collect::<Vec<_>>().join(" "));
        sleep(Duration::from_millis(500)).await;
    }
    Ok(all)
}

fn count(counts: &mut Counts, (at, verdict): (Instant, Result<Verdict>)) -> Result<()> {
    counts.asked.push(at);
    match verdict? {
        Verdict::Admitted => counts.admitted.push(at),
        Verdict::Unanswered(_) => counts.unanswered += 1,
        Verdict::Refused(_) => {}
    }
    Ok(())
}

/// Kyverno's replicas behind a Service.
struct Behind<'a> {
    shared: &'a Shared,
    service: Service,
    unsigned: String,
}

impl Behind<'_> {
    async fn stop(&self, replica: usize) -> Result<()> {
        self.service.container_ends(replica);
        self.shared.cluster.stop(REPLICAS[replica]).await
    }

    /// Starts a replica, and waits until the Service leads to it.
    async fn start(&self, replica: usize, probes: Option<Probes>) -> Result<()> {
        self.service.container_starts(replica, probes);
        let to_service = format!("--serverIP=127.0.0.1:{}", self.service.port);
        self.shared.cluster.restart_with(REPLICAS[replica], &[&to_service]).await?;
        wait_until("the Service leads to it", async || Ok(self.service.is_ready(replica))).await
    }

    /// Restarts replicas one after the other, and asks all the while.
    async fn restarted(&self, replicas: &[usize], probes: Option<Probes>) -> Result<Counts> {
        let prober = Prober::start(&self.shared.world, &self.unsigned).await?;
        for replica in replicas {
            self.stop(*replica).await?;
            self.start(*replica, probes).await?;
            self.shared.world.wait_until_refused(NAMESPACE, &self.unsigned).await?;
            sleep(AFTER).await;
        }
        prober.end().await
    }

    /// The same so many times, as a row of a table.
    async fn row(
        &self,
        what: &str,
        times: usize,
        replicas: &[usize],
        probes: Option<Probes>,
    ) -> Result<Counts> {
        let (mut all, mut open, mut pauses) = (Counts::default(), Vec::new(), [Duration::ZERO; 2]);
        for _ in 0..times {
            let counts = self.restarted(replicas, probes).await?;
            open.push(counts.window());
            let of_this = counts.pauses();
            pauses = [0, 1].map(|at| pauses[at].max(of_this[at]));
            all.add(counts);
        }
        let starts = times * replicas.len();
        println!(
            "{what}: {starts} starts, asked {} times (every {:.1?}, at most {:.1?} apart), nobody \
             answered {}, admitted {} (over {open:.0?}); the ring said {:?}",
            all.asked.len(),
            pauses[0],
            pauses[1],
            all.unanswered,
            all.admitted.len(),
            all.said
        );
        ensure!(!all.said.iter().any(|said| said.contains("GateOpen")), "{:?}", all.said);
        Ok(all)
    }
}

#[test]
fn what_pods_meet_while_kyverno_starts() {
    if !takes_long("Kyverno is started a dozen times, and probes wait") {
        return;
    }
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces(RING)).await?;
        world.apply(&manifest(RING, "  policy: {kind: ImageValidatingPolicy}\n")).await?;
        world.wait_for_condition(RING, "Ready", "True").await?;
        let unsigned = world.push("starting/unsigned", "v1").await?;
        world.wait_until_refused(NAMESPACE, &unsigned).await?;

        let authority = ["secret", "kyverno-ca", "--namespace=kyverno"];
        let authority = world.get(&authority, "{.data.tls\\.crt}").await?;
        let authority = Base64::decode_vec(&authority).ok().context("not base64")?;
        let service = Service::start(&world.info.kyvernos, &authority).await?;
        let behind = Behind { shared, service, unsigned };
        // The webhooks lead to the Service from here on.
        behind.stop(0).await?;
        behind.start(0, None).await?;
        wait_until("the webhooks lead to the Service", async || {
            let url = "{.webhooks[*].clientConfig.url}";
            let name =
                ["validatingwebhookconfiguration", "kyverno-resource-validating-webhook-cfg"];
            Ok(world.get(&name, url).await?.contains(&format!(":{}/", behind.service.port)))
        })
        .await?;
        let (chart, twice) = (Some(Probes::CHART), Some(Probes::TWICE));
        let open = behind.row("without probes", 5, &[0], None).await?;
        // Or it asks too seldom to tell what closes it.
        ensure!(!open.admitted.is_empty(), "the start is not open: {open:?}");
        behind.row("by the earliest probe", 3, &[0], Some(Probes::ONCE)).await?;
        let closed = [
            behind.row("by the earliest probe and a second", 3, &[0], twice).await?,
            behind.row("by the chart's probes", 3, &[0], chart).await?,
        ];
        behind.start(1, chart).await?;
        let two = [
            behind.row("two replicas, by the chart's probes", 1, &[0, 1], chart).await?,
            behind.row("two replicas, by the earliest and a second", 1, &[0, 1], twice).await?,
        ];
        behind.row("two replicas, without probes", 2, &[0, 1], None).await?;
        for counts in closed.into_iter().chain(two) {
            ensure!(counts.admitted.is_empty(), "{counts:?}");
        }
        Ok(())
    });
}
