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
    ledger::{Change, Ledger, PipelineRef},
    report::{self, Report, Stage},
    snapshot::{Layout, LedgerFound, PipelineFound, PolicyFound, Snapshot},
};

pub mod enforcement;
mod mint;
mod place;
pub mod publish;
mod teardown;

pub use enforcement::Enforcement;
pub use mint::{MAX_TOKEN, due_at};

/// One write. Actions are executed in order; a commit ends a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put our finalizer on the ring, before anything of it exists.
    AddFinalizer,
    /// Take it off: nothing of the ring is left.
    RemoveFinalizer,
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
    match &snapshot.ledger {
        LedgerFound::Damaged(_) | LedgerFound::Foreign => (Vec::new(), Stage::Lost),
        LedgerFound::Absent if snapshot.ring.deleting => teardown::without_ledger(snapshot),
        LedgerFound::Absent if evidence(snapshot).is_some() => (Vec::new(), Stage::Lost),
        LedgerFound::Absent => (first_steps(snapshot), Stage::Serving),
        LedgerFound::Present(ledger) if ledger.removed => teardown::tear_down(snapshot, ledger),
        LedgerFound::Present(ledger) if snapshot.ring.deleting => {
            if teardown::blocked(snapshot) {
                (steps(snapshot, ledger), Stage::DeletionBlocked)
            } else {
                (vec![teardown::remove(ledger)], Stage::Deleting)
            }
        }
        LedgerFound::Present(ledger) => (steps(snapshot, ledger), Stage::Serving),
    }
}

/// The finalizer comes first: a ring deleted between the two would leave its
/// keys behind.
fn first_steps(snapshot: &Snapshot) -> Vec<Action> {
    if snapshot.ring.finalizer {
        vec![Action::Commit(mint::first(snapshot))]
    } else {
        vec![Action::AddFinalizer]
    }
}

fn steps(snapshot: &Snapshot, ledger: &Ledger) -> Vec<Action> {
    if !snapshot.ring.finalizer && !snapshot.ring.deleting {
        return vec![Action::AddFinalizer];
    }
    if enforcement::ledger_is_behind(snapshot, ledger) {
        return Vec::new();
    }
    let commit = mint::next(snapshot, ledger)
        .or_else(|| place::change(snapshot, ledger))
        .or_else(|| window(snapshot, ledger));
    match commit {
        Some(change) => vec![Action::Commit(change)],
        None => publish::steps(snapshot, ledger),
    }
}

/// Applies a changed `keepVersions` without a rotation.
fn window(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let keep = snapshot.ring.keep;
    let states = ledger.versions.iter().map(|v| v.state);
    (!states.eq(ledger.window(keep))).then_some(Change::Window { keep })
}

/// Why versions must have existed although there is no ledger.
#[must_use]
pub fn evidence(snapshot: &Snapshot) -> Option<String> {
    if let Some(version) = snapshot.reported.newest_version {
        return Some(format!("the ring's status names version {version}"));
    }
    let named = snapshot.policies.iter().find_map(|(name, found)| match found {
        PolicyFound::Ours { mark: Some(_), .. } => Some(format!("policy {name} holds its rule")),
        _ => None,
    });
    named.or_else(|| {
        snapshot.pipelines.iter().find_map(|(pipeline, found)| {
            matches!(found, PipelineFound::OursUnknownKey)
                .then(|| format!("Secret {pipeline} holds a key of it"))
        })
    })
}
