//! Follows the CRDs of kinds that an older Kyverno serves as well, and executes
//! differently: those do not count as executed.

use std::sync::Arc;

use futures::StreamExt;
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;
use signingkeyring_core::policy_ref::PolicyKind;
use tokio::sync::Barrier;
use tracing::{info, warn};

use super::{InitialList, is_forbidden, wake_all};
use crate::context::Context;

/// What is known of the Kyverno to which a kind belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Schema {
    /// The kind has no CRD.
    #[default]
    Absent,
    /// Its CRD is an older Kyverno's.
    Outdated,
    /// It is the one that is needed.
    Fit,
}

/// What the events of a watch tell of it.
#[derive(Debug)]
struct Watched {
    field: &'static str,
    /// By a list that is not complete yet.
    listing: Schema,
    is_told: bool,
}

impl Watched {
    const fn new(field: &'static str) -> Self {
        Self { field, listing: Schema::Absent, is_told: false }
    }

    /// Takes in an event; returns what is known by it, if it tells anything.
    fn take(&mut self, event: Result<Event<DynamicObject>, watcher::Error>) -> Option<Schema> {
        let told = match event {
            Ok(Event::Init) => {
                self.listing = Schema::Absent;
                None
            }
            Ok(Event::InitApply(crd)) => {
                self.listing = self.schema(&crd);
                None
            }
            Ok(Event::InitDone) => Some(self.listing),
            Ok(Event::Apply(crd)) => Some(self.schema(&crd)),
            Ok(Event::Delete(_)) => Some(Schema::Absent),
            // Who may not look goes by the Kyverno that is needed, or nothing would ever
            // begin. Of anything else that fails it is not known yet what it hides.
            Err(error) => (!self.is_told && is_forbidden(&error)).then_some(Schema::Fit),
        };
        self.is_told |= told.is_some();
        told
    }

    fn schema(&self, crd: &DynamicObject) -> Schema {
        if has(&crd.data, self.field) { Schema::Fit } else { Schema::Outdated }
    }
}

/// Follows the CRD of one kind for ever, if its schema tells the Kyverno that is needed.
pub(super) async fn watch_schema(context: &Context, kind: PolicyKind, listed: &Arc<Barrier>) {
    let mut initial_list = InitialList::new(listed);
    let Some(field) = kind.newest_field() else {
        initial_list.complete();
        return;
    };
    let crds = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds = ApiResource::from_gvk(&crds);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &crds);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", kind.crd()));
    let mut stream = watcher(api, only).default_backoff().boxed();
    let mut watched = Watched::new(field);
    while let Some(event) = stream.next().await {
        if let Err(error) = &event {
            warn!(what = kind.crd(), %error, "watch failed, trying again");
        }
        if let Some(schema) = watched.take(event) {
            set(context, kind, schema);
            initial_list.complete();
        }
    }
}

/// Where there is no CRD nothing is served, and when one comes it is seen before anything
/// is made of it what Kyverno it is of.
fn set(context: &Context, kind: PolicyKind, schema: Schema) {
    let is_outdated = schema != Schema::Fit;
    if context.cache.policies.of(kind).set_outdated(is_outdated) {
        let kind = kind.as_str();
        match schema {
            Schema::Absent => {}
            Schema::Outdated => {
                warn!(kind, "the cluster's Kyverno is too old for it: install Kyverno 1.19");
            }
            Schema::Fit => info!(kind, "the cluster's Kyverno is not too old for it"),
        }
        // It is another one that answers.
        context.gate.forget_all();
        wake_all(context);
    }
}

/// Whether the schema of a CRD's `v1` has a field.
fn has(crd: &Value, field: &str) -> bool {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let mut schemas = versions
        .filter(|version| version.get("name").and_then(Value::as_str) == Some("v1"))
        .filter_map(|version| version.pointer("/schema/openAPIV3Schema"));
    schemas.any(|schema| schema.pointer(field).is_some())
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectMeta, Status};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_counts_in_the_version_that_is_used() {
        let crd = |version: &str, field: &str| {
            let schema = json!({"openAPIV3Schema": {"properties": {field: {}}}});
            json!({"spec": {"versions": [{"name": version, "schema": schema}]}})
        };
        assert!(has(&crd("v1", "new"), "/properties/new"));
        assert!(!has(&crd("v1", "old"), "/properties/new"));
        assert!(!has(&crd("v1beta1", "new"), "/properties/new"));
        assert!(!has(&json!({"spec": {"versions": "none"}}), "/properties/new"));
    }

    fn crd(field: &str) -> DynamicObject {
        let schema = json!({"openAPIV3Schema": {"properties": {field: {}}}});
        let crd = json!({"spec": {"versions": [{"name": "v1", "schema": schema}]}});
        DynamicObject { types: None, metadata: ObjectMeta::default(), data: crd }
    }

    fn error(code: u16) -> watcher::Error {
        let status = Status::failure("words", "Reason").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn nothing_is_known_until_a_list_has_come() {
        let mut watched = Watched::new("/properties/new");
        for code in [500, 429, 404] {
            assert_eq!(watched.take(Err(error(code))), None, "{code}");
        }
        assert_eq!(watched.take(Ok(Event::Init)), None);
        assert_eq!(watched.take(Ok(Event::InitApply(crd("old")))), None);
        assert_eq!(watched.take(Ok(Event::InitDone)), Some(Schema::Outdated));
        assert_eq!(watched.take(Ok(Event::Apply(crd("new")))), Some(Schema::Fit));
        // A list that is interrupted says nothing, and one without the CRD that it is gone.
        assert_eq!(watched.take(Ok(Event::Init)), None);
        assert_eq!(watched.take(Err(error(500))), None);
        assert_eq!(watched.take(Ok(Event::Init)), None);
        assert_eq!(watched.take(Ok(Event::InitDone)), Some(Schema::Absent));
        assert_eq!(watched.take(Ok(Event::Apply(crd("old")))), Some(Schema::Outdated));
        assert_eq!(watched.take(Ok(Event::Delete(crd("old")))), Some(Schema::Absent));
    }

    #[test]
    fn who_may_not_look_goes_by_the_kyverno_that_is_needed_or_by_what_was_seen() {
        let mut watched = Watched::new("/properties/new");
        assert_eq!(watched.take(Err(error(500))), None);
        assert_eq!(watched.take(Err(error(403))), Some(Schema::Fit));
        assert_eq!(watched.take(Ok(Event::Init)), None);
        assert_eq!(watched.take(Ok(Event::InitApply(crd("old")))), None);
        assert_eq!(watched.take(Ok(Event::InitDone)), Some(Schema::Outdated));
        assert_eq!(watched.take(Err(error(403))), None);
    }
}
