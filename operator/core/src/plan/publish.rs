//! Which pipeline Secrets to write or delete, and when the version that waits
//! becomes current.

use std::{collections::BTreeSet, time::Duration};

use super::Action;
use crate::{
    facts::{Enforcement, Facts, is_out_of_reach, is_stale, target},
    ledger::{Change, Ledger, PipelineRef, State, Version},
    snapshot::{Layout, PipelineFound, Snapshot},
};

/// So long an acknowledged version may take to get to the pipelines before a rule that is
/// to move does not wait for it any more: they may refuse it for good.
const FIRST_FOR: Duration = Duration::from_secs(60);

/// Whether a version that waits goes before the next step of a move: one that Kyverno
/// accepts, for the soak, and one that was acknowledged, while it gets to the pipelines.
pub(super) fn goes_first(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> bool {
    let Some(pending) = ledger.pending().filter(|_| !snapshot.ring.suspend) else { return false };
    match pending.acknowledged_at() {
        None => {
            // A policy that nobody can be asked about has to be left first: what stands there
            // knows no newer key.
            let there_is_gone =
                matches!(facts.enforcement_there, Some(Enforcement::KyvernoMissing(_)));
            matches!(facts.enforcement, Enforcement::Acknowledged(_))
                && !is_held_up(facts)
                && !there_is_gone
        }
        Some(at) => {
            let is_recent = snapshot.now.duration_since(at).unsigned_abs() < FIRST_FOR;
            is_recent && !steps(snapshot, facts, ledger).is_empty()
        }
    }
}

/// Brings the pipelines to the version they should hold, then activates it.
pub(super) fn steps(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Vec<Action> {
    if let Some(version) = acknowledged(snapshot, facts, ledger) {
        // Written down before any pipeline is switched: a replica that has
        // heard less must not put the older key back meanwhile.
        let add = match version.is_spare() {
            true => BTreeSet::new(),
            false => unlisted(snapshot, ledger, version),
        };
        return vec![Action::Commit(Change::Acknowledge { version: version.number, add })];
    }
    let mut actions = Vec::new();
    if let Some(target) = target(ledger) {
        let add = unlisted(snapshot, ledger, target);
        if !add.is_empty() {
            return vec![Action::Commit(Change::Publications { add, strike: BTreeSet::new() })];
        }
        let stale = stale(snapshot, ledger, target);
        actions.extend(stale.map(|(pipeline, layout, drifted)| Action::WriteSecret {
            pipeline: pipeline.clone(),
            layout,
            version: target.number,
            drifted,
        }));
        let waits = target.state() != State::Current && !snapshot.ring.suspend;
        if waits && facts.holding_back.is_empty() {
            let keep = snapshot.ring.keep;
            actions.push(Action::Commit(Change::Activate { version: target.number, keep }));
            return actions;
        }
    } else {
        actions.extend(revoked_keys(snapshot, ledger).map(Action::DeleteSecret));
    }
    let unwanted = |pipeline: &PipelineRef| !snapshot.ring.pipelines.contains_key(pipeline);
    let (deletions, strike) =
        unpublish(snapshot, ledger, |p| unwanted(p) && ledger.publications.is_leaving(p));
    actions.extend(deletions);
    if !strike.is_empty() {
        actions.push(Action::Commit(Change::Publications { add: BTreeSet::new(), strike }));
        return actions;
    }
    let withdraw: BTreeSet<_> = ledger
        .publications
        .iter()
        .filter(|p| unwanted(p) && !ledger.publications.is_leaving(p))
        .cloned()
        .collect();
    if !withdraw.is_empty() {
        actions.push(Action::Commit(Change::Withdraw(withdraw)));
    }
    actions
}

/// The pending version, if Kyverno has by now accepted it for as long as it
/// has to and the ledger does not say so yet.
fn acknowledged<'a>(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    ledger: &'a Ledger,
) -> Option<&'a Version> {
    let pending = ledger.pending().filter(|v| v.acknowledged_at().is_none())?;
    let may_sign = facts.soaked && !is_held_up(facts) && !snapshot.ring.suspend;
    may_sign.then_some(pending)
}

/// The pipelines that are to be given a version and that the ledger does not list. They are
/// written down before the Secrets are: a crash in between must not leave a key that nobody
/// remembers.
fn unlisted(snapshot: &Snapshot, ledger: &Ledger, target: &Version) -> BTreeSet<PipelineRef> {
    stale(snapshot, ledger, target)
        .map(|(pipeline, ..)| pipeline)
        .filter(|pipeline| !ledger.publications.contains(pipeline))
        .chain(snapshot.ring.pipelines.keys().filter(|p| ledger.publications.is_leaving(p)))
        .cloned()
        .collect()
}

/// Whether a policy that has nothing to do with the ring any more would refuse what a new
/// key signs.
const fn is_held_up(facts: &Facts<'_>) -> bool {
    facts.left_behind.is_some() || facts.covered.is_some()
}

/// The Secrets that hold a revoked key and cannot be given another one yet.
fn revoked_keys<'a>(
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
) -> impl Iterator<Item = PipelineRef> + 'a {
    ledger
        .publications
        .iter()
        .filter(|p| snapshot.ring.pipelines.contains_key(p))
        .filter(move |pipeline| {
            // Of a version that is accepted it is kept until another one signs.
            matches!(
                snapshot.pipelines.get(*pipeline),
                Some(PipelineFound::Ours { holds: None, leaving: false, .. })
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
            PipelineFound::Absent if snapshot.is_ending(pipeline) => None,
            PipelineFound::Absent => {
                let drifted = snapshot.reported.published.contains(pipeline);
                Some((pipeline, *wanted, drifted))
            }
            PipelineFound::Ours { fixed: true, .. } => None,
            found @ PipelineFound::Ours { intact, .. } => {
                let stale = is_stale(snapshot, ledger, target, *wanted, found);
                stale.then_some((pipeline, *wanted, !intact))
            }
            _ => None,
        }
    })
}

/// Deletes the published Secrets that `unwanted` names, and strikes out those
/// that were seen to be gone or to hold no key whose signatures are accepted.
pub(super) fn unpublish(
    snapshot: &Snapshot,
    ledger: &Ledger,
    unwanted: impl Fn(&PipelineRef) -> bool,
) -> (Vec<Action>, BTreeSet<PipelineRef>) {
    let mut deletions = Vec::new();
    let mut strike = BTreeSet::new();
    for pipeline in ledger.publications.iter().filter(|p| unwanted(p)) {
        // Of a ring that is on its way out no key is accepted, and what is left
        // in a namespace that is being deleted goes with it.
        let goes_anyway = ledger.removed && snapshot.is_ending(pipeline);
        match snapshot.pipelines.get(pipeline) {
            _ if is_out_of_reach(snapshot, pipeline) && !goes_anyway => {}
            Some(PipelineFound::Ours { leaving: false, .. }) => {
                deletions.push(Action::DeleteSecret(pipeline.clone()));
            }
            Some(PipelineFound::Ours { leaving: true, .. }) if goes_anyway => {
                strike.insert(pipeline.clone());
            }
            Some(PipelineFound::Ours { leaving: true, .. }) => {}
            // Of a ring that is on its way out nothing is accepted any more.
            Some(
                PipelineFound::Foreign { holds: Some(_), .. }
                | PipelineFound::OursUnknownKey { holds: Some(_) },
            ) if !ledger.removed => {}
            _ => {
                strike.insert(pipeline.clone());
            }
        }
    }
    (deletions, strike)
}
