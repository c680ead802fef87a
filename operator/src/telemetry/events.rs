//! Kubernetes events, and the objects they are about.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    Resource as _,
    api::{
        core::v1::{Namespace, ObjectReference},
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::json;
use signingkeyring_core::{event, names, policy_ref::PolicyRef};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use tokio::time::Instant;

use crate::{
    clock::Clock,
    error::{brief, is_code},
    kyverno,
    lock::Mutex,
};

/// Where events of objects without a namespace stand.
const DEFAULT_NAMESPACE: &str = "default";

/// So long the same words are counted at the event that says them, as of kubelets'.
const COUNTED: Duration = Duration::from_secs(360);

/// So many events are remembered for that: in a wave of rings none says the same twice.
const REMEMBERED: usize = 1000;

/// Writes events; a failure to do so is only logged.
#[derive(Clone)]
pub struct Events {
    client: Client,
    clock: Clock,
    said: Arc<Mutex<Said>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// What was said a moment ago, by a hash of all its words.
#[derive(Debug, Default)]
struct Said {
    by_words: HashMap<u64, (String, i32)>,
    order: VecDeque<(Instant, u64)>,
}

impl Said {
    /// The event that says this already, and how often that makes it now.
    fn again(&mut self, words: u64, now: Instant) -> Option<(String, i32)> {
        while let Some((at, oldest)) = self.order.front()
            && (now.duration_since(*at) >= COUNTED || self.order.len() > REMEMBERED)
        {
            self.by_words.remove(oldest);
            self.order.pop_front();
        }
        let (name, count) = self.by_words.get_mut(&words)?;
        *count = count.saturating_add(1);
        Some((name.clone(), *count))
    }

    fn first(&mut self, words: u64, name: String, now: Instant) {
        if self.by_words.insert(words, (name, 1)).is_none() {
            self.order.push_back((now, words));
        }
    }
}

impl Events {
    /// Events written with this client.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, said: Arc::default() }
    }

    /// Says what happened to an object. `action` is what the operator did.
    pub async fn publish(
        &self,
        on: &ObjectReference,
        warning: bool,
        reason: impl Into<event::Reason>,
        action: event::Action,
        note: &str,
    ) {
        let (reason, action, note) = (reason.into().as_str(), action.as_str(), cut(note));
        let namespace = on.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut words = DefaultHasher::new();
        (warning, reason, action, note, &on.kind, namespace, &on.name, &on.uid).hash(&mut words);
        let words = words.finish();
        let again = self.said.lock().again(words, Instant::now());
        let written = match again {
            Some((name, count)) => match self.count(&api, &name, count).await {
                // The API server forgets events after a while.
                Err(error) if is_code(&error, 404) => None,
                other => Some(other),
            },
            None => None,
        };
        let written = match written {
            Some(written) => written,
            None => {
                let type_ = if warning { "Warning" } else { "Normal" };
                let event = self.event(on, namespace, type_, reason, action, note);
                let name = event.metadata.name.clone().unwrap_or_default();
                let created = api.create(&PostParams::default(), &event).await;
                created.map(|_| self.said.lock().first(words, name, Instant::now()))
            }
        };
        if let Err(error) = written {
            let error = brief(&error);
            tracing::warn!(object = on.name, reason, error, "event not written");
        }
    }

    /// Says that an event has happened once more.
    async fn count(&self, api: &Api<Event>, name: &str, count: i32) -> kube::Result<()> {
        let last_observed_time = MicroTime(self.clock.exactly());
        let patch = json!({"series": EventSeries { count, last_observed_time }});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    fn event(
        &self,
        on: &ObjectReference,
        namespace: &str,
        type_: &str,
        reason: &str,
        action: &str,
        note: &str,
    ) -> Event {
        let now = self.clock.exactly();
        let about = on.name.as_deref().unwrap_or(names::MANAGER);
        Event {
            type_: Some(type_.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(note.to_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(on.clone()),
            reporting_controller: Some(names::MANAGER.to_owned()),
            reporting_instance: Some(names::MANAGER.to_owned()),
            metadata: ObjectMeta {
                name: Some(format!("{about}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            ..Event::default()
        }
    }
}

/// As much of a text as fits into an event's note: the API takes 1024 bytes.
fn cut(note: &str) -> &str {
    let mut end = note.len().min(1024);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.get(..end).unwrap_or_default()
}

/// A reference to a ring, for events.
#[must_use]
pub fn ring_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(SigningKeyRing::api_version(&()).into_owned()),
        kind: Some(SigningKeyRing::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to an exclusion list, for events.
#[must_use]
pub fn list_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(ImageExclusionList::api_version(&()).into_owned()),
        kind: Some(ImageExclusionList::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to a namespace, for events.
#[must_use]
pub fn namespace_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(Namespace::API_VERSION.to_owned()),
        kind: Some(Namespace::KIND.to_owned()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to a policy, for events.
#[must_use]
pub fn policy_reference(policy: PolicyRef, uid: Option<&str>) -> ObjectReference {
    let kind = kyverno::resource(policy.kind());
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        name: Some(policy.to_string()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to an object that goes with a policy, for events.
#[must_use]
pub fn companion_reference(object: &DynamicObject) -> ObjectReference {
    let kind = kyverno::companions();
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        name: object.metadata.name.clone(),
        uid: object.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_by_bytes_and_not_within_a_character() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"a".repeat(2000)).len(), 1024);
        assert_eq!(cut(&"\u{20ac}".repeat(1000)), "\u{20ac}".repeat(341));
    }

    #[test]
    fn the_same_words_are_counted_for_a_while() {
        let (mut said, start) = (Said::default(), Instant::now());
        assert_eq!(said.again(1, start), None);
        said.first(1, "a".to_owned(), start);
        assert_eq!(said.again(1, start), Some(("a".to_owned(), 2)));
        assert_eq!(said.again(1, start + COUNTED / 2), Some(("a".to_owned(), 3)));
        assert_eq!(said.again(2, start), None, "other words are another event");
        assert_eq!(said.again(1, start + COUNTED), None);
        assert!(said.by_words.is_empty() && said.order.is_empty());
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (mut said, now) = (Said::default(), Instant::now());
        for words in 0..2 * REMEMBERED as u64 {
            assert_eq!(said.again(words, now), None);
            said.first(words, String::new(), now);
        }
        assert!(said.by_words.len() <= REMEMBERED + 1 && said.order.len() <= REMEMBERED + 1);
        assert_eq!(said.again(0, now), None);
        assert!(said.again(2 * REMEMBERED as u64 - 1, now).is_some());
    }
}
