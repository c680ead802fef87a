//! The ledgers' Secrets, and those of standby keys: the only place that reads
//! and writes private keys at rest.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::ByteString;
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};
use signingkeyring_core::{
    ledger::{Cause, Change, Damage, Ledger, Mint, NewKey, PrivateKeyRef, Version},
    names::{self, RingName},
    policy_ref::PolicyRef,
    snapshot::{Finding, LedgerFound},
};
use tokio::time::Instant;

use super::{Halt, import, place};
use crate::{
    cache::{KeySecretRow, LedgerRow},
    context::Context,
    error::{Error, is_code},
    handover::HeldKey,
    keys::{KeyPair, digest_of},
    observe::Observed,
    secrets::{self, Wiped},
};

mod secret;

use secret::{Entries, api, empty, look, read};

/// Commits a new version, with the key pair that it gets here.
///
/// # Errors
/// If there is no key pair, or not yet, or as [`commit`].
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
        Mint::New { .. } | Mint::Recover(_) => ordered(context, observed, mint)?,
    };
    let number = mint.version();
    let secret = match mint {
        Mint::New { cause: Cause::Standby, .. } => {
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
    let written = write(context, observed, &next, Some((number, &pair))).await;
    place::settle(claim, &written);
    written.map(|()| next)
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
        Change::Rule(rule) | Change::Begin { rule, .. } => {
            place::claim(context, observed, base, rule)?
        }
        _ => None,
    };
    let next = Ledger::apply(base, change, context.clock.now()).map_err(Error::from)?;
    let written = match change {
        Change::Acknowledge { version, .. } => {
            acknowledge(context, observed, &next, *version).await
        }
        _ => write(context, observed, &next, None).await,
    };
    place::settle(claim, &written);
    written.map(|()| next)
}

fn base(observed: &Observed) -> Result<Option<&Ledger>, Halt> {
    match &observed.snapshot.ledger {
        LedgerFound::Foreign => Err(Halt::Found(Finding::LedgerForeign)),
        found => Ok(found.table()),
    }
}

/// Writes the ledger as it was observed with a new table, or creates it. Private
/// keys that the new table does not call for are gone with the same write.
async fn write(
    context: &Context,
    observed: &Observed,
    next: &Ledger,
    new: Option<(u32, &KeyPair)>,
) -> Result<(), Halt> {
    let ring = &observed.snapshot.name;
    let wanted = private_entries(next);
    let added = new.filter(|(number, _)| wanted.contains(&names::key_entry(*number)));
    let version = match &observed.ledger_version {
        Some(seen) => {
            let dropped = &held(context, observed, seen).await? - &wanted;
            secret::patch(context, ring, seen, next, &Entries { added, dropped }).await?
        }
        None => {
            let mut secret = Wiped(empty(context, names::ledger(ring)));
            secret.0.data = added.map(|(number, pair)| entries(number, pair).into());
            let annotations = secret.0.annotations_mut();
            annotations.insert(names::ANNOTATION_LEDGER.to_owned(), next.to_json());
            secret::create(context, ring, &secret).await?
        }
    };
    take_in(context, observed, next, version);
    Ok(())
}

/// Writes down that Kyverno has acknowledged a version. The answer brings its private key,
/// which the pipelines are given next: nobody has to read it for that.
async fn acknowledge(
    context: &Context,
    observed: &Observed,
    next: &Ledger,
    version: u32,
) -> Result<(), Halt> {
    let row = next.by_number(version).filter(|row| has_key_here(row));
    let (Some(seen), Some(row)) = (&observed.ledger_version, row) else {
        return write(context, observed, next, None).await;
    };
    let (ring, seen_at) = (&observed.snapshot.name, Instant::now());
    let dropped = &held(context, observed, seen).await? - &private_entries(next);
    let entries = Entries { added: None, dropped };
    let mut secret = secret::patch_and_read(context, ring, seen, next, &entries).await?;
    let stored = secret.0.resource_version().unwrap_or_default();
    // What is wrong with it is found by who reads it for a pipeline.
    if let Ok(pair) = take(&mut secret, row) {
        let key = HeldKey { version, pair, seen_at };
        context.handover.offer(ring.as_str(), stored.clone(), key);
    }
    take_in(context, observed, next, stored);
    Ok(())
}

