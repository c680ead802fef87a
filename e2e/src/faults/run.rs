//! One run: a scenario with one fault, from an empty view to its verdict.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    admin::Admin,
    fault::{Fault, ReadFault, WriteFault},
    layer::Wire,
    log::{Log, What},
    operators::{Ahead, Operator, RECHECK},
    scenario::{SOAK_SECONDS, Scenario, Step, rests, spec},
    watching::LAG,
};
use crate::observer::{
    Observer,
    checks::{self, Expected},
    picture::{difference, picture},
    soak,
};

/// For how long nothing may be written once a run has come to its end.
pub const QUIET: Duration = Duration::from_secs(30);

/// Without a write for this long, a run has come to its end: the operator has
/// looked at its ring once more meanwhile.
const SETTLED: Duration = RECHECK.saturating_add(Duration::from_secs(1));

/// How long a run may take to its end. Pauses after failures add up.
const PATIENCE: Duration = Duration::from_secs(150);

/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What all runs share.
pub struct Shared {
    /// With the operator's rights.
    pub operator: Client,
    /// The observer.
    pub observer: Arc<Observer>,
    /// How many runs may be busy at once; those that are quiet do not count.
    pub busy: Semaphore,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The fault.
    pub fault: Fault,
    /// Whether it came: a run may need fewer writes than another.
    pub fired: bool,
    /// How many writes the first operator made.
    pub writes: usize,
    /// The end state.
    pub picture: Value,
    /// Empty if all is well.
    pub violations: Vec<String>,
    /// What was written.
    pub history: String,
    /// Kyverno did not answer for seconds, as on a machine that is too busy.
    /// The operator has to report that: nothing can be said of its silence.
    pub disturbed: bool,
}

mod steps;
mod verdict;

struct Run<'a> {
    shared: &'a Shared,
    admin: &'a Admin,
    scenario: &'a Scenario,
    fault: Fault,
    reference: Option<&'a Value>,
    log: Arc<Log>,
    ahead: Ahead,
    operators: Mutex<Vec<Operator>>,
    /// When the last reaction to a fault was over.
    reacted: Mutex<Option<Instant>>,
}

/// Runs a scenario with a fault. `reference` is the end state without one.
///
/// # Errors
/// If the run cannot be made; what the operator does wrong is no error.
pub async fn run(
    shared: &Shared,
    admin: &Admin,
    scenario: &Scenario,
    fault: Fault,
    reference: Option<&Value>,
) -> Result<Outcome> {
    let busy = shared.busy.acquire().await?;
    let run = Run {
        shared,
        admin,
        scenario,
        fault,
        reference,
        log: Arc::default(),
        ahead: Arc::new(AtomicI64::new(0)),
        operators: Mutex::default(),
        reacted: Mutex::default(),
    };
    admin.reset(&shared.observer).await.context("resetting the view")?;
    let wire = run.wire("A");
    run.start(&wire, "A");
    run.set_up().await.with_context(|| format!("before the fault\n{}", run.log))?;
    wire.arm(fault);
    let mut violations = Vec::new();
    if let Err(error) = run.with_faults(&wire).await {
        violations.push(format!("{error:#}"));
    }
    drop(busy);
    if violations.is_empty() {
        violations.extend(run.quiet().await);
    }
    let seen = shared.observer.seen(admin.view.name())?;
    let ring = admin.view.name();
    let foreign = admin.foreign();
    let expected = Expected { ring, minted: scenario.minted, foreign: &foreign };
    violations.extend(checks::check(&seen.history, &expected));
    // What replaces a revoked version does not wait for the soak.
    let revokes = seen.now.values().any(|object| object["spec"]["revoked"].is_array());
    let soak = Duration::from_secs(if revokes { 0 } else { SOAK_SECONDS });
    violations.extend(soak::check(&seen.history, &run.heard(), ring, soak));
    if run.lock_operators().iter().any(Operator::has_ended) {
        violations.push("an operator ended by itself".to_owned());
    }
    Ok(Outcome {
        fault,
        fired: wire.has_fired() || wire.has_struck(),
        writes: wire.writes(),
        picture: picture(&seen.now, ring),
        violations,
        history: run.log.to_string(),
        disturbed: run.log.entries().iter().any(|entry| matches!(entry.what, What::Mute)),
    })
}

