//! The rings that have revoked a key and have yet to say that Kyverno has let go of it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::lock::Mutex;

/// After this a ring is as the others: who cannot say it by then has another trouble, and
/// would hold up those that revoke after it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those whose revocation this process has written. Somebody waits for the word that the key
/// is out, and all rings may rotate meanwhile: so what Kyverno says of such a ring is urgent.
#[derive(Debug, Default)]
pub struct Revoking(Mutex<HashMap<String, Instant>>);

impl Revoking {
    /// A ring's revocation is about to be in its ledger.
    pub fn begin(&self, ring: &str) {
        let (mut rings, now) = (self.0.lock(), Instant::now());
        rings.retain(|_, since| now.duration_since(*since) < PATIENCE);
        rings.insert(ring.to_owned(), now);
    }

    /// Whether a ring has yet to say so.
    #[must_use]
    pub fn waits(&self, ring: &str) -> bool {
        self.0.lock().get(ring).is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// Whether any ring has.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.lock().values().any(|since| since.elapsed() < PATIENCE)
    }

    /// It has, or is gone.
    pub fn end(&self, ring: &str) {
        self.0.lock().remove(ring);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_is_urgent_for_ever() {
        let revoking = Revoking::default();
        ["said", "silent"].iter().for_each(|ring| revoking.begin(ring));
        revoking.end("said");
        assert!(!revoking.waits("said") && revoking.waits("silent") && revoking.is_any());
        tokio::time::advance(PATIENCE).await;
        assert!(!revoking.waits("silent") && !revoking.is_any());
        revoking.begin("next");
        assert_eq!(revoking.0.lock().len(), 1, "what is over takes up nothing");
    }
}
