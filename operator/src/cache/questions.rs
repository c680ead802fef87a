//! Whether the cluster serves the kind by which Kyverno is asked.

use crate::lock::RwLock;

/// The UID and generation of the CRD of the gate's questions while the cluster serves it;
/// otherwise why that is not known.
#[derive(Debug)]
pub struct Questions(RwLock<Result<String, String>>);

impl Default for Questions {
    fn default() -> Self {
        Self(RwLock::new(Err("it has not been looked for yet".to_owned())))
    }
}

impl Questions {
    /// The CRD's UID.
    #[must_use]
    pub fn uid(&self) -> Option<String> {
        self.get().ok()
    }

    /// Why the kind is not known to be served, unless it is.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.get().err()
    }

    /// Takes in what was seen; returns whether that is news.
    pub fn set(&self, seen: Result<String, String>) -> bool {
        let mut state = self.0.write();
        let news = *state != seen;
        *state = seen;
        news
    }

    fn get(&self) -> Result<String, String> {
        self.0.read().clone()
    }
}
