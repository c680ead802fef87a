//! A hard hour in some minutes: rings rotate while everything around them is
//! broken, and a prober looks whether a wrong image is ever admitted or a
//! right one refused.
//!
//! Who breaks and asks: `outages`, `vandal`, `owners`. Who looks on:
//! `observer` (into `facts` and `weather`), `prober`, `signer`. Who judges at
//! the end: `verdict`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use kube::Client;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cluster::Cluster,
    operator::Operator,
    world::{World, consent, manifest, namespaces},
};

pub mod dice;
pub mod facts;
pub mod journal;
pub mod ledger;
pub mod observer;
pub mod outages;
pub mod owners;
pub mod policies;
pub mod prober;
pub mod secrets;
pub mod signer;
pub mod vandal;
pub mod verdict;
pub mod weather;
pub mod webhooks;

use facts::Facts;
use journal::{Journal, Kind};
use signer::Signed;

/// The operator's namespace.
pub const NAMESPACE: &str = "signing-system";

/// Of five rings, this one has a schedule.
const SCHEDULED: usize = 1;

/// And this one a version that stands by.
const STANDBY: usize = 2;

/// What a run is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// The same seed makes the same choices.
    pub seed: u64,
    /// How many rings.
    pub rings: usize,
    /// How long things are broken.
    pub length: Duration,
    /// The program that owns the operator's process.
    pub guard: PathBuf,
    /// The operator, with a clock that can be set.
    pub operator: PathBuf,
}

/// What all who take part in a run share.
pub struct Run {
    /// What it is to be like.
    pub options: Options,
    /// The cluster.
    pub cluster: Cluster,
    /// The cluster as its administrator uses it.
    pub world: World,
    /// The administrator's client.
    pub client: Client,
    /// The rings' names.
    pub rings: Vec<String>,
    /// What is known.
    pub facts: Facts,
    /// What happened.
    pub journal: Journal,
    /// The images that were signed, by ring.
    pub signed: Mutex<BTreeMap<String, Vec<Signed>>>,
    /// An image that nobody signed.
    pub unsigned: String,
    /// The operator, while it lives.
    pub operator: Mutex<Option<Operator>>,
    over: AtomicBool,
}

impl Run {
    /// Prepares a cluster with an operator and rings that are ready.
    ///
    /// # Errors
    /// If they do not become so.
    pub async fn prepare(cluster: Cluster, options: Options) -> Result<Arc<Self>> {
        let world = World { info: cluster.info.clone() };
        world.install().await?;
        let client = world.client().await?;
        let journal = Journal::begin(&world.info.folder)?;
        let unsigned = world.push("chaos/unsigned", "v1").await?;
        let rings: Vec<String> = (0..options.rings).map(|i| format!("chaos-{i:02}")).collect();
        let run = Arc::new(Self {
            options,
            cluster,
            world,
            client,
            rings,
            facts: Facts::default(),
            journal,
            signed: Mutex::default(),
            unsigned,
            operator: Mutex::default(),
            over: AtomicBool::new(false),
        });
        for (number, ring) in run.rings.iter().enumerate() {
            let mut known = run.facts.lock();
            let facts = known.rings.entry(ring.clone()).or_default();
            facts.scheduled = number % 5 == SCHEDULED;
            // The one that stands by was not asked for.
            facts.allowed = u32::from(number % 5 == STANDBY);
        }
        run.set_clock(0)?;
        run.start_operator().await?;
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
    pub async fn go(self: &Arc<Self>) -> Result<()> {
        let mut watching = JoinSet::new();
        watching.spawn(observer::observe(Arc::clone(self)));
        for number in 1..=2 {
            watching.spawn(prober::probe(Arc::clone(self), format!("prober-{number}")));
            watching.spawn(signer::sign(Arc::clone(self), format!("signer-{number}")));
        }
        watching.spawn(progress(Arc::clone(self)));

        let end = async {
            sleep(self.options.length).await;
            self.over.store(true, Ordering::Relaxed);
            Ok(())
        };
        // These end by themselves, so that nothing stays half broken.
        futures::try_join!(
            end,
            outages::strike(self),
            vandal::strike(Arc::clone(self)),
            owners::ask(Arc::clone(self)),
        )?;
        self.journal.note("nothing is broken any more");
        self.set_clock(0)?;
        verdict::settle(self).await;
        watching.abort_all();
        verdict::judge(self).await;
        Ok(())
    }

    /// Whether the breaking is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Rests, and wakes early when the breaking is to end.
    pub async fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_over() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the operator, and tries again if that fails.
    ///
    /// # Errors
    /// If it fails again and again.
    pub async fn start_operator(&self) -> Result<()> {
        let clock = self.clock().display().to_string();
        let arguments = [
            "--clock-offset",
            &clock,
            "--recheck-interval=4s",
            "--rings-per-policy=4",
            "--log-level",
            "info,signingkeyring_operator=debug",
        ];
        let mut slot = self.operator.lock().await;
        ensure!(slot.is_none(), "the operator runs already");
        let (guard, program) = (&self.options.guard, &self.options.operator);
        let mut tries = 0;
        *slot = Some(loop {
            match Operator::start(&self.world, guard, program, &arguments).await {
                Ok(operator) => break operator,
                Err(error) if tries < 3 => self.journal.note(&format!("{error:#}")),
                Err(error) => return Err(error),
            }
            tries += 1;
        });
        Ok(())
    }

    fn clock(&self) -> PathBuf {
        self.world.info.folder.join("clock-offset")
    }

    /// Sets the operator's clock wrong by so many seconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        // Replaced at once: a file half written would be a clock that is right.
        let new = self.clock().with_extension("new");
        std::fs::write(&new, seconds.to_string())?;
        Ok(std::fs::rename(new, self.clock())?)
    }
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
