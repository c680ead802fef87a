//! Follows the ledgers and the Secrets of standby keys, as metadata: private
//! keys do not pass here.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::watcher::{Event, watcher},
};
use signingkeyring_core::{
    ledger::{Damage, Ledger},
    names::{self, RingName},
};
use tokio::sync::Barrier;

use super::{InitialList, RINGS_PAGE, config, events, wake_policies_of};
use crate::{
    cache::{KeySecretRow, LedgerRow},
    context::Context,
    error::Error,
};

pub(super) async fn watch_ledgers(context: &Context, listed: &Arc<Barrier>) {
    let config = config(RINGS_PAGE).fields(&format!("type={}", names::LEDGER_TYPE));
    let api: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(context.client.clone(), &context.settings.namespace);
    let mut stream = events("ledgers", watcher(api, config));
    let mut initial_list = InitialList::new(listed);
    let mut relisted: Option<HashSet<String>> = None;
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => relisted = Some(HashSet::new()),
            Event::InitApply(secret) => {
                if initial_list.is_complete() {
                    seen(context, &secret);
                } else {
                    put(context, &secret);
                }
                if let Some(relisted) = &mut relisted {
                    relisted.insert(secret.name_any());
                }
            }
            Event::InitDone => {
                forget_all_but(context, &relisted.take().unwrap_or_default());
                initial_list.complete();
            }
            Event::Apply(secret) => seen(context, &secret),
            Event::Delete(secret) => forget(context, &secret.name_any()),
        }
    }
}

/// Takes in a ledger or the Secret of a standby key, and wakes whom it concerns, unless it
/// is known: this process has written most of them.
fn seen(context: &Context, secret: &PartialObjectMeta<Secret>) {
    let known = is_known(context, secret);
    if let Some(ring) = put(context, secret).filter(|_| !known) {
        wake_ledger(context, &ring);
    }
}

fn is_known(context: &Context, secret: &PartialObjectMeta<Secret>) -> bool {
    let (ledgers, name) = (&context.cache.ledgers, secret.name_any());
    let Some(version) = secret.resource_version() else { return false };
    let known = match (names::ring_of_standby(&name), names::ring_of_ledger(&name)) {
        (Some(ring), _) => ledgers.key_secrets(&ring).remove(&name).map(|row| row.resource_version),
        (None, Some(ring)) => return ledgers.is_known(&ring, &version),
        (None, None) => None,
    };
    known == Some(version)
}

/// Reads a ring's ledger anew, where what the watch has brought so far may be
/// old: before it is said that a ledger is lost or outdated.
///
/// # Errors
/// If the API server does not answer.
pub async fn refresh(context: &Context, ring: &RingName) -> Result<(), Error> {
    let name = names::ledger(ring);
    // By its type too, which metadata does not show.
    let only = format!("metadata.name={name},type={}", names::LEDGER_TYPE);
    let found = api(context)
        .list_metadata(&ListParams::default().fields(&only))
        .await
        .map_err(|error| Error::api(format!("ledger {name}"), error))?;
    match found.items.first() {
        Some(secret) => {
            put(context, secret);
        }
        None => context.cache.ledgers.remove(ring),
    }
    Ok(())
}

/// Takes in a ledger or the Secret of a standby key; returns its ring.
fn put(context: &Context, secret: &PartialObjectMeta<Secret>) -> Option<RingName> {
    let name = secret.name_any();
    if let Some(ring) = names::ring_of_standby(&name) {
        let sequence = secret.annotations().get(names::ANNOTATION_SEQUENCE);
        let sequence = sequence.and_then(|text| text.parse().ok()).unwrap_or(0);
        let resource_version = secret.resource_version().unwrap_or_default();
        let row = KeySecretRow { sequence, resource_version, is_fit: None };
        context.cache.ledgers.put_key_secret(&ring, &name, row);
        return Some(ring);
    }
    let ring = names::ring_of_ledger(&name)?;
    let version = secret.resource_version().unwrap_or_default();
    let before = context.cache.ledgers.outline(ring.as_str());
    // A list brings what is known, mostly, and each is to be read and packed.
    if is_known(context, secret) {
        context.cache.ledgers.seen(&ring);
        return Some(ring);
    }
    context.cache.ledgers.put(&ring, row(version, secret));
    // Of a commit whose answer was lost, and of another replica's, only this tells: a
    // policy that the rule has left is named here alone.
    wake_policies_of(context, before.as_deref());
    Some(ring)
}

fn row(version: String, secret: &PartialObjectMeta<Secret>) -> LedgerRow {
    let damaged = |why| LedgerRow::damaged(version.clone(), Damage::Unreadable { why });
    let Some(json) = secret.annotations().get(names::ANNOTATION_LEDGER) else {
        return damaged(format!("its annotation {} is missing", names::ANNOTATION_LEDGER));
    };
    let ledger = match Ledger::parse(json) {
        Ok(ledger) => ledger,
        Err(error) => return damaged(error.to_string()),
    };
    // What this process has written or read itself is in the cache already, and
    // is not replaced by this.
    LedgerRow::damaged(version, Damage::KeysUnchecked { table: Arc::new(ledger) })
}

fn forget(context: &Context, name: &str) {
    if let Some(ring) = names::ring_of_standby(name) {
        context.cache.ledgers.remove_key_secret(&ring, name);
        context.rings.wake(ring.as_str());
    } else if let Some(ring) = names::ring_of_ledger(name) {
        let before = context.cache.ledgers.outline(ring.as_str());
        context.cache.ledgers.remove(&ring);
        context.rings.wake(ring.as_str());
        wake_policies_of(context, before.as_deref());
    }
}

fn forget_all_but(context: &Context, listed: &HashSet<String>) {
    for ring in context.cache.ledgers.rings() {
        let name = names::ledger(&ring);
        if !listed.contains(&name) {
            forget(context, &name);
        }
    }
    for ring in context.cache.ledgers.rings_with_key_secrets() {
        for name in context.cache.ledgers.key_secrets(&ring).into_keys() {
            if !listed.contains(&name) {
                forget(context, &name);
            }
        }
    }
}

fn wake_ledger(context: &Context, ring: &RingName) {
    context.rings.wake(ring.as_str());
    wake_policies_of(context, context.cache.ledgers.outline(ring.as_str()).as_deref());
}

fn api(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}
