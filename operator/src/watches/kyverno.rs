//! Follows what decides which pods Kyverno sees: its webhook configurations, its
//! ConfigMap, and policies and exceptions of others. None of it holds anything up:
//! what may not be looked at is said.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures::StreamExt;
use k8s_openapi::{ClusterResourceScope, api::core::v1::ConfigMap};
use kube::{
    Api, Resource, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use signingkeyring_core::omissions::{
    Half, Hook, Look, PolicyException, Settings, TenantPolicy, Unseen,
};
use tokio::{
    sync::Barrier,
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{InitialList, is_missing};
use crate::{
    cache::Kyverno,
    context::Context,
    error::{brief, is_code},
};

mod hooks;
mod steady;

use hooks::{mutating, validating};
use steady::Steady;

/// Objects of a kind by namespace and name, reduced.
type Found<T> = BTreeMap<(String, String), T>;

/// A kind of objects of others, which need not be served.
struct Others<T> {
    kind: GroupVersionKind,
    /// Reduces one, by its namespace, name and spec, to what bears on pods.
    read: fn(&str, &str, &Value) -> Option<T>,
    /// Takes all of them in; returns whether they are others.
    put: fn(&Kyverno, Look<Vec<T>>) -> bool,
    /// Has the rings looked at again that one in a namespace concerns.
    wake: fn(&Context, &str),
}

/// So many objects of others are listed at once.
const PAGE: u32 = 50;

pub(super) async fn watch_kyverno(context: &Context, listed: &Arc<Barrier>) {
    let policies = Others {
        kind: GroupVersionKind::gvk("kyverno.io", "v1", "Policy"),
        read: TenantPolicy::of_policy,
        put: Kyverno::put_policies,
        wake: wake_enrolled,
    };
    let mutating_policies = Others {
        kind: GroupVersionKind::gvk("policies.kyverno.io", "v1", "NamespacedMutatingPolicy"),
        read: TenantPolicy::of_mutating_policy,
        put: Kyverno::put_mutating_policies,
        wake: wake_enrolled,
    };
    let exceptions = Others {
        kind: GroupVersionKind::gvk("kyverno.io", "v2", "PolicyException"),
        read: PolicyException::read,
        put: Kyverno::put_exceptions,
        wake: wake_all,
    };
    futures::join!(
        watch_webhooks(context, listed, Half::Mutating, mutating),
        watch_webhooks(context, listed, Half::Validating, validating),
        watch_settings(context, listed),
        watch_others(context, listed, policies),
        watch_others(context, listed, mutating_policies),
        watch_others(context, listed, exceptions),
    );
}

/// How many watches that are.
pub(super) const WATCHES: usize = 6;

/// Looks at all rings again if something bears on them.
fn wake_rings(context: &Context, is_other: bool) {
    if is_other {
        wake_all(context, "");
    }
}

fn wake_all(context: &Context, _: &str) {
    for ring in context.cache.ring_names() {
        context.rings.wake(&ring);
    }
}

/// Looks at the ring of a namespace again.
fn wake_enrolled(context: &Context, namespace: &str) {
    if let Some(ring) = context.cache.namespaces.ring_of(namespace) {
        context.rings.wake(&ring);
    }
}

/// Why a watch sees nothing, unless it is only interrupted.
fn unseen(error: &watcher::Error, what: &str, is_listed: bool) -> Option<Unseen> {
    let refusal = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            Some(error)
        }
        _ => None,
    };
    if let Some(refusal) = refusal.filter(|error| is_code(error, 403)) {
        return Some(Unseen { why: brief(refusal), is_forbidden: true });
    }
    warn!(what, %error, "watch failed, trying again");
    let why = refusal.map_or_else(|| error.to_string(), brief);
    (!is_listed).then_some(Unseen { why, is_forbidden: false })
}

/// The one object of a kind that has a name, each time that it is another.
async fn watch_one<K>(
    api: Api<K>,
    name: &str,
    listed: &Arc<Barrier>,
    mut put: impl FnMut(Result<Option<K>, Unseen>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = watcher(api, only).default_backoff().boxed();
    let mut initial_list = InitialList::new(listed);
    let (mut is_listed, mut found) = (false, None);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => found = None,
            Ok(Event::InitApply(object)) => found = Some(object),
            Ok(Event::InitDone) => {
                is_listed = true;
                put(Ok(found.take()));
                initial_list.complete();
            }
            Ok(Event::Apply(object)) => put(Ok(Some(object))),
            Ok(Event::Delete(_)) => put(Ok(None)),
            Err(error) => {
                if let Some(unseen) = unseen(&error, name, is_listed) {
                    put(Err(unseen));
                }
                initial_list.complete();
            }
        }
    }
}

