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
pub struct Contents(Mutex<ByName>);

/// By namespace and name, with the resourceVersion.
type ByName = HashMap<Box<str>, (Box<str>, Arc<Content>)>;

impl Contents {
    /// What a Secret of this resourceVersion holds, if it was seen.
    pub(crate) fn get(&self, pipeline: &PipelineRef, version: &str) -> Option<Arc<Content>> {
        let contents = self.lock();
        let (seen, content) = contents.get(&*key(pipeline))?;
        (**seen == *version).then(|| Arc::clone(content))
    }

    /// Takes in what was read, or written.
    pub(crate) fn put(&self, pipeline: &PipelineRef, version: String, content: Arc<Content>) {
        self.lock().insert(key(pipeline), (version.into(), content));
    }

    /// Forgets a Secret that is gone.
    pub(crate) fn forget(&self, pipeline: &PipelineRef) {
        self.lock().remove(&*key(pipeline));
    }

    fn lock(&self) -> MutexGuard<'_, ByName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neither part has a slash in it.
fn key(pipeline: &PipelineRef) -> Box<str> {
    pipeline.to_string().into()
}
