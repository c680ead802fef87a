//! Which pipeline Secrets to write or delete, and when the version that waits
//! becomes current.

use std::collections::BTreeSet;

use super::{Action, Enforcement, enforcement, mint};
use crate::{
    ledger::{Change, Ledger, PipelineRef, State, Version, token_hash},
    snapshot::{Layout, PipelineFound, Snapshot},
};

/// Brings the pipelines to the version they should hold, then activates it.
pub(super) fn steps(snapshot: &Snapshot, ledger: &Ledger) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some(target) = target(snapshot, ledger) {
        let stale: Vec<_> = stale(snapshot, ledger, target).collect();
        let add: BTreeSet<_> = stale
            .iter()
            .map(|(pipeline, ..)| (*pipeline).clone())
            .filter(|pipeline| !ledger.publications.contains(pipeline))
            .collect();
        if !add.is_empty() {
            // Written down before the Secrets are: a crash in between must
            // not leave a key that nobody remembers.
            return vec![Action::Commit(Change::Publications { add, strike: BTreeSet::new() })];
        }
        actions.extend(stale.into_iter().map(|(pipeline, layout, drifted)| Action::WriteSecret {
            pipeline: pipeline.clone(),
            layout,
            version: target.number,
            drifted,
        }));
        let waits = target.state != State::Current;
        if waits && holding_back(snapshot, ledger, target).next().is_none() {
            let asked = mint::asked(snapshot, ledger).filter(|_| target.standby);
            actions.push(Action::Commit(Change::Activate {
                version: target.number,
                token: asked.map(token_hash),
                keep: snapshot.ring.keep,
            }));
            return actions;
        }
    } else {
        actions.extend(revoked_keys(snapshot, ledger).map(Action::DeleteSecret));
    }
    if let Some(version) = stands_by(snapshot, ledger) {
        actions.push(Action::Commit(Change::Stand { version }));
        return actions;
    }
    let (deletions, strike) =
        unpublish(snapshot, ledger, |pipeline| !snapshot.ring.pipelines.contains_key(pipeline));
    actions.extend(deletions);
    if !strike.is_empty() {
        actions.push(Action::Commit(Change::Publications { add: BTreeSet::new(), strike }));
    }
    actions
}

/// The version that the pipelines should hold: the one that waits once
/// Kyverno accepts it and it is wanted, until then the current one.
#[must_use]
pub fn target<'a>(snapshot: &Snapshot, ledger: &'a Ledger) -> Option<&'a Version> {
    let current = ledger.current();
    // One that stands by was acknowledged before, and is told so by its state.
    let ready =
        ledger.standby().or_else(|| ledger.pending().filter(|_| has_soaked(snapshot, ledger)));
    let wanted = |v: &&Version| {
        !v.standby
            || current.is_none()
            || mint::is_due(snapshot, ledger)
            || may_be_held(snapshot, ledger, v)
    };
    ready.filter(wanted).filter(|_| !snapshot.ring.suspend).or(current)
}

/// Whether Kyverno has accepted the pending version for as long as it has to.
/// One that replaces a revoked version does not wait for the soak.
fn has_soaked(snapshot: &Snapshot, ledger: &Ledger) -> bool {
    matches!(
        enforcement::of(snapshot, ledger),
        Enforcement::Acknowledged(held) if held >= snapshot.ring.soak || ledger.lost_its_signer()
    )
}

/// The pending version that may stand by from now on.
fn stands_by(snapshot: &Snapshot, ledger: &Ledger) -> Option<u32> {
    let pending = ledger.pending().filter(|v| v.standby)?;
    let stands = has_soaked(snapshot, ledger) && !snapshot.ring.suspend;
    stands.then_some(pending.number)
}

/// Whether a pipeline holds a version that was to stand by, or may. Its switch
/// has begun then, and has to be finished.
pub(super) fn may_be_held(snapshot: &Snapshot, ledger: &Ledger, version: &Version) -> bool {
    ledger.publications.iter().any(|pipeline| match snapshot.pipelines.get(pipeline) {
        Some(PipelineFound::Ours { fingerprint, .. }) => *fingerprint == version.fingerprint,
        _ => false,
    })
}

/// The Secrets that hold a revoked key and cannot be given another one yet.
fn revoked_keys<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
) -> impl Iterator<Item = PipelineRef> + 'a {
    let revoked = |fingerprint: &str| {
        ledger.by_fingerprint(fingerprint).is_some_and(|v| v.state == State::Revoked)
    };
    ledger
        .publications
        .iter()
        .filter(|p| snapshot.ring.pipelines.contains_key(p))
        .filter(move |pipeline| {
            matches!(
                snapshot.pipelines.get(*pipeline),
                Some(PipelineFound::Ours { fingerprint, .. }) if revoked(fingerprint)
            )
        })
        .cloned()
}

/// The pipelines that do not hold the target although we may write them, and
/// whether somebody else had changed what they hold.
fn stale<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    target: &'a Version,
) -> impl Iterator<Item = (&'a PipelineRef, Layout, bool)> {
    snapshot.ring.pipelines.iter().filter_map(move |(pipeline, wanted)| {
        match snapshot.pipelines.get(pipeline)? {
            PipelineFound::Absent => {
                let drifted = snapshot.reported.published.contains(pipeline);
                Some((pipeline, *wanted, drifted))
            }
            PipelineFound::Ours { fingerprint, layout, intact } => {
                let newer = ledger
                    .by_fingerprint(fingerprint)
                    .is_some_and(|v| v.number > target.number && v.state.is_accepted());
                let right =
                    *fingerprint == target.fingerprint && *layout == Some(*wanted) && *intact;
                (!right && !newer).then_some((pipeline, *wanted, !intact))
            }
            _ => None,
        }
    })
}

/// The pipelines that hold, or may hold, another version than `waiting`.
pub fn holding_back<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    waiting: &'a Version,
) -> impl Iterator<Item = &'a PipelineRef> {
    snapshot.ring.pipelines.keys().filter(move |pipeline| match snapshot.pipelines.get(*pipeline) {
        Some(PipelineFound::Ours { fingerprint, .. }) => *fingerprint != waiting.fingerprint,
        Some(PipelineFound::Forbidden | PipelineFound::Failed(_)) | None => {
            ledger.publications.contains(*pipeline)
        }
        Some(_) => false,
    })
}

/// Deletes the published Secrets that `unwanted` names, and strikes out those
/// that were seen to be gone.
pub(super) fn unpublish(
    snapshot: &Snapshot,
    ledger: &Ledger,
    unwanted: impl Fn(&PipelineRef) -> bool,
) -> (Vec<Action>, BTreeSet<PipelineRef>) {
    let mut deletions = Vec::new();
    let mut strike = BTreeSet::new();
    for pipeline in ledger.publications.iter().filter(|p| unwanted(p)) {
        match snapshot.pipelines.get(pipeline) {
            Some(PipelineFound::Ours { .. }) => {
                deletions.push(Action::DeleteSecret(pipeline.clone()));
            }
            Some(
                PipelineFound::Absent
                | PipelineFound::NoNamespace
                | PipelineFound::Foreign
                | PipelineFound::OursUnknownKey,
            ) => {
                strike.insert(pipeline.clone());
            }
            Some(PipelineFound::Forbidden | PipelineFound::Failed(_)) | None => {}
        }
    }
    (deletions, strike)
}
