//! Kubernetes events, and the objects they are about.

use k8s_openapi::{
    Resource as _,
    api::core::v1::{Namespace, ObjectReference},
};
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use signingkeyring_core::{event, names};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

use crate::kyverno;

/// Writes events; a failure to do so is only logged.
#[derive(Clone)]
pub struct Events(Recorder);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events written with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let reporter = Reporter { controller: names::MANAGER.to_owned(), instance: None };
        Self(Recorder::new(client, reporter))
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
        let reason = reason.into().as_str();
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note).to_owned()),
            action: action.as_str().to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, on).await {
            tracing::warn!(
                object = on.name,
                reason,
                error = crate::error::brief(&error),
                "event not written"
            );
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
pub fn policy_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    let kind = kyverno::resource();
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
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
}
