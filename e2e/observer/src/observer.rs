//! Follows policies, Secrets, rings and namespaces on the API server and keeps
//! every state of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams},
};
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use crate::{
    history::{Event, Id, Kind, Seen},
    parse,
};

/// The observer.
#[derive(Debug, Default)]
pub struct Observer {
    seen: Mutex<HashMap<String, Seen>>,
    lost: Mutex<Option<String>>,
    changed: Notify,
}

impl Observer {
    /// Starts to follow the cluster. `view_of` says which view an object
    /// belongs to, if any.
    ///
    /// # Errors
    /// If the cluster cannot be listed.
    pub async fn start(
        client: &Client,
        view_of: fn(Kind, &DynamicObject) -> Option<String>,
    ) -> Result<Arc<Self>> {
        let observer = Arc::new(Self::default());
        for kind in Kind::ALL {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
            let list = api.list(&ListParams::default()).await?;
            let mut version = list.metadata.resource_version.unwrap_or_default();
            for object in list.items {
                observer.take_in(kind, view_of, object, false);
            }
            let observer = Arc::clone(&observer);
            tokio::spawn(async move {
                loop {
                    let followed = observer.follow(&api, kind, view_of, &mut version).await;
                    if let Err(error) = followed {
                        let text = format!("watching {kind:?}: {error:#}");
                        *observer.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                        return;
                    }
                }
            });
        }
        Ok(observer)
    }

    async fn follow(
        &self,
        api: &Api<DynamicObject>,
        kind: Kind,
        view_of: fn(Kind, &DynamicObject) -> Option<String>,
        version: &mut String,
    ) -> Result<()> {
        // A connection that broke loses nothing: the next one goes on from the
        // last state that was seen, or is told that it cannot.
        let Ok(events) = api.watch(&WatchParams::default(), version).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok(());
        };
        let mut events = events.boxed();
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = object.metadata.resource_version.clone().unwrap_or_default();
                    self.take_in(kind, view_of, object, false);
                }
                WatchEvent::Deleted(object) => {
                    *version = object.metadata.resource_version.clone().unwrap_or_default();
                    self.take_in(kind, view_of, object, true);
                }
                WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
                // A state in between may be lost: then nothing can be said.
                WatchEvent::Error(error) => bail!("{error}"),
            }
        }
        Ok(())
    }

    fn take_in(
        &self,
        kind: Kind,
        view_of: fn(Kind, &DynamicObject) -> Option<String>,
        object: DynamicObject,
        deleted: bool,
    ) {
        let Some(view) = view_of(kind, &object) else { return };
        let id = Id {
            kind,
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        let version = object.metadata.resource_version.as_deref().unwrap_or_default().parse();
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let mut all = self.lock();
        let seen = all.entry(view).or_default();
        if deleted {
            seen.now.remove(&id);
        } else {
            seen.now.insert(id.clone(), value.clone());
        }
        seen.history.push(Event {
            version: version.unwrap_or_default(),
            at: Instant::now(),
            id,
            object: (!deleted).then_some(value),
        });
        drop(all);
        self.changed.notify_waiters();
    }

    /// Forgets what led to the present state of a view.
    pub fn forget(&self, view: &str) {
        let mut all = self.lock();
        let seen = all.entry(view.to_owned()).or_default();
        let at = Instant::now();
        seen.history = seen
            .now
            .iter()
            .map(|(id, object)| Event {
                version: parse::version(object),
                at,
                id: id.clone(),
                object: Some(object.clone()),
            })
            .collect();
    }

    /// What was seen of a view, its states in the API server's order.
    ///
    /// # Errors
    /// If a state may have been missed.
    pub fn seen(&self, view: &str) -> Result<Seen> {
        if let Some(lost) = &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            bail!("the observer is blind: {lost}");
        }
        let mut seen = self.lock().get(view).cloned().unwrap_or_default();
        seen.history.sort_by_key(|event| event.version);
        Ok(seen)
    }

    /// What is there now of a view.
    #[must_use]
    pub fn now(&self, view: &str) -> BTreeMap<Id, Value> {
        self.lock().get(view).map(|seen| seen.now.clone()).unwrap_or_default()
    }

    /// Waits until what is there satisfies a condition.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn until(
        &self,
        view: &str,
        what: &str,
        patience: Duration,
        holds: impl Fn(&BTreeMap<Id, Value>) -> bool,
    ) -> Result<()> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if holds(&self.now(view)) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(patience, waiting).await;
        waited.with_context(|| format!("waited {} s for: {what}", patience.as_secs()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version, name, plural) = match kind {
        Kind::ClusterPolicy => ("kyverno.io", "v1", "ClusterPolicy", "clusterpolicies"),
        Kind::ImageValidatingPolicy => {
            ("policies.kyverno.io", "v1", "ImageValidatingPolicy", "imagevalidatingpolicies")
        }
        Kind::MutatingPolicy => ("policies.kyverno.io", "v1", "MutatingPolicy", "mutatingpolicies"),
        Kind::Secret => ("", "v1", "Secret", "secrets"),
        Kind::Ring => ("signing.odj.cloud", "v1alpha1", "SigningKeyRing", "signingkeyrings"),
        Kind::Namespace => ("", "v1", "Namespace", "namespaces"),
    };
    let kind = GroupVersionKind::gvk(group, version, name);
    ApiResource::from_gvk_with_plural(&kind, plural)
}
