//! The ledgers' Secrets, and those of standby keys: the only place that reads
//! and writes private keys at rest.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::ByteString;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use signingkeyring_core::{
    ledger::{Change, Damage, Ledger, Mint, NewKey, PrivateKeyRef, Version},
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

mod secret;

use secret::{api, empty, read, store};

/// Commits a new version, with the key pair that it gets here.
///
/// # Errors
/// If there is no key pair, or as [`commit`].
pub(super) async fn mint(
    context: &Context,
    observed: &Observed,
    mint: &Mint,
) -> Result<Ledger, Halt> {
    let base = base(observed)?;
    // Held until the cache knows the ledger that takes the room.
    let claim = place::claim(context, observed, base, mint.rule())?;
    let pair = match mint {
        Mint::Import { from, .. } => import::read(context, observed, from).await?,
        Mint::New { .. } | Mint::Recover(_) => generate().await?,
    };
    let number = mint.version();
    let secret = match mint {
        Mint::New { standby: true, .. } => {
            let sequence = base.map_or(0, |base| base.sequence);
            let ring = &observed.snapshot.name;
            Some(store_key_secret(context, ring, number, sequence, &pair).await?)
        }
        _ => None,
    };
    let key = NewKey {
        public_key: pair.public_pem().to_owned(),
        fingerprint: pair.fingerprint().clone(),
        private_key: PrivateKeyRef { digest: pair.digest(), secret },
    };
    let next = Ledger::mint(base, mint, key, context.clock.now()).map_err(Error::from)?;
    let replaced = replace(context, observed, &next, Some((number, &pair))).await;
    place::settle(claim, &replaced);
    replaced.map(|()| next)
}

/// Commits another transition.
///
/// # Errors
/// If the ledger has changed, is not a ledger, or cannot be written.
pub(super) async fn commit(
    context: &Context,
    observed: &Observed,
    change: &Change,
) -> Result<Ledger, Halt> {
    let base = base(observed)?;
    // Held until the cache knows the ledger that takes the room.
    let claim = match change {
        Change::Rule(rule) => place::claim(context, observed, base, rule)?,
        _ => None,
    };
    let next = Ledger::apply(base, change, context.clock.now()).map_err(Error::from)?;
    let replaced = replace(context, observed, &next, None).await;
    place::settle(claim, &replaced);
    replaced.map(|()| next)
}

fn base(observed: &Observed) -> Result<Option<&Ledger>, Halt> {
    match &observed.snapshot.ledger {
        LedgerFound::Foreign => Err(Halt::Found(Finding::LedgerForeign)),
        found => Ok(found.table()),
    }
}

/// Reads the ledger, and if it still is the one that was observed replaces it.
/// Private keys that the new table does not call for are gone with the same
/// write.
async fn replace(
    context: &Context,
    observed: &Observed,
    next: &Ledger,
    new: Option<(u32, &KeyPair)>,
) -> Result<(), Halt> {
    let ring = &observed.snapshot.name;
    let mut secret = match &observed.ledger_version {
        Some(version) => read(context, ring, version).await?,
        None => empty(context, names::ledger(ring)),
    };
    let wanted = private_entries(next);
    let mut data = secret.data.take().unwrap_or_default();
    data.retain(|entry, _| wanted.contains(entry));
    if let Some((number, pair)) = new
        && wanted.contains(&names::key_entry(number))
    {
        data.extend(entries(number, pair));
    }
    secret.data = Some(data);
    secret.annotations_mut().insert(names::ANNOTATION_LEDGER.to_owned(), next.to_json());
    let stored = store(context, ring, &secret, observed.ledger_version.is_some()).await?;
    let row = LedgerRow::sound(stored.resource_version().unwrap_or_default(), next.clone());
    context.cache.ledgers.put(ring, row);
    let left = observed.snapshot.ledger.table().and_then(|base| base.rule.settings.leaving);
    for policy in next.rule.settings.policies().chain(left) {
        context.policies.wake(&policy);
    }
    Ok(())
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
        .filter(|v| v.private_key().is_some_and(|key| key.secret.is_none()))
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
    let standby_secret = row.private_key().and_then(|key| key.secret.as_ref());
    let data = match standby_secret {
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
pub async fn delete_key_secret(
    context: &Context,
    ring: &RingName,
    name: &str,
) -> Result<(), Error> {
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
    if row.private_key().is_none_or(|key| key.digest != digest) {
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
async fn store_key_secret(
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