impl Run<'_> {
    fn wire(&self, who: &str) -> Wire {
        let client = self.shared.operator.clone();
        Wire::new(client, self.admin.view.clone(), who, Arc::clone(&self.log))
    }

    fn start(&self, wire: &Wire, who: &str) {
        let name = format!("{} {} {who}", self.scenario.name, self.fault);
        let operator = Operator::start(wire, &self.admin.view, &name, &self.ahead);
        self.lock_operators().push(operator);
    }

    fn lock_operators(&self) -> std::sync::MutexGuard<'_, Vec<Operator>> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn picture(&self) -> Value {
        let ring = self.admin.view.name();
        picture(&self.shared.observer.now(ring), ring)
    }

    /// Brings the ring to where the scenario begins.
    async fn set_up(&self) -> Result<()> {
        let Some(first) = (self.scenario.versions > 0).then_some(1) else { return Ok(()) };
        self.step(&Step::Create).await?;
        let keep = spec(&self.admin.view, &(self.scenario.spec)(&self.admin.view))["keepVersions"]
            .as_u64();
        for version in first..=self.scenario.versions {
            if version > first {
                let token = json!({"signing.odj.cloud/rotate": format!("to-{version}")});
                self.admin.change_ring(&json!({"metadata": {"annotations": token}})).await?;
            }
            let keep = u32::try_from(keep.unwrap_or(3))?;
            let oldest = (version + 1).saturating_sub(keep).max(1);
            let accepted: Vec<u32> = (oldest..=version).rev().collect();
            self.until(&format!("version {version}"), |p| rests(p, version, &accepted)).await?;
        }
        // What is still on its way is not the scenario's.
        self.settled(|_| true).await
    }

    /// Does what the scenario does while the fault strikes, and waits for the end.
    async fn with_faults(&self, wire: &Wire) -> Result<()> {
        let work = async {
            for step in (self.scenario.steps)(&self.admin.view) {
                self.step(&step).await?;
            }
            self.settled(|found| {
                let reacted = !wire.has_fired() || self.reacted().is_some();
                reacted && self.is_end(found)
            })
            .await
        };
        let react = async {
            wire.fired().await;
            let reaction = self.react(wire).await;
            *self.reacted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            match reaction {
                // Whether the end is reached is for the work to say.
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            }
        };
        tokio::select! {
            result = work => result,
            result = react => result,
        }
    }

    async fn react(&self, wire: &Wire) -> Result<()> {
        match self.fault {
            Fault::Write(WriteFault::CrashBefore | WriteFault::CrashAfter, _) => {
                self.lock_operators().clear();
                self.start(&self.wire("A again"), "A again");
                Ok(())
            }
            Fault::Write(WriteFault::SecondReplica, _) => {
                self.start(&self.wire("B"), "B");
                let alone = self.settled(|found| self.is_end(found)).await;
                wire.release();
                alone.context("the second replica alone")
            }
            _ => Ok(()),
        }
    }

    fn is_end(&self, found: &Value) -> bool {
        match self.reference {
            Some(reference) => reference == found,
            None => (self.scenario.goal)(found),
        }
    }

    /// Waits until the end is reached and nothing more is written.
    async fn settled(&self, is_end: impl Fn(&Value) -> bool) -> Result<()> {
        let start = Instant::now();
        // What lags may bring its last event only then.
        let settled = match self.fault {
            Fault::Read(ReadFault::Lag(events)) => SETTLED + LAG * u32::from(events),
            _ => SETTLED,
        };
        loop {
            let latest = [self.log.last_write(), self.reacted(), Some(start)];
            let latest = latest.into_iter().flatten().max().unwrap_or(start);
            let found = self.picture();
            if is_end(&found) && latest.elapsed() >= settled {
                return Ok(());
            }
            let differs = self.reference.map(|wanted| difference(wanted, &found));
            ensure!(
                start.elapsed() < PATIENCE,
                "the end is not reached within {} s: {}",
                PATIENCE.as_secs(),
                differs.unwrap_or_else(|| found.to_string())
            );
            sleep(LOOK).await;
        }
    }

    fn reacted(&self) -> Option<Instant> {
        *self.reacted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
