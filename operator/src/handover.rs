//! Private keys between the commit whose answer brings them and the pass that gives them to
//! the pipelines, which follows at once.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{keys::KeyPair, lock::Mutex};

/// No key is kept for longer.
const KEPT: Duration = Duration::from_secs(5);

/// A version's key pair that is given to one pipeline after the other.
pub(crate) struct HeldKey {
    pub(crate) version: u32,
    pub(crate) pair: KeyPair,
    /// When it was last seen that the ledger is as it was observed.
    pub(crate) seen_at: Instant,
}

/// The keys of rings that are about to switch their pipelines.
#[derive(Default)]
pub struct Handover(Mutex<HashMap<String, Offer>>);

struct Offer {
    /// The resourceVersion of the ledger that has it.
    ledger: String,
    key: HeldKey,
}

impl Handover {
    /// Keeps a ring's key for a moment: whoever looks next takes it, or nobody does.
    pub(crate) fn offer(self: &Arc<Self>, ring: &str, ledger: String, key: HeldKey) {
        self.0.lock().insert(ring.to_owned(), Offer { ledger, key });
        let offers = Arc::clone(self);
        tokio::spawn(async move {
            sleep(KEPT).await;
            offers.0.lock().retain(|_, offer| offer.key.seen_at.elapsed() < KEPT);
        });
    }

    /// The key that is kept for a ring, if its ledger is the one that has it.
    pub(crate) fn take(&self, ring: &str, ledger: &str) -> Option<HeldKey> {
        let offer = self.0.lock().remove(ring)?;
        (offer.ledger == ledger).then_some(offer.key)
    }
}

/// Without the keys.
impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HeldKey {
        let (none, fingerprint) = (Vec::<u8>::new, "SHA256:1".parse().unwrap());
        let pair = KeyPair::stored(none(), none(), String::new(), fingerprint);
        HeldKey { version: 2, pair, seen_at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_taken_once_of_the_ledger_that_has_it_and_kept_for_a_moment() {
        let offers = Arc::new(Handover::default());
        offers.offer("shop", "7".to_owned(), key());
        assert!(offers.take("pay", "7").is_none());
        assert_eq!(offers.take("shop", "7").map(|key| key.version), Some(2));
        assert!(offers.take("shop", "7").is_none());
        offers.offer("shop", "7".to_owned(), key());
        assert!(offers.take("shop", "8").is_none());
        assert!(offers.0.lock().is_empty(), "it is of no use any more");
        offers.offer("shop", "8".to_owned(), key());
        sleep(KEPT * 2).await;
        assert!(offers.0.lock().is_empty());
        assert_eq!(format!("{offers:?}"), "Handover { .. }");
    }
}
