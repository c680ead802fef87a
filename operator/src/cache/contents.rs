//! What pipeline Secrets were last seen to hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signingkeyring_core::ledger::PipelineRef;

use crate::secrets::Content;

/// What pipeline Secrets were last seen to hold, each with the resourceVersion
/// that it was seen in: as long as a Secret has that one, its metadata are enough.
#[derive(Debug, Default)]
pub struct Contents(Mutex<HashMap<PipelineRef, (String, Arc<Content>)>>);

impl Contents {
    /// What a Secret of this resourceVersion holds, if it was seen.
    pub(crate) fn get(&self, pipeline: &PipelineRef, version: &str) -> Option<Arc<Content>> {
        let contents = self.lock();
        let (seen, content) = contents.get(pipeline)?;
        (seen == version).then(|| Arc::clone(content))
    }

    /// Takes in what was read, or written.
    pub(crate) fn put(&self, pipeline: &PipelineRef, version: String, content: Arc<Content>) {
        self.lock().insert(pipeline.clone(), (version, content));
    }

    /// Forgets a Secret that is gone.
    pub(crate) fn forget(&self, pipeline: &PipelineRef) {
        self.lock().remove(pipeline);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PipelineRef, (String, Arc<Content>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
