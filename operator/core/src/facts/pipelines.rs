//! What the pipelines hold, or may hold.

use crate::{
    ledger::{Ledger, PipelineRef},
    snapshot::{PipelineFound, Snapshot},
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