/// Takes in a table that was written.
fn take_in(context: &Context, observed: &Observed, next: &Ledger, version: String) {
    context.cache.ledgers.put(&observed.snapshot.name, LedgerRow::sound(version, next.clone()));
    let base = observed.snapshot.ledger.table();
    let left = base.and_then(|base| base.rule.settings.leaving).map(|left| left.policy);
    let revokes = base.is_some_and(|base| base.revoked != next.revoked);
    for policy in next.rule.settings.policies().chain(left) {
        // What is revoked leaves the policies before anything else is done there.
        if revokes {
            context.policies.wake_urgently(&policy);
        } else {
            context.policies.wake_with_news(&policy);
        }
    }
}

/// The entries that an observed ledger may hold: those of its table's versions.
/// One that is damaged may hold any, so it is looked.
async fn held(
    context: &Context,
    observed: &Observed,
    seen: &str,
) -> Result<BTreeSet<String>, Error> {
    if let LedgerFound::Present(base) = &observed.snapshot.ledger {
        return Ok(may_hold(base));
    }
    let secret = read(context, &observed.snapshot.name, seen).await?;
    Ok(secret.0.data.iter().flat_map(|data| data.keys().cloned()).collect())
}

/// The entries of a ledger's data: a private key and its password for each
/// version that has one there.
fn private_entries(ledger: &Ledger) -> BTreeSet<String> {
    let here = ledger.versions.iter().filter(|version| has_key_here(version));
    here.flat_map(|v| [names::key_entry(v.number), names::password_entry(v.number)]).collect()
}

/// Whether a version's private key is in the ledger's Secret.
fn has_key_here(version: &Version) -> bool {
    version.private_key().is_some_and(|key| key.secret.is_none())
}

fn may_hold(table: &Ledger) -> BTreeSet<String> {
    let numbers = table.versions.iter().map(|version| version.number);
    numbers.flat_map(|number| [names::key_entry(number), names::password_entry(number)]).collect()
}

/// Looks whether a ledger holds the private keys that its table says, where
/// somebody else than this operator wrote them (a restore, an edit). `by` is the policy for
/// which it is looked, if it is one: the others of the ring are woken.
///
/// # Errors
/// If it cannot be read, or has changed meanwhile.
pub async fn check(
    context: &Context,
    ring: &RingName,
    row: &LedgerRow,
    by: Option<PolicyRef>,
) -> Result<(), Error> {
    let Some(table) = row.unchecked() else { return Ok(()) };
    let mut secret = read(context, ring, &row.resource_version).await?;
    let unfit = table
        .versions
        .iter()
        .filter(|version| has_key_here(version))
        .find_map(|version| take(&mut secret, version).err());
    let version = row.resource_version.clone();
    let row = match unfit {
        None => LedgerRow::sound(version, Ledger::clone(table)),
        Some(why) => {
            let damage = Damage::KeysUnfit { why, table: Arc::clone(table) };
            LedgerRow::damaged(version, damage)
        }
    };
    context.cache.ledgers.put(ring, row);
    for policy in table.rule.settings.policies().filter(|policy| Some(*policy) != by) {
        context.policies.wake(&policy);
    }
    Ok(())
}

/// Looks whether the Secrets of standby keys hold what the ledger says, where
/// somebody else than this process wrote them.
///
/// # Errors
/// If one cannot be read.
pub async fn check_key_secrets(context: &Context, ring: &RingName) -> Result<(), Error> {
    let known = context.cache.ledgers.key_secrets(ring);
    if known.values().all(|row| row.is_fit.is_some()) {
        return Ok(());
    }
    let Some(row) = context.cache.ledgers.get(ring.as_str()) else { return Ok(()) };
    for version in row.table().iter().flat_map(|table| &table.versions) {
        let Some(name) = version.private_key().and_then(|key| key.secret.as_ref()) else {
            continue;
        };
        let Some(unchecked) = known.get(name).filter(|row| row.is_fit.is_none()) else { continue };
        let found = api(context).get_opt(name).await;
        let found = found.map_err(|error| Error::api(format!("Secret {name}"), error))?;
        let Some(found) = found else { continue };
        let resource_version = found.resource_version().unwrap_or_default();
        let is_fit = Some(take(&mut Wiped(found), version).is_ok());
        let row = KeySecretRow { resource_version, is_fit, ..unchecked.clone() };
        context.cache.ledgers.put_key_secret(ring, name, row);
    }
    Ok(())
}

