//! The ledgers' Secrets, and those of standby keys: the only place that reads
//! and writes private keys at rest.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use signingkeyring_core::{
    ledger::{Change, Damage, Ledger, NewKey, PrivateKeyRef, Version},
    names::{self, RingName},
    snapshot::{Finding, LedgerFound},
};

use super::{Halt, import, place};
use crate::{
    cache::LedgerRow,
    context::Context,
    error::{Error, is_code},
    keys::{KeyPair, digest_of},
    observe::{Observed, private_entries},
};

/// Commits a transition: reads the ledger, and if it still is the one that
/// was observed replaces it. Private keys that the new table does not call
/// for are gone with the same write.
///
/// # Errors
/// If the ledger has changed, is not a ledger, or cannot be written.
pub(super) async fn commit(
    context: &Context,
    observed: &Observed,
    change: &Change,
) -> Result<Ledger, Halt> {
    let ring = &observed.snapshot.name;
    let base = match &observed.snapshot.ledger {
        LedgerFound::Foreign => return Err(Halt::Found(Finding::LedgerForeign)),
        found => found.table(),
    };
    // Held until the cache knows the ledger that takes the room.
    let _claim = place::claim(context, ring, observed, base, change)?;
    let pair = match change {
        Change::Import { from, .. } => Some(import::read(context, from).await?),
        _ if change.mints().is_some() => Some(generate().await?),
        _ => None,
    };
    let mut private_key =
        pair.as_ref().map(|pair| PrivateKeyRef { digest: pair.digest(), secret: None });
    if let (Change::Mint { standby: true, version, .. }, Some(pair), Some(private_key)) =
        (change, &pair, &mut private_key)
    {
        let sequence = base.map_or(0, |base| base.sequence);
        private_key.secret = Some(store_apart(context, ring, *version, sequence, pair).await?);
    }
    let key = pair.as_ref().zip(private_key).map(|(pair, private_key)| NewKey {
        public_key: pair.public_pem().to_owned(),
        fingerprint: pair.fingerprint().clone(),
        private_key,
    });
    let next = Ledger::apply(base, change, key, context.clock.now()).map_err(Error::from)?;
    let mut secret = match &observed.ledger_version {
        Some(version) => read(context, ring, version).await?,
        None => empty(context, names::ledger(ring)),
    };
    let wanted = private_entries(&next);
    let mut data = secret.data.take().unwrap_or_default();
    data.retain(|entry, _| wanted.contains(entry));
    if let (Some(number), Some(pair)) = (change.mints(), &pair)
        && wanted.contains(&names::key_entry(number))
    {
        data.extend(entries(number, pair));
    }
    secret.data = Some(data);
    secret.annotations_mut().insert(names::ANNOTATION_LEDGER.to_owned(), next.to_json());
    let stored = store(context, ring, &secret, observed.ledger_version.is_some()).await?;
    let row = LedgerRow::sound(stored.resource_version().unwrap_or_default(), next.clone());
    context.cache.ledgers.put(ring, row);
    for policy in next.rule.settings.policies() {
        context.policies.wake(&policy);
    }
    if let Some(left) = base.and_then(|base| base.rule.settings.leaving) {
        context.policies.wake(&left);
    }
    Ok(next)
}

/// Looks whether a ledger holds the private keys that its table says, where
/// somebody else than this operator wrote them (a restore, an edit).
///
/// # Errors
/// If it cannot be read, or has changed meanwhile.
pub async fn check(context: &Context, ring: &RingName, row: &LedgerRow) -> Result<(), Error> {
    let Some(table) = row.unchecked() else { return Ok(()) };
    let data = read(context, ring, &row.resource_version).await?.data.unwrap_or_default();
    let unfit = table
        .versions
        .iter()
        .filter(|v| v.private_key.as_ref().is_some_and(|key| key.secret.is_none()))
        .find_map(|version| take(&data, version).err());
    let version = row.resource_version.clone();
    let row = match unfit {
        None => LedgerRow::sound(version, Ledger::clone(table)),
        Some(why) => {
            let damage = Damage::KeysUnfit { why, table: Arc::clone(table) };
            LedgerRow::damaged(version, damage)
        }
    };
    context.cache.ledgers.put(ring, row);
    for policy in table.rule.settings.policies() {
        context.policies.wake(&policy);
    }
    Ok(())
}

