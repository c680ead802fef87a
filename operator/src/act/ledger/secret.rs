//! A ledger's Secret at the API server: read and written as it was observed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64ct::{Base64, Encoding};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_core::{
    ledger::Ledger,
    names::{self, RingName},
    snapshot::Finding,
};
use zeroize::Zeroizing;

use crate::{
    act::Halt,
    context::Context,
    error::{Error, is_code},
    keys::KeyPair,
    secrets::{self, Wiped},
};

/// Reads a ledger with its private keys, if it still is the observed one.
pub(super) async fn read(context: &Context, ring: &RingName, seen: &str) -> Result<Wiped, Error> {
    let name = names::ledger(ring);
    let secret = api(context).get(&name).await;
    let secret = Wiped(secret.map_err(|error| Error::api(format!("ledger {name}"), error))?);
    unchanged(&name, secret.0.resource_version().as_deref(), seen)?;
    Ok(secret)
}

/// Looks whether a ledger still is the observed one, without its private keys.
pub(super) async fn look(context: &Context, ring: &RingName, seen: &str) -> Result<(), Error> {
    let name = names::ledger(ring);
    let metadata = api(context).get_metadata(&name).await;
    let metadata = metadata.map_err(|error| Error::api(format!("ledger {name}"), error))?;
    unchanged(&name, metadata.resource_version().as_deref(), seen)
}

fn unchanged(name: &str, version: Option<&str>, seen: &str) -> Result<(), Error> {
    if version == Some(seen) {
        return Ok(());
    }
    Err(Error::Conflict(format!("ledger {name}")))
}

/// The private keys that a commit adds to a ledger's Secret and takes out.
#[derive(Default)]
pub(super) struct Entries<'a> {
    /// A version and its key pair.
    pub(super) added: Option<(u32, &'a KeyPair)>,
    /// By name. Of one that is not there this is no change.
    pub(super) dropped: BTreeSet<String>,
}

/// Writes a table into the ledger that was observed, without reading it.
/// Returns its new resourceVersion.
pub(super) async fn patch(
    context: &Context,
    ring: &RingName,
    seen: &str,
    next: &Ledger,
    entries: &Entries<'_>,
) -> Result<String, Halt> {
    let (name, texts) = (names::ledger(ring), texts(entries));
    let patch = Patch::Merge(merge_patch(seen, &next.to_json(), entries, &texts));
    let stored = api(context).patch_metadata(&name, &params(), &patch).await;
    let stored = stored.map_err(|error| refused(&name, error))?;
    Ok(stored.resource_version().unwrap_or_default())
}

/// The same, answered with the private keys that are there by then.
pub(super) async fn patch_and_read(
    context: &Context,
    ring: &RingName,
    seen: &str,
    next: &Ledger,
    entries: &Entries<'_>,
) -> Result<Wiped, Halt> {
    let (name, texts) = (names::ledger(ring), texts(entries));
    let patch = Patch::Merge(merge_patch(seen, &next.to_json(), entries, &texts));
    let stored = api(context).patch(&name, &params(), &patch).await;
    Ok(Wiped(stored.map_err(|error| refused(&name, error))?))
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() }
}

fn refused(name: &str, error: kube::Error) -> Halt {
    if is_code(&error, 404) {
        // Whoever deleted it has changed it.
        return Error::Conflict(format!("ledger {name}")).into();
    }
    Error::api(format!("ledger {name}"), error).into()
}

/// What is added, as JSON holds it.
fn texts(entries: &Entries<'_>) -> Vec<(String, Zeroizing<String>)> {
    let base64 = |bytes: &[u8]| Zeroizing::new(Base64::encode_string(bytes));
    let added = entries.added.iter().flat_map(|(number, pair)| {
        [
            (names::key_entry(*number), base64(pair.encrypted_pem())),
            (names::password_entry(*number), base64(pair.password())),
        ]
    });
    added.collect()
}

/// A patch that applies to this resourceVersion only.
#[derive(serde::Serialize)]
struct MergePatch<'a> {
    metadata: serde_json::Value,
    data: BTreeMap<&'a str, Option<&'a str>>,
}

/// Without the keys: the client library may print what it sends.
impl fmt::Debug for MergePatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergePatch").finish_non_exhaustive()
    }
}

fn merge_patch<'a>(
    seen: &str,
    table: &str,
    entries: &'a Entries<'_>,
    texts: &'a [(String, Zeroizing<String>)],
) -> MergePatch<'a> {
    let metadata = json!({
        "resourceVersion": seen,
        "annotations": {names::ANNOTATION_LEDGER: table},
    });
    let dropped = entries.dropped.iter().map(|name| (name.as_str(), None));
    let added = texts.iter().map(|(name, text)| (name.as_str(), Some(text.as_str())));
    MergePatch { metadata, data: dropped.chain(added).collect() }
}

/// Creates a ledger; returns its resourceVersion.
pub(super) async fn create(
    context: &Context,
    ring: &RingName,
    secret: &Wiped,
) -> Result<String, Halt> {
    let name = names::ledger(ring);
    match secrets::create(&context.client, &api(context), secret).await {
        Ok(stored) => Ok(stored.resource_version().unwrap_or_default()),
        Err(error) if is_code(&error, 409) => {
            // Of another type: metadata do not show it, and data are not needed.
            let other = format!("metadata.name={name},type!={}", names::LEDGER_TYPE);
            match api(context).list_metadata(&ListParams::default().fields(&other)).await {
                Ok(found) if !found.items.is_empty() => Err(Halt::Found(Finding::LedgerForeign)),
                _ => Err(Error::Conflict(format!("ledger {name}")).into()),
            }
        }
        Err(error) => Err(Error::api(format!("ledger {name}"), error).into()),
    }
}

pub(super) fn empty(context: &Context, name: String) -> Secret {
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

pub(super) fn api(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_names_what_it_adds_and_drops_and_the_state_it_applies_to() {
        let pair = KeyPair::generate().unwrap();
        let dropped = ["v1.key", "v1.password"].map(str::to_owned).into();
        let entries = Entries { added: Some((2, &pair)), dropped };
        let texts = texts(&entries);
        let patch = merge_patch("7", "{}", &entries, &texts);
        assert_eq!(format!("{patch:?}"), "MergePatch { .. }", "it is not printed");
        let patch = serde_json::to_value(patch).unwrap();
        assert_eq!(
            patch,
            json!({
                "metadata": {
                    "resourceVersion": "7",
                    "annotations": {names::ANNOTATION_LEDGER: "{}"},
                },
                "data": {
                    "v1.key": null,
                    "v1.password": null,
                    "v2.key": Base64::encode_string(pair.encrypted_pem()),
                    "v2.password": Base64::encode_string(pair.password()),
                },
            })
        );
    }

    #[test]
    fn a_commit_that_moves_no_key_names_none() {
        let none = Entries::default();
        let patch = merge_patch("7", "{}", &none, &[]);
        assert_eq!(serde_json::to_value(patch).unwrap()["data"], json!({}));
    }
}
