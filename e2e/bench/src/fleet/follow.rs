//! What becomes of all rings, as their statuses say it.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus};

/// The reason of `PolicyEnforced` by which Kyverno does not answer: that is not so, since
/// it runs all the time, however slow it is.
const UNTRUE: &str = "GateMute";

/// What was seen.
#[derive(Debug, Default)]
pub struct Followed {
    /// When each ring had become what was waited for, in the order in which they did.
    pub times: Vec<Duration>,
    /// How often a status was written anew.
    pub changes: usize,
    /// Of those, how many said that Kyverno does not answer.
    pub untrue: usize,
    /// How many rings had not become so in time.
    pub missing: usize,
}

/// Whether a condition of a ring is True, for its present generation.
#[must_use]
pub fn is_true(ring: &SigningKeyRing, kind: &str) -> bool {
    let conditions = ring.status.iter().flat_map(|status| &status.conditions);
    let mut of_kind = conditions.filter(|condition| condition.type_ == kind);
    let generation = ring.metadata.generation;
    of_kind.any(|c| c.status == "True" && c.observed_generation == generation)
}

/// Waits until all rings have become something.
///
/// # Errors
/// If they cannot be watched.
pub async fn follow(
    client: &Client,
    rings: usize,
    patience: Duration,
    start: Instant,
    reached: impl Fn(&SigningKeyRing) -> bool,
) -> Result<Followed> {
    let api: Api<SigningKeyRing> = Api::all(client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default().page_size(500)));
    let mut followed = Followed::default();
    let mut there = BTreeSet::new();
    let mut said = BTreeMap::new();
    let end = tokio::time::Instant::from_std(start + patience);
    while there.len() < rings {
        let Ok(event) = tokio::time::timeout_at(end, events.next()).await else { break };
        let event = event.context("the watch of rings ended")?;
        let (Ok(Event::Apply(ring)) | Ok(Event::InitApply(ring))) = event else { continue };
        let name = ring.name_any();
        // A ring changes otherwise, too: its finalizer, its annotations.
        let before = said.insert(name.clone(), ring.status.clone());
        if before.as_ref().is_some_and(|before| *before != ring.status) {
            followed.changes += 1;
        }
        let was_untrue = before.flatten().is_some_and(|before| is_untrue(&before));
        if !was_untrue && ring.status.as_ref().is_some_and(is_untrue) {
            followed.untrue += 1;
        }
        if reached(&ring) && there.insert(name) {
            followed.times.push(start.elapsed());
        }
    }
    followed.missing = rings - there.len();
    Ok(followed)
}

/// Whether it says of its policy what is not so.
fn is_untrue(status: &SigningKeyRingStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|said| said.type_ == "PolicyEnforced" && said.reason == UNTRUE)
}
