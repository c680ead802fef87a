//! Follows the cluster: keeps the cache and wakes whoever a change concerns.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, DynamicObject, ObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use signingkeyring_core::policy::cluster_policy::rules_of;
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use tokio::sync::Barrier;
use tracing::{info, warn};

use crate::{
    cache::LedgerRow,
    context::Context,
    error::is_code,
    kyverno::{api as policies, is_ours, marks},
};

mod kyverno;
mod ledgers;
mod lists;
mod namespaces;
mod questions;

pub use ledgers::refresh;

/// The writing ends of the cache's stores.
pub struct Writers {
    /// Of the rings.
    pub rings: Writer<DeserializeGuard<SigningKeyRing>>,
    /// Of the exclusion lists.
    pub lists: Writer<DeserializeGuard<ImageExclusionList>>,
    /// Of the policies.
    pub policies: Writer<DynamicObject>,
}

/// How many watches have to list once before anything is decided.
pub const WATCHES: usize = 6;

/// Follows the cluster for ever. `listed` is passed when all have listed once.
pub async fn run(context: &Context, writers: Writers, listed: Arc<Barrier>) {
    futures::join!(
        watch_rings(context, writers.rings, &listed),
        lists::watch_lists(context, writers.lists, &listed),
        watch_policies(context, writers.policies, &listed),
        ledgers::watch_ledgers(context, &listed),
        namespaces::watch_namespaces(context, &listed),
        questions::watch_questions(context, &listed),
        kyverno::watch_kyverno(context),
    );
}

/// Wakes everything: after a list, what was missed is not known.
pub fn wake_all(context: &Context) {
    for ring in context.cache.ring_names() {
        context.rings.wake(&ring);
    }
    wake_all_policies(context);
}

fn wake_all_policies(context: &Context) {
    context.wake_unknown();
    for policy in context.cache.ledgers.policies() {
        context.policies.wake(&policy);
    }
    for (policy, _) in context.cache.our_policies() {
        context.policies.wake(&policy);
    }
}

/// Reports the first complete list of a watch to the barrier.
struct InitialList(Option<Arc<Barrier>>);

impl InitialList {
    fn new(listed: &Arc<Barrier>) -> Self {
        Self(Some(Arc::clone(listed)))
    }

    /// Reports a complete list, without waiting for the other watches. Returns
    /// whether this was the first.
    fn complete(&mut self) -> bool {
        let Some(barrier) = self.0.take() else { return false };
        tokio::spawn(async move { barrier.wait().await });
        true
    }
}

