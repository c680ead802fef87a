//! What all who take part in a run share.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Result;
use kube::Client;
use signingkeyring_e2e_testbed::{cluster::Cluster, replicas::Replicas, world::World};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{facts::Facts, journal::Journal};

/// The operator's namespace.
pub const NAMESPACE: &str = "signing-system";

/// So many replicas of the operator run, as its Deployment has.
const REPLICAS: usize = 2;

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
    /// The operator's replicas, of which one leads.
    pub replicas: Mutex<Replicas>,
    over: AtomicBool,
}

/// An image that a version of a ring's key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The version.
    pub version: u32,
    /// The image.
    pub image: String,
}

impl Run {
    /// A run on a cluster, with nothing prepared yet.
    ///
    /// # Errors
    /// If its journal cannot be written or its image not pushed.
    pub async fn new(cluster: Cluster, options: Options) -> Result<Self> {
        let world = World { info: cluster.info.clone() };
        world.install().await?;
        let client = world.client().await?;
        let journal = Journal::begin(&world.info.folder)?;
        let unsigned = world.push("chaos/unsigned", "v1").await?;
        let offset = clock(&world).display().to_string();
        let settings = [
            "--clock-offset",
            &offset,
            "--recheck-interval=4s",
            "--rings-per-policy=4",
            "--log-level",
            "info,signingkeyring_operator=debug",
        ];
        let (guard, program) = (options.guard.clone(), options.operator.clone());
        let replicas = Replicas::new(&world, guard, program, &settings);
        let rings = (0..options.rings).map(|i| format!("chaos-{i:02}")).collect();
        Ok(Self {
            options,
            cluster,
            world,
            client,
            rings,
            facts: Facts::default(),
            journal,
            signed: Mutex::default(),
            unsigned,
            replicas: Mutex::new(replicas),
            over: AtomicBool::new(false),
        })
    }

    /// Ends the breaking.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
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

    /// Starts replicas of the operator until there are as many as its Deployment has, and
    /// tries again if that fails.
    ///
    /// # Errors
    /// If it fails again and again.
    pub async fn start_replicas(&self) -> Result<()> {
        let mut replicas = self.replicas.lock().await;
        let mut tries = 0;
        while replicas.running.len() < REPLICAS {
            match replicas.start().await {
                Ok(()) => {}
                Err(error) if tries < 3 => self.journal.note(&format!("{error:#}")),
                Err(error) => return Err(error),
            }
            tries += 1;
        }
        Ok(())
    }

    /// Sets the operator's clock wrong by so many seconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        // Replaced at once: a file half written would be a clock that is right.
        let clock = clock(&self.world);
        let new = clock.with_extension("new");
        std::fs::write(&new, seconds.to_string())?;
        Ok(std::fs::rename(new, clock)?)
    }
}

/// The file that says how wrong the operator's clock is.
fn clock(world: &World) -> PathBuf {
    world.info.folder.join("clock-offset")
}
