//! The ledgers' Secrets: the only place that reads and writes private keys at
//! rest.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use signingkeyring_core::{
    ledger::{Change, Ledger, NewKey},
    names,
    snapshot::LedgerFound,
};

use crate::{
    cache::LedgerRow,
    context::Context,
    error::{Error, is_code},
    keys::KeyPair,
    observe::Observed,
};

/// Commits a transition: reads the ledger, and if it still is the one that
/// was observed replaces it. Private keys that the new table does not call
/// for are gone with the same write.
///
/// # Errors
/// If the ledger has changed, is not a ledger, or cannot be written.
pub async fn commit(
    context: &Context,
    ring: &str,
    observed: &Observed,
    change: &Change,
) -> Result<Ledger, Error> {
    let base = match &observed.snapshot.ledger {
        LedgerFound::Present(ledger) => Some(ledger),
        LedgerFound::Absent => None,
        LedgerFound::Damaged(why) => return Err(Error::DamagedLedger(why.clone())),
        LedgerFound::Foreign => return Err(Error::ForeignLedger(names::ledger(ring))),
    };
    let minted = match change {
        Change::Mint { version, .. } => Some((*version, generate().await?)),
        _ => None,
    };
    let key = minted.as_ref().map(|(_, pair)| NewKey {
        public_key: pair.public_pem().to_owned(),
        fingerprint: pair.fingerprint().to_owned(),
    });
    let next = Ledger::apply(base, change, key, context.clock.now())?;
    let mut secret = match &observed.ledger_version {
        Some(version) => read(context, ring, version).await?,
        None => empty(context, ring),
    };
    let mut data = secret.data.take().unwrap_or_default();
    data.retain(|entry, _| version_of(entry).is_some_and(|number| next.has_private_key(number)));
    if let Some((number, pair)) = &minted {
        data.insert(key_entry(*number), ByteString(pair.encrypted_pem().to_vec()));
        data.insert(password_entry(*number), ByteString(pair.password().to_vec()));
    }
    secret.data = Some(data);
    secret.annotations_mut().insert(names::ANNOTATION_LEDGER.to_owned(), next.to_json());
    let stored = store(context, ring, &secret, observed.ledger_version.is_some()).await?;
    let row = LedgerRow::new(stored.resource_version().unwrap_or_default(), Ok(next.clone()));
    context.cache.ledgers.put(ring, row);
    for policy in next.rule.settings.policies() {
        context.policies.wake(policy);
    }
    if let Some(left) = base.and_then(|base| base.rule.settings.leaving.as_deref()) {
        context.policies.wake(left);
    }
    Ok(next)
}

/// The key pair of a version, for a pipeline.
///
/// # Errors
/// If the ledger has changed since it was observed, or does not hold the key
/// that its table says it holds.
pub async fn key(
    context: &Context,
    ring: &str,
    observed: &Observed,
    version: u32,
) -> Result<KeyPair, Error> {
    let damaged = |what: &str| {
        let secret = names::ledger(ring);
        Error::DamagedLedger(format!("it holds no {what} of version {version} in {secret}"))
    };
    let LedgerFound::Present(ledger) = &observed.snapshot.ledger else {
        return Err(damaged("row"));
    };
    let row = ledger.versions.iter().find(|v| v.number == version).ok_or_else(|| damaged("row"))?;
    let seen = observed.ledger_version.as_deref().unwrap_or_default();
    let mut data = read(context, ring, seen).await?.data.unwrap_or_default();
    let private = data.remove(&key_entry(version)).ok_or_else(|| damaged("private key"))?;
    let password = data.remove(&password_entry(version)).ok_or_else(|| damaged("password"))?;
    Ok(KeyPair::stored(private.0, password.0, row.public_key.clone(), row.fingerprint.clone()))
}

/// Deletes a ledger: the last key material of a deleted ring.
///
/// # Errors
/// If it has changed since it was observed.
pub async fn delete(context: &Context, ring: &str, observed: &Observed) -> Result<(), Error> {
    let name = names::ledger(ring);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: None,
            resource_version: observed.ledger_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match api(context).delete(&name, &params).await {
        Ok(_) => {}
        Err(error) if is_code(&error, 404) => {}
        Err(error) => return Err(Error::api(format!("ledger {name}"), error)),
    }
    context.cache.ledgers.remove(ring);
    Ok(())
}

async fn generate() -> Result<KeyPair, Error> {
    // A tenth of a second of computation, deliberately: not on the thread
    // that serves everything else.
    let pair = tokio::task::spawn_blocking(KeyPair::generate).await;
    Ok(pair.map_err(|_| Error::Interrupted)??)
}

async fn read(context: &Context, ring: &str, seen: &str) -> Result<Secret, Error> {
    let name = names::ledger(ring);
    let what = || format!("ledger {name}");
    let secret = api(context).get(&name).await.map_err(|error| Error::api(what(), error))?;
    if secret.resource_version().as_deref() != Some(seen) {
        return Err(Error::Conflict(what()));
    }
    Ok(secret)
}

async fn store(
    context: &Context,
    ring: &str,
    secret: &Secret,
    exists: bool,
) -> Result<Secret, Error> {
    let name = names::ledger(ring);
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER.to_owned()) };
    if exists {
        let replaced = api(context).replace(&name, &params, secret).await;
        return replaced.map_err(|error| Error::api(format!("ledger {name}"), error));
    }
    match api(context).create(&params, secret).await {
        Ok(stored) => Ok(stored),
        Err(error) if is_code(&error, 409) => {
            let found = api(context).get_opt(&name).await;
            match found {
                Ok(Some(found)) if found.type_.as_deref() != Some(names::LEDGER_TYPE) => {
                    Err(Error::ForeignLedger(format!("{}/{name}", context.settings.namespace)))
                }
                _ => Err(Error::Conflict(format!("ledger {name}"))),
            }
        }
        Err(error) => Err(Error::api(format!("ledger {name}"), error)),
    }
}

fn empty(context: &Context, ring: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(names::ledger(ring)),
            namespace: Some(context.settings.namespace.clone()),
            labels: Some(BTreeMap::from([(
                names::LABEL_MANAGED_BY.to_owned(),
                names::MANAGER.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some(names::LEDGER_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn api(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}

fn key_entry(version: u32) -> String {
    format!("v{version}.key")
}

fn password_entry(version: u32) -> String {
    format!("v{version}.password")
}

/// The version that an entry of the ledger's data belongs to.
fn version_of(entry: &str) -> Option<u32> {
    let number = entry.strip_prefix('v')?;
    let number = number.strip_suffix(".key").or_else(|| number.strip_suffix(".password"))?;
    number.parse().ok()
}