/// The key pair of a version, for a pipeline.
///
/// # Errors
/// If the ledger has changed since it was observed, or does not hold the key
/// that its table says it holds.
pub(super) async fn key(
    context: &Context,
    observed: &Observed,
    version: u32,
) -> Result<KeyPair, Halt> {
    let ring = &observed.snapshot.name;
    let damaged = |why| Halt::Found(Finding::LedgerDamaged(why));
    let unknown = || damaged(format!("version {version} is not known"));
    let LedgerFound::Present(ledger) = &observed.snapshot.ledger else { return Err(unknown()) };
    let row = ledger.by_number(version).ok_or_else(unknown)?;
    let seen = observed.ledger_version.as_deref().unwrap_or_default();
    let secret = read(context, ring, seen).await?;
    let apart = row.private_key.as_ref().and_then(|key| key.secret.as_ref());
    let data = match apart {
        None => secret.data.unwrap_or_default(),
        Some(name) => {
            let found = api(context).get_opt(name).await;
            let found = found.map_err(|error| Error::api(format!("Secret {name}"), error))?;
            found.and_then(|secret| secret.data).unwrap_or_default()
        }
    };
    match take(&data, row) {
        Ok(pair) => Ok(pair),
        Err(why) => {
            // The cache took it for sound: it is not, until it is written anew.
            let damage = Damage::KeysUnfit { why: why.clone(), table: Arc::new(ledger.clone()) };
            context.cache.ledgers.put(ring, LedgerRow::damaged(seen.to_owned(), damage));
            Err(damaged(why))
        }
    }
}

/// Deletes a ledger: the last key material of a deleted ring.
///
/// # Errors
/// If it has changed since it was observed.
pub async fn delete(context: &Context, observed: &Observed) -> Result<(), Error> {
    let ring = &observed.snapshot.name;
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

/// Deletes the Secret of a standby key.
///
/// # Errors
/// If the API server refuses.
pub async fn delete_apart(context: &Context, ring: &RingName, name: &str) -> Result<(), Error> {
    match api(context).delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_code(&error, 404) => {}
        Err(error) => return Err(Error::api(format!("Secret {name}"), error)),
    }
    context.cache.ledgers.remove_key_secret(ring, name);
    Ok(())
}

async fn generate() -> Result<KeyPair, Error> {
    // A tenth of a second of computation, deliberately: not on the thread
    // that serves everything else.
    let pair = tokio::task::spawn_blocking(KeyPair::generate).await;
    Ok(pair.map_err(|_| Error::Interrupted)??)
}

/// A version's key pair out of a Secret's data, if it is the one that the
/// table means.
fn take(data: &BTreeMap<String, ByteString>, row: &Version) -> Result<KeyPair, String> {
    let number = row.number;
    let entry = |name: &str| data.get(name).map(|bytes| bytes.0.clone());
    let private = entry(&names::key_entry(number))
        .ok_or_else(|| format!("the private key of version {number} is missing"))?;
    let password = entry(&names::password_entry(number))
        .ok_or_else(|| format!("the password of version {number} is missing"))?;
    let digest = digest_of(&private, &password);
    if row.private_key.as_ref().is_none_or(|key| key.digest != digest) {
        return Err(format!("the private key of version {number} does not fit its public key"));
    }
    Ok(KeyPair::stored(private, password, row.public_key.clone(), row.fingerprint.clone()))
}

fn entries(number: u32, pair: &KeyPair) -> [(String, ByteString); 2] {
    [
        (names::key_entry(number), ByteString(pair.encrypted_pem().to_vec())),
        (names::password_entry(number), ByteString(pair.password().to_vec())),
    ]
}

/// Writes a standby key into a Secret of its own, before the ledger names it.
async fn store_apart(
    context: &Context,
    ring: &RingName,
    version: u32,
    sequence: u64,
    pair: &KeyPair,
) -> Result<String, Error> {
    let name = names::standby(ring, version, pair.fingerprint());
    let mut secret = empty(context, name.clone());
    secret.annotations_mut().insert(names::ANNOTATION_SEQUENCE.to_owned(), sequence.to_string());
    secret.data = Some(entries(version, pair).into());
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER.to_owned()) };
    let created = api(context).create(&params, &secret).await;
    created.map_err(|error| Error::api(format!("Secret {name}"), error))?;
    context.cache.ledgers.put_key_secret(ring, &name, sequence);
    Ok(name)
}

async fn read(context: &Context, ring: &RingName, seen: &str) -> Result<Secret, Error> {
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
    ring: &RingName,
    secret: &Secret,
    exists: bool,
) -> Result<Secret, Halt> {
    let name = names::ledger(ring);
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER.to_owned()) };
    if exists {
        let replaced = api(context).replace(&name, &params, secret).await;
        return Ok(replaced.map_err(|error| Error::api(format!("ledger {name}"), error))?);
    }
    match api(context).create(&params, secret).await {
        Ok(stored) => Ok(stored),
        Err(error) if is_code(&error, 409) => {
            let found = api(context).get_opt(&name).await;
            match found {
                Ok(Some(found)) if found.type_.as_deref() != Some(names::LEDGER_TYPE) => {
                    Err(Halt::Found(Finding::LedgerForeign))
                }
                _ => Err(Error::Conflict(format!("ledger {name}")).into()),
            }
        }
        Err(error) => Err(Error::api(format!("ledger {name}"), error).into()),
    }
}

fn empty(context: &Context, name: String) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
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