async fn watch_settings(context: &Context, listed: &Arc<Barrier>) {
    let settings = &context.settings;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &settings.kyverno_namespace);
    watch_one(api, &settings.kyverno_config_map, listed, |found| {
        let read = |map: ConfigMap| Settings::read(&map.data.unwrap_or_default());
        let read = found.map(|found| found.map(read));
        wake_rings(context, context.cache.kyverno.put_settings(read));
    })
    .await;
}

async fn watch_webhooks<K>(
    context: &Context,
    listed: &Arc<Barrier>,
    half: Half,
    hooks_of: fn(K) -> Vec<Hook>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K: Resource<Scope = ClusterResourceScope>,
    K::DynamicType: Default,
{
    let (changes, mut seen) = tokio::sync::mpsc::unbounded_channel::<Look<Vec<Hook>>>();
    let show = |hooks| wake_rings(context, context.cache.kyverno.put_webhooks(half, hooks));
    let damp = async {
        let mut steady = Steady::default();
        loop {
            let due = steady.due();
            tokio::select! {
                next = seen.recv() => {
                    let Some(next) = next else { return };
                    steady.take(next, Instant::now()).map(&show);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    steady.ripe().map(&show);
                }
            }
        }
    };
    let api: Api<K> = Api::all(context.client.clone());
    let watch = watch_one(api, half.configuration(), listed, |found| {
        let hooks = found.map(|found| found.map(hooks_of).unwrap_or_default());
        // Its other end is below.
        let _ = changes.send(hooks);
    });
    futures::join!(damp, watch);
}

/// Follows objects of others, reduced to what bears on pods.
async fn watch_others<T: Clone>(
    context: &Context,
    listed: &Arc<Barrier>,
    Others { kind, read, put, wake }: Others<T>,
) {
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    // They may be large, and little is kept of each.
    let config = watcher::Config::default().page_size(PAGE);
    let mut stream = watcher(api, config).default_backoff().boxed();
    let mut initial_list = InitialList::new(listed);
    let (mut is_listed, mut found, mut relisted) = (false, Found::new(), Found::new());
    let key = |object: &DynamicObject| (object.namespace().unwrap_or_default(), object.name_any());
    let reduced = |object: &DynamicObject| {
        let (namespace, name) = key(object);
        read(&namespace, &name, object.data.get("spec").unwrap_or(&Value::Null))
    };
    let show = |found| wake_rings(context, put(&context.cache.kyverno, found));
    let show_one = |found: &Found<T>, object: &DynamicObject| {
        if put(&context.cache.kyverno, Ok(found.values().cloned().collect())) {
            wake(context, &object.namespace().unwrap_or_default());
        }
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => relisted = Found::new(),
            Ok(Event::InitApply(object)) => {
                relisted.extend(reduced(&object).map(|it| (key(&object), it)));
            }
            Ok(Event::InitDone) => {
                is_listed = true;
                found = std::mem::take(&mut relisted);
                show(Ok(found.values().cloned().collect()));
                initial_list.complete();
            }
            Ok(Event::Apply(object)) => {
                let before = found.remove(&key(&object));
                let now = reduced(&object).map(|it| (key(&object), it));
                // Most bear on nothing, before and after.
                if before.is_some() || now.is_some() {
                    found.extend(now);
                    show_one(&found, &object);
                }
            }
            Ok(Event::Delete(object)) => {
                if found.remove(&key(&object)).is_some() {
                    show_one(&found, &object);
                }
            }
            Err(error) => {
                if is_missing(&error) {
                    // There are none of a kind that is not served.
                    found.clear();
                    show(Ok(found.values().cloned().collect()));
                } else if let Some(unseen) = unseen(&error, &resource.plural, is_listed) {
                    show(Err(unseen));
                }
                initial_list.complete();
            }
        }
    }
}
