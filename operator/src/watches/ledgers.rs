//! Follows the ledgers, as metadata: private keys do not pass here.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use signingkeyring_core::{ledger::Ledger, names};
use tokio::sync::Barrier;

use super::{First, events, wake_all, wake_policies_of};
use crate::{cache::LedgerRow, context::Context};

pub(super) async fn watch_ledgers(context: &Context, listed: &Arc<Barrier>) {
    let api: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(context.client.clone(), &context.settings.namespace);
    let config = watcher::Config::default().fields(&format!("type={}", names::LEDGER_TYPE));
    let mut stream = events("ledgers", watcher(api, config));
    let mut first = First::new(listed);
    let mut relisted: Option<Vec<String>> = None;
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => relisted = Some(Vec::new()),
            Event::InitApply(secret) => {
                if let (Some(ring), Some(relisted)) = (put_ledger(context, &secret), &mut relisted)
                {
                    relisted.push(ring);
                }
            }
            Event::InitDone => {
                let relisted = relisted.take().unwrap_or_default();
                for ring in context.cache.ledgers.rings() {
                    if !relisted.contains(&ring) {
                        forget_ledger(context, &ring);
                    }
                }
                if !first.pass() {
                    wake_all(context);
                }
            }
            Event::Apply(secret) => {
                if let Some(ring) = put_ledger(context, &secret) {
                    wake_ledger(context, &ring);
                }
            }
            Event::Delete(secret) => {
                let name = secret.name_any();
                if let Some(ring) = names::ring_of_ledger(&name) {
                    forget_ledger(context, ring);
                }
            }
        }
    }
}

fn put_ledger(context: &Context, secret: &PartialObjectMeta<Secret>) -> Option<String> {
    let name = secret.name_any();
    let ring = names::ring_of_ledger(&name)?;
    let ledger = match secret.annotations().get(names::ANNOTATION_LEDGER) {
        Some(json) => Ledger::parse(json).map_err(|error| error.to_string()),
        None => Err(format!("its annotation {} is missing", names::ANNOTATION_LEDGER)),
    };
    let version = secret.resource_version().unwrap_or_default();
    context.cache.ledgers.put(ring, LedgerRow::new(version, ledger));
    Some(ring.to_owned())
}

fn forget_ledger(context: &Context, ring: &str) {
    let row = context.cache.ledgers.get(ring);
    context.cache.ledgers.remove(ring);
    context.rings.wake(ring);
    if let Some(row) = row {
        wake_policies_of(context, &row);
    }
}

fn wake_ledger(context: &Context, ring: &str) {
    context.rings.wake(ring);
    if let Some(row) = context.cache.ledgers.get(ring) {
        wake_policies_of(context, &row);
    }
}
