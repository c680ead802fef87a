//! Follows what decides which pods Kyverno sees: its webhook configurations, its
//! ConfigMap, and policies and exceptions of others. None of it holds anything up, not
//! even at the start: what may not be looked at is said.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{StreamExt, future::join_all};
use k8s_openapi::{ClusterResourceScope, api::core::v1::ConfigMap};
use kube::{
    Api, Resource, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use signingkeyring_convert::webhooks::{mutating, validating};
use signingkeyring_core::omissions::{
    Cause, Half, Hook, Look, OtherException, PolicyException, Settings, TenantKind, TenantPolicy,
    Unseen,
};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::{is_forbidden, is_missing, refusal};
use crate::{
    cache::Kyverno,
    context::Context,
    error::{brief, is_code},
};

mod steady;

use steady::Steady;

/// Objects of a kind by namespace and name, reduced.
type Found<T> = BTreeMap<(String, String), T>;

/// A kind of objects of others, which need not be served.
struct Others<'a, T> {
    kind: GroupVersionKind,
    /// Reduces one, by its namespace, name and spec, to what bears on pods.
    read: &'a (dyn Fn(&str, &str, &Value) -> Option<T> + Sync),
    /// Takes all of them in; returns whether they are others.
    put: &'a (dyn Fn(&Kyverno, Look<Vec<T>>) -> bool + Sync),
    /// Has the rings looked at again that one in a namespace concerns.
    wake: fn(&Context, &str),
}

/// So many objects of others are listed at once.
const PAGE: u32 = 50;

/// How long until what failed is listed again.
const AGAIN: Duration = Duration::from_secs(5);

/// After how many failures, one after the other, what was seen does not count any more.
const FAILURES: u32 = 6;

pub(super) async fn watch_kyverno(context: &Context) {
    let exceptions = Others {
        kind: GroupVersionKind::gvk("kyverno.io", "v2", "PolicyException"),
        read: &PolicyException::read,
        put: &Kyverno::put_exceptions,
        wake: wake_all,
    };
    let other_exceptions = Others {
        kind: GroupVersionKind::gvk("policies.kyverno.io", "v1", "PolicyException"),
        read: &|namespace, name, spec| Some(OtherException::read(namespace, name, spec)),
        put: &Kyverno::put_other_exceptions,
        wake: wake_all,
    };
    let policies = TenantKind::ALL.iter().map(|kind| watch_policies(context, *kind));
    futures::join!(
        watch_webhooks(context, Half::Mutating, mutating),
        watch_webhooks(context, Half::Validating, validating),
        watch_settings(context),
        join_all(policies),
        watch_others(context, exceptions),
        watch_others(context, other_exceptions),
    );
}

/// Follows the policies of namespaces of one kind.
async fn watch_policies(context: &Context, kind: TenantKind) {
    let (group, version) = kind.api();
    let policies = Others {
        kind: GroupVersionKind::gvk(group, version, kind.as_str()),
        read: &|namespace, name, spec| TenantPolicy::read(kind, namespace, name, spec),
        put: &|kyverno: &Kyverno, found| kyverno.put_policies(kind, found),
        wake: match kind {
            // One that keeps Kyverno from writing webhooks does so wherever it is.
            TenantKind::NamespacedValidatingPolicy
            | TenantKind::NamespacedImageValidatingPolicy => wake_all,
            _ => wake_enrolled,
        },
    };
    watch_others(context, policies).await;
}

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

/// Why nothing is seen, unless it is only interrupted.
fn unseen(error: &watcher::Error, what: &str, failures: u32) -> Option<Unseen> {
    let refusal = refusal(error);
    if let Some(refusal) = refusal.filter(|error| is_code(error, 403)) {
        return Some(Unseen { why: brief(refusal), cause: Cause::Forbidden });
    }
    warn!(what, %error, "watch failed, trying again");
    let why = refusal.map_or_else(|| error.to_string(), brief);
    (failures >= FAILURES).then_some(Unseen { why, cause: Cause::Failed })
}

