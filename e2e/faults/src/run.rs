//! One run: a scenario with one fault, from an empty view to its verdict.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicI64};

use anyhow::{Context, Result};
use serde_json::Value;
use signingkeyring_e2e_observer::invariant::Invariant;
use tokio::time::Instant;

use super::{
    admin::Admin,
    fault::{Fault, WriteFault},
    log::What,
    operators::Operator,
    scenario::Scenario,
    transport::Transport,
};

mod attempt;
mod steps;
mod verdict;

use attempt::Run;
pub use attempt::Shared;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The fault.
    pub fault: Fault,
    /// Whether it came: a run may need fewer writes than another.
    pub fired: bool,
    /// How many writes the first operator made.
    pub writes: usize,
    /// The end state, normalized.
    pub state: Value,
    /// Empty if all is well.
    pub violations: Vec<String>,
    /// What was written.
    pub history: String,
    /// Kyverno did not answer for seconds, as on a machine that is too busy.
    /// The operator has to report that: nothing can be said of its silence.
    pub disturbed: bool,
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
        clock_offset: Arc::new(AtomicI64::new(0)),
        operators: Mutex::default(),
        reacted: Mutex::default(),
    };
    admin.reset(&shared.observer).await.context("resetting the view")?;
    let transport = run.transport("A");
    run.start(&transport, "A");
    run.set_up().await.with_context(|| format!("before the fault\n{}", run.log))?;
    let armed = Instant::now();
    transport.arm(fault);
    let mut violations = Vec::new();
    if let Err(error) = run.with_faults(&transport).await {
        violations.push(format!("{}: {error:#}", Invariant::Settles));
    }
    drop(busy);
    if violations.is_empty() {
        violations.extend(run.quiet().await);
    }
    let seen = shared.observer.seen(admin.view.name())?;
    violations.extend(run.judge(&seen, armed));
    if run.lock_operators().iter().any(Operator::has_ended) {
        violations.push("an operator ended by itself".to_owned());
    }
    Ok(Outcome {
        fault,
        fired: transport.has_fired() || transport.has_struck(),
        writes: transport.writes(),
        state: run.normalized(&seen.now),
        violations,
        history: run.log.to_string(),
        disturbed: run.log.entries().iter().any(|entry| matches!(entry.what, What::Unreachable)),
    })
}

impl Run<'_> {
    /// Does what the scenario does while the fault strikes, and waits for the end.
    async fn with_faults(&self, transport: &Transport) -> Result<()> {
        let work = async {
            for step in (self.scenario.steps)(&self.admin.view) {
                self.step(&step).await?;
            }
            self.settled(|found| {
                let reacted = !transport.has_fired() || self.reacted().is_some();
                reacted && self.is_end(found)
            })
            .await
        };
        let react = async {
            transport.fired().await;
            let reaction = self.react(transport).await;
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

    async fn react(&self, transport: &Transport) -> Result<()> {
        match self.fault {
            Fault::Write(WriteFault::CrashBefore | WriteFault::CrashAfter, _) => {
                self.lock_operators().clear();
                self.start(&self.transport("A again"), "A again");
                Ok(())
            }
            Fault::Write(WriteFault::SecondReplica, _) => {
                self.start(&self.transport("B"), "B");
                let alone = self.settled(|found| self.is_end(found)).await;
                transport.release();
                alone.context("the second replica alone")
            }
            _ => Ok(()),
        }
    }
}
