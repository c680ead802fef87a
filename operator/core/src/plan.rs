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
    facts::{Facts, Stage, highest_sequence},
    high_water::HighWater,
    ledger::{Cause, Change, Ledger, Mint, PipelineRef, Version},
    snapshot::{Layout, Snapshot},
};

mod mint;
mod place;
mod publish;
mod recovery;
mod revoke;
mod teardown;

/// One write. Actions are executed in order; a commit ends a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Put our finalizer on the ring, before anything of it exists. A ring that has a ledger
    /// and lacks it, as after a restore, remembers by the same write how far it has come.
    AddFinalizer(Option<HighWater>),
    /// Take it off: nothing of the ring is left.
    RemoveFinalizer,
    /// Have the ring's annotation remember how far the ring has come.
    RecordHighWater(HighWater),
    /// Commit a new version, with a key pair of its own, to the ledger the plan
    /// was made from.
    Mint(Mint),
    /// Commit another transition of that ledger.
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

impl Action {
    /// Whether it is a transition of the ledger.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        matches!(self, Self::Mint(_) | Self::Commit(_))
    }

    /// Whether it begins a rotation of a ring with this ledger, of which there may be so
    /// many at once.
    #[must_use]
    pub fn begins_rotation(&self, ledger: Option<&Ledger>) -> bool {
        let is_next = match self {
            Self::Mint(Mint::New { cause, .. }) => *cause != Cause::Standby,
            Self::Commit(Change::Promote { .. }) => true,
            _ => false,
        };
        is_next && ledger.is_some_and(|ledger| ledger.current().is_some())
    }
}

/// What to do about a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a plan that is not executed changes nothing"]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// When to look again although nothing changes.
    pub wake: Option<Duration>,
    /// Whether a rotation is due and waits for those of other rings.
    pub waits_for_others: bool,
}

/// Plans one pass over a ring.
pub fn plan(snapshot: &Snapshot, facts: &Facts<'_>) -> Plan {
    let next = facts.next_rotation.and_then(|next| {
        let is_open = next.begins <= snapshot.now;
        if is_open { next.ends } else { Some(next.begins) }
    });
    let wake = next.map(|next| until(snapshot.now, next));
    let waits_for_others = facts.waits_for_others.is_some();
    Plan { actions: actions(snapshot, facts), wake, waits_for_others }
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn actions(snapshot: &Snapshot, facts: &Facts<'_>) -> Vec<Action> {
    match (facts.stage, facts.ledger) {
        // Nothing, until the user asks to go on with a new version.
        (Stage::Lost, _) => recovery::next(snapshot, facts)
            .map(|r| Action::Mint(Mint::Recover(r)))
            .into_iter()
            .collect(),
        (Stage::Deleting, _) => teardown::steps(snapshot, facts),
        (Stage::Serving | Stage::DeletionBlocked, Some(ledger)) => steps(snapshot, facts, ledger),
        (Stage::Serving, None) => first_steps(snapshot, facts),
        (Stage::DeletionBlocked, None) => Vec::new(),
    }
}

/// The finalizer comes first: a ring deleted between the two would leave its
/// keys behind.
fn first_steps(snapshot: &Snapshot, facts: &Facts<'_>) -> Vec<Action> {
    if snapshot.ring.finalizer {
        vec![mint::begin(snapshot, facts)]
    } else {
        vec![Action::AddFinalizer(None)]
    }
}

fn steps(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Vec<Action> {
    // A revocation waits for nothing.
    if let Some(change) = revoke::next(snapshot, facts, ledger) {
        return vec![Action::Commit(change)];
    }
    if !snapshot.ring.finalizer && !snapshot.ring.deleting {
        return vec![Action::AddFinalizer(unrecorded(snapshot, ledger))];
    }
    // One that was lost before it had a version, and was begun again by who did
    // not know of it.
    let above = highest_sequence(snapshot);
    if ledger.is_unborn() && above > ledger.rule.sequence {
        let rule = place::first(snapshot, Some(&ledger.rule.settings));
        return vec![Action::Commit(Change::Begin { rule, above })];
    }
    if let Some(change) = mint::give_up(snapshot, ledger) {
        return vec![Action::Commit(change)];
    }
    // The schedule goes by the ledger's times: with one in the future it would
    // stand still until then.
    let ahead = ledger.is_ahead_of(snapshot.now).then_some(Change::CorrectTimes);
    let commit = ahead
        .or_else(|| mint::discard(snapshot, ledger))
        .or_else(|| mint::promote(snapshot, facts, ledger))
        .map(Action::Commit)
        .or_else(|| mint::next(snapshot, facts, ledger).map(Action::Mint))
        .or_else(|| place::change(snapshot, facts, ledger).map(Action::Commit))
        .or_else(|| window(snapshot, ledger).map(Action::Commit));
    if let Some(commit) = commit {
        return vec![commit];
    }
    // Witnesses know of a version before any pipeline does.
    let record = unrecorded(snapshot, ledger).map(Action::RecordHighWater);
    let mut actions: Vec<Action> = record.into_iter().collect();
    actions.extend(publish::steps(snapshot, facts, ledger));
    if !actions.iter().any(Action::is_commit) {
        actions.extend(unnamed_keys(snapshot, ledger).map(Action::DeleteKeySecret));
    }
    actions
}

/// How far a ring has come, if its annotation says something else.
fn unrecorded(snapshot: &Snapshot, ledger: &Ledger) -> Option<HighWater> {
    let mark = ledger.high_water();
    match &snapshot.recorded {
        Some(recorded) if *recorded == mark => None,
        None if mark == HighWater::default() => None,
        _ => Some(mark),
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
        let keys = ledger.versions.iter().filter_map(Version::private_key);
        keys.filter_map(|key| key.secret.as_ref()).any(|secret| secret == name)
    };
    snapshot
        .key_secrets
        .iter()
        .filter(move |(name, secret)| secret.sequence < ledger.sequence && !named(name))
        .map(|(name, _)| name.clone())
}

/// Applies a changed `keepVersions` without a rotation.
fn window(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let keep = snapshot.ring.keep;
    let states = ledger.versions.iter().map(Version::state);
    let moves = !snapshot.ring.suspend && !states.eq(ledger.window(keep));
    moves.then_some(Change::Window { keep })
}
