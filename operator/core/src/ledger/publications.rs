//! The Secrets that hold a private key of a ring, or may.

use std::collections::BTreeMap;

use super::PipelineRef;

/// Secrets that hold a private key of a ring, or may. A Secret is written only
/// while it is held, and struck out only while it is leaving, so that of two
/// replicas that disagree one finds the ledger changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Publications(BTreeMap<PipelineRef, Publication>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Publication {
    Held,
    /// It is to be deleted.
    Leaving,
}

impl Publications {
    /// Every one of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &PipelineRef> {
        self.0.keys()
    }

    /// Those that are to be deleted.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &PipelineRef> {
        self.iter().filter(|pipeline| self.is_leaving(pipeline))
    }

    /// Whether a Secret is among them.
    #[must_use]
    pub fn contains(&self, pipeline: &PipelineRef) -> bool {
        self.0.contains_key(pipeline)
    }

    /// Whether a Secret is among them and to be deleted.
    #[must_use]
    pub(crate) fn is_leaving(&self, pipeline: &PipelineRef) -> bool {
        self.0.get(pipeline) == Some(&Publication::Leaving)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes down a Secret that is about to be written.
    pub fn hold(&mut self, pipeline: PipelineRef) {
        self.0.insert(pipeline, Publication::Held);
    }

    /// Writes down a Secret that may hold a key; one that is leaving goes on to.
    pub(super) fn remember(&mut self, pipeline: PipelineRef) {
        self.0.entry(pipeline).or_insert(Publication::Held);
    }

    /// Marks a Secret as one that is to be deleted, if it is among them.
    pub(super) fn withdraw(&mut self, pipeline: &PipelineRef) {
        if let Some(publication) = self.0.get_mut(pipeline) {
            *publication = Publication::Leaving;
        }
    }

    /// Strikes out a Secret that was seen to be gone.
    pub(super) fn strike(&mut self, pipeline: &PipelineRef) {
        self.0.remove(pipeline);
    }
}
