//! The order of the steps: from what was observed to what to do next.
//!
//! A rotation goes mint -> the policy holds the key -> the gate answers with
//! it -> soak -> pipelines switch -> it is Current, and what is beyond the
//! window retires. No step is remembered anywhere but in the ledger: every
//! pass finds its place again from what it sees, so a crash between two
//! actions is just another start.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    high_water::HighWater,
    ledger::{Change, Ledger, PipelineRef},
    report::{self, Report, Stage},
    snapshot::{Layout, LedgerFound, Snapshot},
};

pub mod enforcement;
mod mint;
mod place;
pub mod publish;
pub mod revoke;
mod teardown;
pub mod witness;

pub use enforcement::Enforcement;
pub use mint::{MAX_TOKEN, due_at, is_token};
pub use witness::{evidence, last_version};

/// One write. Actions are executed in order; a commit ends a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Put our finalizer on the ring, before anything of it exists.
    AddFinalizer,
    /// Take it off: nothing of the ring is left.
    RemoveFinalizer,
    /// Have the ring's annotation remember how far the ring has come.
    RecordHighWater(HighWater),
    /// Commit a transition of the ledger the plan was made from.
    Commit(Change),
    /// Create a pipeline Secret, or replace the one of ours that was observed.
    WriteSecret {
        /// Which Secret.
        pipeline: PipelineRef,
        /// How its entries are named.
        layout: Layout,
        /// The version it receives.
        version: u32,
        /// Whether somebody else had changed what it holds.
        drifted: bool,
    },
    /// Delete a pipeline Secret of ours.
    DeleteSecret(PipelineRef),
    /// Delete the Secret of one standby key that the ledger does not name.
    DeleteKeySecret(String),
    /// Delete the ledger: the last key material of a deleted ring.
    DeleteLedger,
}

/// What to do about a ring, and what to say of it.
#[derive(Clone, Debug)]
#[must_use = "a plan that is not executed changes nothing, and its report says why"]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// What the status is to say.
    pub report: Report,
    /// When to look again although nothing changes.
    pub wake: Option<Duration>,
}

/// Plans one pass over a ring.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let (actions, stage) = decide(snapshot);
    let due = match (&snapshot.ledger, stage) {
        (LedgerFound::Present(ledger), Stage::Serving | Stage::DeletionBlocked) => {
            mint::due_at(snapshot, ledger)
        }
        _ => None,
    };
    let report = report::report(snapshot, stage, due);
    Plan { actions, report, wake: due.map(|due| until(snapshot.now, due)) }
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn decide(snapshot: &Snapshot) -> (Vec<Action>, Stage) {
    let deleting = snapshot.ring.deleting;
    match &snapshot.ledger {
        LedgerFound::Foreign => (Vec::new(), Stage::Lost),
        LedgerFound::Damaged { table: Some(ledger), .. } if deleting => {
            teardown::start(snapshot, ledger)
        }
        LedgerFound::Absent | LedgerFound::Damaged { .. } if deleting => {
            teardown::without_ledger(snapshot)
        }
        LedgerFound::Damaged { .. } => lost(snapshot),
        LedgerFound::Absent if evidence(snapshot).is_some() => lost(snapshot),
        LedgerFound::Absent => (first_steps(snapshot), Stage::Serving),
        LedgerFound::Present(ledger) if ledger.removed => teardown::tear_down(snapshot, ledger),
        LedgerFound::Present(ledger) if deleting && !teardown::blocked(snapshot) => {
            teardown::start(snapshot, ledger)
        }
        LedgerFound::Present(ledger) if witness::who_knows_more(snapshot, ledger).is_some() => {
            lost(snapshot)
        }
        LedgerFound::Present(ledger) if deleting => {
            (steps(snapshot, ledger), Stage::DeletionBlocked)
        }
        LedgerFound::Present(ledger) => (steps(snapshot, ledger), Stage::Serving),
    }
}

/// Nothing, until the user asks to go on with a new version.
fn lost(snapshot: &Snapshot) -> (Vec<Action>, Stage) {
    let recovery = witness::recover(snapshot);
    (recovery.into_iter().map(Action::Commit).collect(), Stage::Lost)
}

/// The finalizer comes first: a ring deleted between the two would leave its
/// keys behind.
fn first_steps(snapshot: &Snapshot) -> Vec<Action> {
    if snapshot.ring.finalizer {
        mint::first(snapshot).map(Action::Commit).into_iter().collect()
    } else {
        vec![Action::AddFinalizer]
    }
}

fn steps(snapshot: &Snapshot, ledger: &Ledger) -> Vec<Action> {
    // A revocation waits for nothing.
    if let Some(change) = revoke::next(snapshot, ledger) {
        return vec![Action::Commit(change)];
    }
    if !snapshot.ring.finalizer && !snapshot.ring.deleting {
        return vec![Action::AddFinalizer];
    }
    let commit = mint::discard(snapshot, ledger)
        .or_else(|| mint::promote(snapshot, ledger))
        .or_else(|| mint::next(snapshot, ledger))
        .or_else(|| place::change(snapshot, ledger))
        .or_else(|| window(snapshot, ledger));
    if let Some(change) = commit {
        return vec![Action::Commit(change)];
    }
    // Witnesses know of a version before any pipeline does.
    let mut actions = record(snapshot, ledger);
    actions.extend(publish::steps(snapshot, ledger));
    if !actions.iter().any(|action| matches!(action, Action::Commit(_))) {
        actions.extend(unnamed_keys(snapshot, ledger).map(Action::DeleteKeySecret));
    }
    actions
}

fn record(snapshot: &Snapshot, ledger: &Ledger) -> Vec<Action> {
    let mark = ledger.high_water();
    match &snapshot.recorded {
        Some(recorded) if *recorded == mark => Vec::new(),
        _ => vec![Action::RecordHighWater(mark)],
    }
}

/// The Secrets of standby keys that no version needs: of versions whose
/// private key is to be destroyed, and of mints that were never committed. One
/// that is being minted right now is not among them: its commit has not raised
/// the sequence yet.
fn unnamed_keys<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
) -> impl Iterator<Item = String> + 'a {
    let named = |name: &String| {
        let keys = ledger.versions.iter().filter_map(|v| v.private_key.as_ref());
        keys.filter_map(|key| key.secret.as_ref()).any(|secret| secret == name)
    };
    snapshot
        .key_secrets
        .iter()
        .filter(move |(name, sequence)| **sequence < ledger.sequence && !named(name))
        .map(|(name, _)| name.clone())
}

/// Applies a changed `keepVersions` without a rotation.
fn window(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let keep = snapshot.ring.keep;
    let states = ledger.versions.iter().map(|v| v.state);
    let moves = !snapshot.ring.suspend && !states.eq(ledger.window(keep));
    moves.then_some(Change::Window { keep })
}