async fn watch_rings(
    context: &Context,
    mut writer: Writer<DeserializeGuard<SigningKeyRing>>,
    listed: &Arc<Barrier>,
) {
    let api: Api<DeserializeGuard<SigningKeyRing>> = Api::all(context.client.clone());
    let mut stream = events("rings", watcher(api, watcher::Config::default()));
    let mut initial_list = InitialList::new(listed);
    while let Some(event) = stream.next().await {
        let wake = match &event {
            Event::Apply(ring) => context
                .cache
                .ring(&ring.name_any())
                .is_none_or(|old| relevant_metadata(old.meta()) != relevant_metadata(ring.meta()))
                .then(|| ring.name_any()),
            Event::Delete(ring) => Some(ring.name_any()),
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        let is_new = wake.as_ref().is_some_and(|ring| context.cache.ring(ring).is_none());
        let urgent = matches!(&event, Event::Apply(ring) if revokes(context, ring));
        writer.apply_watcher_event(&event);
        if let (Some(ring), true) = (&wake, urgent) {
            context.rings.wake_urgently(ring);
        }
        if let Some(ring) = wake {
            if is_new || matches!(event, Event::Delete(_)) {
                context.wake_unknown_of(&ring);
            }
            // It may say that a key is revoked.
            context.rings.wake_with_news(&ring);
            // If it vanished without teardown, its policies' passes say so.
            if let (Event::Delete(_), Some(row)) = (&event, context.cache.ledgers.get(&ring)) {
                wake_policies_of(context, &row);
            }
        }
        if matches!(event, Event::InitDone) && !initial_list.complete() {
            wake_all(context);
        }
    }
}

/// Whether a ring revokes something else than it did.
fn revokes(context: &Context, ring: &DeserializeGuard<SigningKeyRing>) -> bool {
    let revoked = |ring: &DeserializeGuard<SigningKeyRing>| {
        ring.0.as_ref().map(|ring| ring.spec.revoked.clone()).unwrap_or_default()
    };
    let before = context.cache.ring(&ring.name_any());
    before.is_some_and(|before| revoked(&before) != revoked(ring))
}

/// What of a ring's metadata a pass depends on. Its status, which this
/// operator writes, is no reason to look again.
fn relevant_metadata(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        uid: meta.uid.clone(),
        generation: meta.generation,
        annotations: meta.annotations.clone(),
        finalizers: meta.finalizers.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

async fn watch_policies(
    context: &Context,
    mut writer: Writer<DynamicObject>,
    listed: &Arc<Barrier>,
) {
    let mut initial_list = InitialList::new(listed);
    let mut stream = watcher(policies(context.client.clone()), watcher::Config::default())
        .default_backoff()
        .boxed();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event.modify(|policy| policy.metadata.managed_fields = None),
            Err(error) => {
                if is_missing(&error) {
                    // Not a fault of ours: there is no Kyverno.
                    set_served(context, false);
                    writer.apply_watcher_event(&Event::Init);
                    writer.apply_watcher_event(&Event::InitDone);
                    initial_list.complete();
                } else {
                    warn!(what = "policies", %error, "watch failed, trying again");
                }
                continue;
            }
        };
        let wake = match &event {
            Event::Apply(policy) => context.cache.object(&policy.name_any()).is_none_or(|old| {
                old.data.get("spec") != policy.data.get("spec")
                    || old.annotations() != policy.annotations()
                    || old.labels() != policy.labels()
            }),
            Event::Delete(_) => true,
            Event::Init | Event::InitApply(_) | Event::InitDone => false,
        };
        let before = match &event {
            Event::Apply(policy) if wake => context.cache.object(&policy.name_any()),
            _ => None,
        };
        writer.apply_watcher_event(&event);
        if let (true, Event::Apply(policy) | Event::Delete(policy)) = (wake, &event) {
            let Ok(name) = policy.name_any().parse() else { continue };
            let placed = context.cache.ledgers.placed_in(name);
            if is_ours(policy) || !placed.is_empty() || !name.holds_rings() {
                context.policies.wake(&name);
            }
            // Of a ring whose ledger is lost only the marks tell that it is here.
            let named = before.iter().map(|old| marks(old)).chain([marks(policy)]);
            let named = named.flat_map(|marks| marks.0.into_keys());
            let placed = placed.into_iter().map(|(ring, _)| ring.to_string());
            let rings: BTreeSet<String> = placed.chain(named).collect();
            let deleted = matches!(event, Event::Delete(_));
            if deleted {
                // It may have held the last that was left of a ring.
                context.wake_unknown();
            }
            for ring in rings {
                let same = before.as_deref().is_some_and(|old| says_the_same(old, policy, &ring));
                if deleted || !same || context.policies.is_held_back(&name) {
                    context.rings.wake(&ring);
                }
            }
        }
        if matches!(event, Event::InitDone) {
            set_served(context, true);
            if !initial_list.complete() {
                wake_all(context);
            }
        }
    }
}

/// Whether two states of a policy are the same to a ring: its rule, and what the
/// policy says of it. What else differs is the policy's to look at.
fn says_the_same(old: &DynamicObject, new: &DynamicObject, ring: &str) -> bool {
    fn rules<'a>(policy: &'a DynamicObject, ring: &str) -> Option<Vec<&'a serde_json::Value>> {
        policy.data.get("spec").map(|spec| rules_of(spec, ring))
    }
    rules(old, ring) == rules(new, ring) && marks(old).0.get(ring) == marks(new).0.get(ring)
}

fn set_served(context: &Context, served: bool) {
    if context.cache.kyverno_served.swap(served, Ordering::Relaxed) != served {
        if served {
            info!("the cluster serves ClusterPolicy");
        } else {
            warn!("the cluster does not serve ClusterPolicy: install Kyverno");
        }
        wake_all(context);
    }
}

/// Whether a watch fails because the kind is not served.
fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            is_code(error, 404)
        }
        _ => false,
    }
}

fn wake_policies_of(context: &Context, row: &LedgerRow) {
    if let Some(ledger) = row.table() {
        for policy in ledger.rule.settings.policies() {
            context.policies.wake(&policy);
        }
    }
}

/// A watch's events; failures are logged and tried again.
fn events<K: Send + 'static>(
    what: &'static str,
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
) -> futures::stream::BoxStream<'static, Event<K>> {
    stream
        .default_backoff()
        .filter_map(move |event| async move {
            event.inspect_err(|error| warn!(what, %error, "watch failed, trying again")).ok()
        })
        .boxed()
}
