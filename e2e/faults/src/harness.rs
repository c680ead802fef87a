//! Makes all runs, many at a time, on one cluster.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DynamicObject;
use serde_json::Value;
use signingkeyring_e2e_observer::{history::Kind, observer::Observer};
use signingkeyring_e2e_testbed::{
    cluster::client,
    pki::{Credential, kubeconfig},
    world::World,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    admin::Admin,
    fault::{self, Fault, Selector},
    run::{Outcome, Shared, run},
    scenario::Scenario,
    table::{Row, Table},
    view::{LABEL, View},
};

/// Which runs to make, and how.
pub struct Options {
    /// The scenarios.
    pub scenarios: Vec<&'static Scenario>,
    /// The faults; all of them if there are none.
    pub faults: Vec<Selector>,
    /// How many runs there are at a time.
    pub parallel: usize,
    /// How many of those may be busy; the others are waiting out their quiet.
    pub busy: usize,
    /// Only so many runs of each scenario.
    pub sample: Option<usize>,
    /// Decides which those are.
    pub seed: u64,
}

/// How often a run is repeated in which Kyverno did not answer for seconds.
const REPETITIONS: usize = 3;

struct Job {
    scenario: &'static Scenario,
    fault: Fault,
    reference: Option<Arc<Value>>,
}

struct Queue {
    options: Options,
    jobs: Mutex<VecDeque<Job>>,
    rows: Mutex<BTreeMap<&'static str, Row>>,
    /// Reference runs that may still bring jobs.
    pending: Mutex<usize>,
    changed: Notify,
}

/// Makes all runs and prints what each violated.
///
/// # Errors
/// If the cluster cannot be prepared.
pub async fn run_all(world: &World, options: Options) -> Result<Table> {
    let start = Instant::now();
    let shared = prepare(world, options.busy).await?;
    let admin = world.client().await?;
    let views: Vec<Admin> =
        (1..=options.parallel).map(|n| Admin::new(admin.clone(), View::numbered(n))).collect();
    stream::iter(&views).map(Admin::prepare).buffer_unordered(4).try_collect::<()>().await?;
    eprintln!("{} views after {} s", views.len(), start.elapsed().as_secs());

    let jobs = options.scenarios.iter();
    let jobs = jobs.map(|scenario| Job { scenario, fault: Fault::None, reference: None }).collect();
    let queue = Queue {
        pending: Mutex::new(options.scenarios.len()),
        options,
        jobs: Mutex::new(jobs),
        rows: Mutex::default(),
        changed: Notify::new(),
    };
    let workers = views.iter().map(|admin| queue.work(&shared, admin));
    futures::future::join_all(workers).await;
    let rows = std::mem::take(&mut *lock(&queue.rows));
    let scenarios = queue.options.scenarios.iter();
    let rows = scenarios.filter_map(|scenario| rows.get(scenario.name).cloned()).collect();
    Ok(Table { rows, took: start.elapsed() })
}

async fn prepare(world: &World, busy: usize) -> Result<Shared> {
    world.install().await?;
    // The lists of a real installation would be every view's.
    let lists = ["delete", "imageexclusionlists", "--all"];
    world.kubectl(&lists).await?;
    let account = [
        "create",
        "token",
        "signingkeyring-operator",
        "--namespace=signing-system",
        "--duration=8h",
    ];
    let token = world.kubectl(&account).await?;
    let folder = &world.info.folder;
    let path = folder.join("operator.kubeconfig");
    fs::write(&path, kubeconfig(&world.info.server, folder, &Credential::Token(token.trim())))?;
    Ok(Shared {
        operator: client(&path).await?,
        observer: Observer::start(&world.client().await?, view_of).await?,
        busy: Semaphore::new(busy),
    })
}

fn view_of(kind: Kind, object: &DynamicObject) -> Option<String> {
    let metadata = &object.metadata;
    let namespace = match kind {
        Kind::Secret => metadata.namespace.as_deref(),
        Kind::Namespace => metadata.name.as_deref(),
        Kind::Ring | Kind::ClusterPolicy | Kind::ImageValidatingPolicy | Kind::MutatingPolicy => {
            return metadata.labels.as_ref()?.get(LABEL).cloned();
        }
    };
    View::of_namespace(namespace?).map(str::to_owned)
}