/// Follows objects, and lists them anew after each failure: a watch that was refused may
/// go on without a word of what it has missed. `take` gets the events, and those
/// failures after which nothing is seen; it ends a watch that came to an error.
async fn follow<K>(
    api: &Api<K>,
    config: &watcher::Config,
    what: &str,
    mut take: impl FnMut(Result<Event<K>, Failure>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone,
{
    let (mut failures, mut is_refused) = (0, false);
    loop {
        let mut stream = watcher(api.clone(), config.clone()).boxed();
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        (failures, is_refused) = (0, false);
                    }
                    take(Ok(event));
                }
                Err(error) if is_missing(&error) => {
                    take(Err(Failure::NotServed));
                    break;
                }
                Err(error) => {
                    failures += 1;
                    if is_forbidden(&error) && !is_refused {
                        warn!(what, %error, "may not be looked at");
                        is_refused = true;
                    }
                    if let Some(unseen) = unseen(&error, what, failures) {
                        take(Err(Failure::Unseen(unseen)));
                    }
                    break;
                }
            }
        }
        sleep(AGAIN).await;
    }
}

/// Why objects cannot be followed.
enum Failure {
    /// Their kind is not served.
    NotServed,
    Unseen(Unseen),
}

/// The one object of a kind that has a name, each time that it is another.
async fn watch_one<K>(api: Api<K>, name: &str, mut put: impl FnMut(Look<Option<K>>))
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default + Clone,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut found = None;
    follow(&api, &only, name, |event| match event {
        Ok(Event::Init) => found = None,
        Ok(Event::InitApply(object)) => found = Some(object),
        Ok(Event::InitDone) => put(Ok(found.take())),
        Ok(Event::Apply(object)) => put(Ok(Some(object))),
        Ok(Event::Delete(_)) | Err(Failure::NotServed) => put(Ok(None)),
        Err(Failure::Unseen(unseen)) => put(Err(unseen)),
    })
    .await;
}

async fn watch_settings(context: &Context) {
    let settings = &context.settings;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &settings.kyverno_namespace);
    watch_one(api, &settings.kyverno_config_map, |found| {
        let read = |map: ConfigMap| Settings::read(&map.data.unwrap_or_default());
        let read = found.map(|found| found.map(read));
        wake_rings(context, context.cache.kyverno.put_settings(read));
    })
    .await;
}

async fn watch_webhooks<K>(context: &Context, half: Half, hooks_of: fn(K) -> Vec<Hook>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K: Resource<Scope = ClusterResourceScope>,
    K::DynamicType: Default + Clone,
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
    let watch = watch_one(api, half.configuration(), |found| {
        let hooks = found.map(|found| found.map(hooks_of).unwrap_or_default());
        // Its other end is below.
        let _ = changes.send(hooks);
    });
    futures::join!(damp, watch);
}

/// Follows objects of others, reduced to what bears on pods.
async fn watch_others<T: Clone>(context: &Context, others: Others<'_, T>) {
    let Others { kind, read, put, wake } = others;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    // They may be large, and little is kept of each.
    let config = watcher::Config::default().page_size(PAGE);
    let (mut found, mut relisted) = (Found::new(), Found::new());
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
    follow(&api, &config, &resource.plural, |event| match event {
        Ok(Event::Init) => relisted = Found::new(),
        Ok(Event::InitApply(object)) => {
            relisted.extend(reduced(&object).map(|it| (key(&object), it)));
        }
        Ok(Event::InitDone) => {
            found = std::mem::take(&mut relisted);
            show(Ok(found.values().cloned().collect()));
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
        Err(Failure::NotServed) => {
            // There are none of a kind that is not served.
            found.clear();
            show(Ok(Vec::new()));
        }
        Err(Failure::Unseen(unseen)) => show(Err(unseen)),
    })
    .await;
}
