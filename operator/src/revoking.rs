//! The rings that have revoked a key and have yet to say that Kyverno has let go of it.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Those of which this process has written the revocation. Somebody waits for the word that
/// the key is out, and all rings may rotate meanwhile: so what Kyverno says of such a ring
/// is urgent, too.
#[derive(Debug, Default)]
pub struct Revoking(Mutex<HashSet<String>>);

impl Revoking {
    /// A ring's revocation is in its ledger.
    pub fn begin(&self, ring: &str) {
        self.lock().insert(ring.to_owned());
    }

    /// Whether a ring has yet to say so.
    #[must_use]
    pub fn waits(&self, ring: &str) -> bool {
        self.lock().contains(ring)
    }

    /// It has, or is gone.
    pub fn end(&self, ring: &str) {
        self.lock().remove(ring);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
