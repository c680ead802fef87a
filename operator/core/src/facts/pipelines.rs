//! What the pipelines hold, or may hold.

use crate::{
    ledger::{Ledger, PipelineRef, Version},
    snapshot::{Layout, PipelineFound, Snapshot},
};

/// Whether nobody can say what a pipeline's Secret holds, because we may not
/// look or could not.
pub(crate) fn is_out_of_reach(snapshot: &Snapshot, pipeline: &PipelineRef) -> bool {
    matches!(
        snapshot.pipelines.get(pipeline),
        Some(PipelineFound::Forbidden | PipelineFound::Failed(_)) | None
    )
}

/// The pipelines of the spec that keep the pending version from signing. One
/// out of reach may hold an older key only if it ever received one. In a
/// namespace that is being deleted nothing new runs, and its owner's consent may
/// be gone for good, so it keeps nothing from signing.
pub(super) fn holding_back<'a>(snapshot: &'a Snapshot, ledger: &Ledger) -> Vec<&'a PipelineRef> {
    let Some(waiting) = ledger.pending() else { return Vec::new() };
    let holds_back = |pipeline: &&PipelineRef| match snapshot.pipelines.get(*pipeline) {
        Some(PipelineFound::Ours { holds, .. }) => *holds != Some(waiting.number),
        _ => is_out_of_reach(snapshot, pipeline) && ledger.publications.contains(pipeline),
    };
    let stays = |pipeline: &&PipelineRef| !snapshot.is_ending(pipeline);
    snapshot.ring.pipelines.keys().filter(stays).filter(holds_back).collect()
}

/// The version that the pipelines should hold: the pending one once Kyverno
/// has accepted it, until then the current one. The ledger alone decides, so
/// that two replicas never write two versions.
pub(crate) fn target(ledger: &Ledger) -> Option<&Version> {
    ledger.pending().filter(|v| v.acknowledged_at().is_some()).or_else(|| ledger.current())
}

/// Whether a Secret of ours has to be written.
pub(crate) fn is_stale(
    snapshot: &Snapshot,
    ledger: &Ledger,
    target: &Version,
    wanted: Layout,
    found: &PipelineFound,
) -> bool {
    let PipelineFound::Ours { holds, layout, intact, .. } = found else { return false };
    let held = holds.and_then(|number| ledger.by_number(number));
    // A suspended ring mends what is broken and switches nothing.
    let keeps = snapshot.ring.suspend && held.is_some_and(|v| v.state().is_accepted());
    let newer = held.is_some_and(|v| v.number > target.number && v.state().is_accepted());
    let is_target = *holds == Some(target.number);
    let sound = *layout == Some(wanted) && *intact;
    let right = sound && (is_target || keeps);
    !right && !newer
}

/// Whether a Secret of ours has to be written, or will have to be, and cannot be
/// changed by anybody.
pub(crate) fn is_in_the_way(snapshot: &Snapshot, ledger: &Ledger, pipeline: &PipelineRef) -> bool {
    let fixed = |found: &&PipelineFound| matches!(found, PipelineFound::Ours { fixed: true, .. });
    let found = snapshot.pipelines.get(pipeline).filter(fixed);
    let next = ledger.pending().filter(|v| !v.is_spare()).or_else(|| ledger.current());
    let stale = found.zip(snapshot.ring.pipelines.get(pipeline)).zip(next);
    stale.is_some_and(|((found, wanted), next)| is_stale(snapshot, ledger, next, *wanted, found))
}
