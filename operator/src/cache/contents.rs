//! What pipeline Secrets were last seen to hold.

use std::{collections::HashMap, sync::Arc};

use signingkeyring_core::ledger::PipelineRef;

use crate::{lock::Mutex, secrets::Content};

/// What pipeline Secrets were last seen to hold, each with the resourceVersion
/// that it was seen in: as long as a Secret has that one, its metadata are enough.
#[derive(Debug, Default)]
pub struct Contents(Mutex<ByName>);

/// By namespace and name.
type ByName = HashMap<Box<str>, Entry>;

#[derive(Debug)]
struct Entry {
    version: Box<str>,
    content: Arc<Content>,
    /// Whether its annotations say just that of it which the operator writes.
    is_intact: bool,
}

impl Contents {
    /// What a Secret of this resourceVersion holds, if it was seen.
    pub(crate) fn get(&self, pipeline: &PipelineRef, version: &str) -> Option<Arc<Content>> {
        let contents = self.0.lock();
        let seen = contents.get(&*key(pipeline))?;
        (*seen.version == *version).then(|| Arc::clone(&seen.content))
    }

    /// Whether anything is known of a Secret.
    pub(crate) fn knows(&self, pipeline: &PipelineRef) -> bool {
        self.0.lock().contains_key(&*key(pipeline))
    }

    /// What a Secret holds, if it was just as the operator writes it when it was last seen,
    /// and the resourceVersion that it had.
    pub(crate) fn intact(&self, pipeline: &PipelineRef) -> Option<(String, Arc<Content>)> {
        let contents = self.0.lock();
        let seen = contents.get(&*key(pipeline)).filter(|seen| seen.is_intact)?;
        Some((seen.version.to_string(), Arc::clone(&seen.content)))
    }

    /// Takes in what was read.
    pub(crate) fn put(&self, pipeline: &PipelineRef, version: String, content: Arc<Content>) {
        let entry = Entry { version: version.into(), content, is_intact: false };
        self.0.lock().insert(key(pipeline), entry);
    }

    /// Takes in whether a Secret of this resourceVersion is just as the operator writes it.
    pub(crate) fn set_intact(&self, pipeline: &PipelineRef, version: &str, is_intact: bool) {
        let mut contents = self.0.lock();
        let seen = contents.get_mut(&*key(pipeline));
        if let Some(seen) = seen.filter(|seen| *seen.version == *version) {
            seen.is_intact = is_intact;
        }
    }

    /// Forgets a Secret that is gone.
    pub(crate) fn forget(&self, pipeline: &PipelineRef) {
        self.0.lock().remove(&*key(pipeline));
    }
}

/// Neither part has a slash in it.
fn key(pipeline: &PipelineRef) -> Box<str> {
    pipeline.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_for_intact_in_the_state_in_which_it_was_seen_to_be() {
        let contents = Contents::default();
        let pipeline = PipelineRef { namespace: "ci".to_owned(), name: "signing".to_owned() };
        let put = |version: &str| contents.put(&pipeline, version.to_owned(), Arc::default());
        let intact = || contents.intact(&pipeline).map(|(version, _)| version);
        put("1");
        assert_eq!(intact(), None, "its annotations were not looked at");
        contents.set_intact(&pipeline, "1", true);
        assert_eq!(intact().as_deref(), Some("1"));
        put("2");
        contents.set_intact(&pipeline, "1", true);
        assert_eq!(intact(), None, "it has changed");
        contents.set_intact(&pipeline, "2", true);
        contents.set_intact(&pipeline, "2", false);
        assert_eq!(intact(), None);
    }
}
