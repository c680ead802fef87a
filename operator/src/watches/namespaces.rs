//! Follows the namespaces, as metadata: which ring each is enrolled in.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::watcher::{Event, watcher},
};
use tokio::sync::Barrier;

use super::{InitialList, NAMESPACES_PAGE, config, events, wake_all};
use crate::context::Context;

pub(super) async fn watch_namespaces(context: &Context, listed: &Arc<Barrier>) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(context.client.clone());
    let mut stream = events("namespaces", watcher(api, config(NAMESPACES_PAGE)));
    let mut initial_list = InitialList::new(listed);
    let mut relisted: Option<HashSet<String>> = None;
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => relisted = Some(HashSet::new()),
            Event::InitApply(namespace) => {
                if let Some(relisted) = &mut relisted {
                    relisted.insert(namespace.name_any());
                }
                if initial_list.is_complete() {
                    put_namespace(context, &namespace);
                } else {
                    enrol(context, &namespace);
                }
            }
            Event::InitDone => {
                let relisted = relisted.take().unwrap_or_default();
                let names = context.cache.namespaces.names().into_iter();
                for name in names.filter(|name| !relisted.contains(name)) {
                    remove_namespace(context, &name);
                }
                initial_list.complete();
            }
            Event::Apply(namespace) => put_namespace(context, &namespace),
            Event::Delete(namespace) => remove_namespace(context, &namespace.name_any()),
        }
    }
}

/// Forgets a namespace that is gone, and wakes whoever it concerns.
fn remove_namespace(context: &Context, name: &str) {
    if name == context.settings.probe_namespace {
        wake_all(context);
    }
    if let Some(ring) = context.cache.namespaces.remove(name) {
        context.rings.wake(&ring);
        context.wake_unknown();
    }
    wake_publishers(context, name);
}

/// Takes in a namespace and wakes whoever it concerns.
fn put_namespace(context: &Context, namespace: &PartialObjectMeta<Namespace>) {
    let name = namespace.name_any();
    let (concerned, matters_to_publishers) = enrol(context, namespace);
    // Where policies of many rings are asked.
    let is_other = matters_to_publishers || !concerned.is_empty();
    if is_other && name == context.settings.probe_namespace {
        wake_all(context);
    }
    if !concerned.is_empty() {
        context.wake_unknown();
    }
    for ring in concerned {
        context.rings.wake(&ring);
    }
    if matters_to_publishers {
        wake_publishers(context, &name);
    }
}

/// Takes in a namespace; returns the rings that it left and joined, or is in
/// with other labels, and whether those that publish there are concerned.
fn enrol(context: &Context, namespace: &PartialObjectMeta<Namespace>) -> (Vec<String>, bool) {
    let name = namespace.name_any();
    let deleting = namespace.metadata.deletion_timestamp.is_some();
    let label = namespace.labels().get(&context.settings.enrolment_label);
    let ring = label.filter(|_| !deleting).map(String::as_str);
    let labels = namespace.labels();
    let taken = context.cache.namespaces.put(&name, namespace.uid(), ring, labels, deleting);
    let mut concerned = Vec::new();
    if taken.is_labelled_anew {
        concerned.extend(ring.map(str::to_owned));
    }
    if taken.left.as_deref() != ring {
        concerned.extend(taken.left.into_iter().chain(ring.map(str::to_owned)));
    }
    (concerned, taken.matters_to_publishers)
}

/// Wakes the rings that publish into a namespace that came or went, or is being
/// deleted, and those that did.
fn wake_publishers(context: &Context, namespace: &str) {
    for ring in context.cache.rings.naming(namespace) {
        context.rings.wake(&ring);
    }
    for ring in context.cache.ledgers.publishing_in(namespace) {
        context.rings.wake(ring.as_str());
    }
}