/// So long a ledger counts as what it was seen to be. A write takes as long.
const MOMENT: Duration = Duration::from_secs(1);

/// The key pair of a version, for a pipeline: `held`, or what the commit before has brought,
/// if that is it and the ledger is as it was observed.
///
/// # Errors
/// If the ledger has changed since it was observed, or does not hold the key
/// that its table says it holds.
pub(super) async fn key(
    context: &Context,
    observed: &Observed,
    version: u32,
    held: Option<HeldKey>,
) -> Result<HeldKey, Halt> {
    let ring = &observed.snapshot.name;
    let seen = observed.ledger_version.as_deref().unwrap_or_default();
    let seen_at = Instant::now();
    let held = held.or_else(|| context.handover.take(ring.as_str(), seen));
    if let Some(held) = held.filter(|held| held.version == version) {
        if held.seen_at.elapsed() < MOMENT {
            return Ok(held);
        }
        look(context, ring, seen).await?;
        return Ok(HeldKey { seen_at, ..held });
    }
    let damaged = |why| Halt::Found(Finding::LedgerDamaged(why));
    let unknown = || damaged(format!("version {version} is not known"));
    let LedgerFound::Present(ledger) = &observed.snapshot.ledger else { return Err(unknown()) };
    let row = ledger.by_number(version).ok_or_else(unknown)?;
    let standby_secret = row.private_key().and_then(|key| key.secret.as_ref());
    let mut secret = match standby_secret {
        None => read(context, ring, seen).await?,
        Some(name) => {
            look(context, ring, seen).await?;
            let found = api(context).get_opt(name).await;
            let found = found.map_err(|error| Error::api(format!("Secret {name}"), error))?;
            Wiped(found.unwrap_or_default())
        }
    };
    match take(&mut secret, row) {
        Ok(pair) => Ok(HeldKey { version, pair, seen_at }),
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
    // The last word on a policy in which no ring is left.
    let table = observed.snapshot.ledger.table();
    for policy in table.into_iter().flat_map(|table| table.rule.settings.policies()) {
        context.policies.wake(&policy);
    }
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

/// The key pair that the ring has ordered.
fn ordered(context: &Context, observed: &Observed, mint: &Mint) -> Result<KeyPair, Halt> {
    let ring = observed.snapshot.name.as_str();
    let table = observed.snapshot.ledger.table();
    let replaces = matches!(mint, Mint::New { cause: Cause::Revocation, .. });
    let is_urgent = replaces || context.rings.is_urgent(ring);
    let policy = table.map(|table| table.rule.settings.policy);
    let key = context.key_orders.take_or_order(ring, policy, is_urgent);
    Ok(key.ok_or(Halt::AwaitsKey)??)
}

/// A version's key pair out of a Secret's data, if it is the one that the
/// table means.
fn take(secret: &mut Wiped, row: &Version) -> Result<KeyPair, String> {
    let number = row.number;
    let mut entry = |name: &str| secret.take(name);
    let private = entry(&names::key_entry(number))
        .ok_or_else(|| format!("the private key of version {number} is missing"))?;
    let password = entry(&names::password_entry(number))
        .ok_or_else(|| format!("the password of version {number} is missing"))?;
    let digest = digest_of(&private, &password);
    if row.private_key().is_none_or(|key| key.digest != digest) {
        return Err(format!("the private key of version {number} does not fit its public key"));
    }
    Ok(KeyPair::stored(private, password, row.public_key.to_string(), row.fingerprint.clone()))
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
    let created = secrets::create(&context.client, &api(context), &Wiped(secret)).await;
    let created = created.map_err(|error| Error::api(format!("Secret {name}"), error))?;
    let resource_version = created.resource_version().unwrap_or_default();
    let row = KeySecretRow { sequence, resource_version, is_fit: Some(true) };
    context.cache.ledgers.put_key_secret(ring, &name, row);
    Ok(name)
}

#[cfg(test)]
mod tests;
