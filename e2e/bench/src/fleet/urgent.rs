//! Keys that are revoked while all rings rotate: when the policy is stored that lacks
//! them, and when Kyverno has answered with that.

use std::{
    collections::BTreeMap,
    ops::Range,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde::Serialize;
use serde_json::json;
use signingkeyring_crds::{SigningKeyRing, VersionState};

use super::{AT_ONCE, Fleet, follow::is_true};
use crate::{asked::Quantiles, ledgers::ring_name};

/// How long it took, each time from when it was asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Urgent {
    /// Until the policy was stored, in ms.
    pub stored: Quantiles,
    /// Until Kyverno had answered with it, and the ring said so, in ms.
    pub answered: Quantiles,
}

/// The revocations of one version of some rings.
pub struct Revocations<'a> {
    fleet: &'a Fleet,
    rings: Range<usize>,
    version: u32,
    /// The keys that are revoked, by ring.
    keys: BTreeMap<String, String>,
    seen: Mutex<Seen>,
}

/// When what was seen, by ring.
#[derive(Default)]
struct Seen {
    asked: BTreeMap<String, Instant>,
    stored: BTreeMap<String, Instant>,
    answered: BTreeMap<String, Instant>,
}

impl<'a> Revocations<'a> {
    /// Looks which keys they are.
    ///
    /// # Errors
    /// If a ring cannot be read, or has no such version.
    pub async fn of(fleet: &'a Fleet, rings: Range<usize>, version: u32) -> Result<Self> {
        let api: Api<SigningKeyRing> = Api::all(fleet.client.clone());
        let mut keys = BTreeMap::new();
        for number in rings.clone() {
            let name = ring_name(number);
            let ring = api.get(&name).await?;
            let versions = ring.status.into_iter().flat_map(|status| status.versions);
            let mut named = versions.filter(|found| found.version == version);
            let found = named.next();
            let found = found.with_context(|| format!("ring {name} has no version {version}"))?;
            keys.insert(name, found.public_key.trim().to_owned());
        }
        Ok(Self { fleet, rings, version, keys, seen: Mutex::default() })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rings.len()
    }

    /// Asks for all of them at once.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub async fn ask(&self) -> Result<()> {
        let asked = stream::iter(self.rings.clone()).map(|ring| self.ask_for(ring));
        asked.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Asks for one after the other, each so long after the one before.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub async fn ask_each(&self, pause: Duration) -> Result<()> {
        let mut turns = tokio::time::interval(pause);
        for ring in self.rings.clone() {
            turns.tick().await;
            self.ask_for(ring).await?;
        }
        Ok(())
    }

    async fn ask_for(&self, ring: usize) -> Result<()> {
        let api: Api<SigningKeyRing> = Api::all(self.fleet.client.clone());
        let patch = json!({"spec": {"revoked": [{"version": self.version, "reason": "bench"}]}});
        let name = ring_name(ring);
        self.seen().asked.insert(name.clone(), Instant::now());
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Waits until no policy holds one of the keys any more.
    ///
    /// # Errors
    /// If the policies cannot be watched.
    pub async fn stored(&self, patience: Duration) -> Result<()> {
        let kind = self.fleet.arrangement.kind;
        let gvk = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
        let api: Api<DynamicObject> = Api::all_with(self.fleet.client.clone(), &resource);
        let mut events = pin!(watcher(api, watcher::Config::default().page_size(10)));
        let end = tokio::time::Instant::now() + patience;
        while self.seen().stored.len() < self.keys.len() {
            let Ok(event) = tokio::time::timeout_at(end, events.next()).await else { break };
            let event = event.context("the watch of policies ended")?;
            let (Ok(Event::Apply(policy)) | Ok(Event::InitApply(policy))) = event else { continue };
            let Some(spec) = policy.data.get("spec") else { continue };
            let (mut seen, now) = (self.seen(), Instant::now());
            for (ring, revoked) in &self.keys {
                let lacks = |keys: Vec<String>| keys.iter().all(|key| key.trim() != revoked);
                if seen.asked.contains_key(ring) && kind.keys(spec, ring).is_some_and(lacks) {
                    seen.stored.entry(ring.clone()).or_insert(now);
                }
            }
        }
        Ok(())
    }

    /// Whether a ring says that its key is not accepted any more. Notes when it said so first.
    pub fn is_applied(&self, ring: &SigningKeyRing) -> bool {
        let versions = ring.status.iter().flat_map(|status| &status.versions);
        let mut named = versions.filter(|version| version.version == self.version);
        let applied = named.any(|version| version.state == VersionState::Revoked)
            && is_true(ring, "RevocationsApplied");
        if applied {
            self.seen().answered.entry(ring.name_any()).or_insert_with(Instant::now);
        }
        applied
    }

    /// What was seen.
    #[must_use]
    pub fn times(&self) -> Urgent {
        let seen = self.seen();
        let since_asked = |at: &BTreeMap<String, Instant>| {
            let times = at.iter().filter_map(|(ring, at)| Some(*at - *seen.asked.get(ring)?));
            Quantiles::of(times.collect())
        };
        Urgent { stored: since_asked(&seen.stored), answered: since_asked(&seen.answered) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