impl Queue {
    async fn work(&self, shared: &Shared, admin: &Admin) {
        while let Some(job) = self.next().await {
            let reference = job.reference.as_deref();
            let start = Instant::now();
            let mut outcome = run(shared, admin, job.scenario, job.fault, reference).await;
            for _ in 0..REPETITIONS {
                match &outcome {
                    Ok(outcome) if outcome.disturbed && !outcome.violations.is_empty() => {
                        eprintln!(
                            "{} {}: Kyverno did not answer, again",
                            job.scenario.name, job.fault
                        );
                        self.repeated(job.scenario);
                    }
                    _ => break,
                }
                outcome = run(shared, admin, job.scenario, job.fault, reference).await;
            }
            let took = start.elapsed().as_secs();
            let name = job.scenario.name;
            match &outcome {
                Ok(outcome) if outcome.violations.is_empty() => {
                    eprintln!("{name} {}: passed, {} writes, {took} s", job.fault, outcome.writes);
                }
                Ok(outcome) => println!(
                    "{name} {} in {}: VIOLATED\n  {}\n{}",
                    job.fault,
                    admin.view.name(),
                    outcome.violations.join("\n  "),
                    outcome.history
                ),
                Err(error) => println!("{name} {}: cannot be run: {error:#}", job.fault),
            }
            self.done(&job, outcome);
        }
    }

    async fn next(&self) -> Option<Job> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(job) = lock(&self.jobs).pop_front() {
                return Some(job);
            }
            if *lock(&self.pending) == 0 {
                return None;
            }
            changed.await;
        }
    }

    fn repeated(&self, scenario: &Scenario) {
        self.row(scenario, |row| row.repeated += 1);
    }

    fn row(&self, scenario: &Scenario, change: impl FnOnce(&mut Row)) {
        let name = scenario.name;
        let mut rows = lock(&self.rows);
        change(rows.entry(name).or_insert_with(|| Row { scenario: name, ..Row::default() }));
    }

    fn done(&self, job: &Job, outcome: Result<Outcome>) {
        self.row(job.scenario, |row| match &outcome {
            Err(_) => row.errors += 1,
            Ok(outcome) => {
                row.violations += outcome.violations.len();
                match job.fault {
                    Fault::None => row.writes = outcome.writes,
                    _ if outcome.fired => row.tried += 1,
                    _ => row.not_reached += 1,
                }
            }
        });
        if job.fault == Fault::None {
            if let Ok(outcome) = outcome
                && outcome.violations.is_empty()
            {
                let reference = Arc::new(outcome.state);
                let jobs = self.options.faults_of(job.scenario, outcome.writes);
                lock(&self.jobs).extend(jobs.into_iter().map(|fault| Job {
                    scenario: job.scenario,
                    fault,
                    reference: Some(Arc::clone(&reference)),
                }));
            }
            *lock(&self.pending) -= 1;
            self.changed.notify_waiters();
        }
    }
}

impl Options {
    fn faults_of(&self, scenario: &Scenario, writes: usize) -> Vec<Fault> {
        let mut faults = fault::all(writes);
        faults.retain(|fault| {
            self.faults.is_empty() || self.faults.iter().any(|s| s.selects(*fault))
        });
        if let Some(count) = self.sample {
            let name = scenario.name.bytes().map(u64::from).sum::<u64>();
            let mut state = self.seed.wrapping_mul(1_000_003).wrapping_add(name);
            let mut keyed: Vec<(u64, Fault)> =
                faults.into_iter().map(|fault| (shuffled(&mut state), fault)).collect();
            keyed.sort_by_key(|(key, _)| *key);
            faults = keyed.into_iter().map(|(_, fault)| fault).take(count).collect();
        }
        faults
    }
}

/// The next number of a sequence that looks random and is not (SplitMix64).
fn shuffled(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
