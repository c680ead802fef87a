//! The operators of a run: tasks of this process, ended like a process that
//! is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::Parser;
use jiff::SignedDuration;
use signingkeyring_e2e_testbed::kind::Kind;
use signingkeyring_operator::{clock::Clock, runtime::operate, settings::Settings};
use tokio::task::JoinHandle;
use tracing::{Instrument, info_span};

use super::{transport::Transport, view::View};

/// How often an operator looks at its ring although nothing changed.
pub const RECHECK: Duration = Duration::from_secs(5);

/// By how many minutes the clock of a run's operators is fast.
pub type ClockOffset = Arc<AtomicI64>;

/// An operator; it ends with this value, wherever it is.
#[derive(Debug)]
pub struct Operator(JoinHandle<Result<()>>);

impl Operator {
    /// Starts an operator that sees `view` through `transport`.
    #[must_use]
    pub fn start(transport: &Transport, view: &View, name: &str, offset: &ClockOffset) -> Self {
        let settings = Settings::parse_from([
            "signingkeyring-operator".to_owned(),
            format!("--namespace={}", view.namespace("system")),
            "--listen=127.0.0.1:0".to_owned(),
            "--gate-interval=2s".to_owned(),
            format!("--recheck-interval={}s", RECHECK.as_secs()),
            // Whether namespaces or rings come first is chance in a scenario, and
            // the fault-free run is what all others are compared with.
            "--unknown-rings=Ignore".to_owned(),
            format!("--policy-kind={}", Kind::under_test()),
        ]);
        let offset = Arc::clone(offset);
        let system = Clock::system();
        let clock = Clock::new(move || {
            let minutes = offset.load(Ordering::Relaxed);
            system.now() + SignedDuration::from_mins(minutes)
        });
        let span = info_span!("operator", run = name);
        Self(tokio::spawn(operate(transport.client(), settings, clock).instrument(span)))
    }

    /// Whether it ended by itself, which it never should.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}
