//! One run while it goes on: its operators, and the state of its view.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde_json::Value;
use signingkeyring_e2e_observer::{
    history::Id,
    normalized::{difference, normalized},
    observer::Observer,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{
    admin::Admin,
    fault::{Fault, ReadFault},
    log::Log,
    operators::{ClockOffset, Operator, RECHECK},
    scenario::Scenario,
    transport::Transport,
    watches::LAG,
};

/// Without a write for this long, a run has come to its end: the operator has
/// looked at its ring once more meanwhile.
const SETTLED: Duration = RECHECK.saturating_add(Duration::from_secs(1));

/// So long Kyverno may take to load a policy, on a machine that is busy: what it then answers
/// is told by the ring. A ring may also have no question any more.
const LOADED: Duration = Duration::from_secs(30);

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

/// A run that goes on.
pub(super) struct Run<'a> {
    pub(super) shared: &'a Shared,
    pub(super) admin: &'a Admin,
    pub(super) scenario: &'a Scenario,
    pub(super) fault: Fault,
    pub(super) reference: Option<&'a Value>,
    pub(super) log: Arc<Log>,
    pub(super) clock_offset: ClockOffset,
    pub(super) operators: Mutex<Vec<Operator>>,
    /// When the last reaction to a fault was over.
    pub(super) reacted: Mutex<Option<Instant>>,
}

impl Run<'_> {
    pub(super) fn transport(&self, who: &str) -> Transport {
        let client = self.shared.operator.clone();
        Transport::new(client, self.admin.view.clone(), who, Arc::clone(&self.log))
    }

    pub(super) fn start(&self, transport: &Transport, who: &str) {
        let name = format!("{} {} {who}", self.scenario.name, self.fault);
        let operator = Operator::start(transport, &self.admin.view, &name, &self.clock_offset);
        self.lock_operators().push(operator);
    }

    pub(super) fn lock_operators(&self) -> MutexGuard<'_, Vec<Operator>> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> Value {
        self.normalized(&self.shared.observer.now(self.admin.view.name()))
    }

    /// A state of the view, normalized: of its ring, and of the neighbour.
    pub(super) fn normalized(&self, now: &BTreeMap<Id, Value>) -> Value {
        let view = &self.admin.view;
        let mut state = normalized(now, view.name(), view.ring());
        if self.scenario.neighbour.is_some() {
            state["neighbour"] = normalized(now, view.name(), &view.neighbour());
        }
        state
    }

    pub(super) fn is_end(&self, found: &Value) -> bool {
        match self.reference {
            Some(reference) => reference == found,
            None => (self.scenario.goal)(found),
        }
    }

    /// Waits until the end is reached and nothing more is written.
    pub(super) async fn settled(&self, is_end: impl Fn(&Value) -> bool) -> Result<()> {
        let start = Instant::now();
        // What lags may bring its last event only then.
        let settled = match self.fault {
            Fault::Read(ReadFault::Lag(events)) => SETTLED + LAG * u32::from(events),
            _ => SETTLED,
        };
        loop {
            let latest = [self.log.last_write(), self.reacted(), Some(start)];
            let latest = latest.into_iter().flatten().max().unwrap_or(start);
            let found = self.state();
            let unheard = self.log.unanswered_policy();
            let heard = unheard.is_none_or(|written| written.elapsed() >= LOADED);
            if is_end(&found) && heard && latest.elapsed() >= settled {
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

    pub(super) fn reacted(&self) -> Option<Instant> {
        *self.reacted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state shows something.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let view = self.admin.view.name();
        let observer = &self.shared.observer;
        let waited = observer.until(view, what, PATIENCE, |now| holds(&self.normalized(now))).await;
        waited.with_context(|| format!("the state is {}", self.state()))
    }
}
