//! The rings that have revoked a key and have yet to say that Kyverno has let go of it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::lock::Mutex;

/// After this a ring is as the others: who cannot say it by then has another trouble, and
/// would hold up those that revoke after it.
const PATIENCE: Duration = Duration::from_secs(60);

/// For so long others make room for it.
const ROOM: Duration = Duration::from_secs(10);

/// Those whose revocation this process has written. Somebody waits for the word that the key
/// is out, and all rings may rotate meanwhile: so what Kyverno says of such a ring is urgent.
#[derive(Debug, Default)]
pub struct Revoking(Mutex<HashMap<String, Instant>>);

impl Revoking {
    /// A ring's revocation is about to be in its ledger: for the first time, or once more,
    /// because that failed, which is no reason to begin anew.
    pub fn begin(&self, ring: &str) {
        self.0.lock().entry(ring.to_owned()).or_insert_with(Instant::now);
    }

    /// Whether a ring has yet to say so.
    #[must_use]
    pub fn waits(&self, ring: &str) -> bool {
        self.0.lock().get(ring).is_some_and(|since| since.elapsed() < PATIENCE)
    }

    /// Whether there is one for which others are to make room.
    #[must_use]
    pub fn needs_room(&self) -> bool {
        self.0.lock().values().any(|since| since.elapsed() < ROOM)
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
        assert!(!revoking.waits("said") && revoking.waits("silent") && revoking.needs_room());
        tokio::time::advance(ROOM).await;
        revoking.begin("silent");
        assert!(revoking.waits("silent") && !revoking.needs_room());
        tokio::time::advance(PATIENCE - ROOM).await;
        revoking.begin("silent");
        assert!(!revoking.waits("silent"), "it fails again and again");
        revoking.end("silent");
        revoking.begin("silent");
        assert!(revoking.waits("silent") && revoking.needs_room());
        revoking.end("silent");
        assert!(revoking.0.lock().is_empty(), "what is over takes up nothing");
    }
}
