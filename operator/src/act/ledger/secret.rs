//! A ledger's Secret at the API server: read and written as it was observed.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt, api::PostParams};
use signingkeyring_core::{
    names::{self, RingName},
    snapshot::Finding,
};

use crate::{
    act::Halt,
    context::Context,
    error::{Error, is_code},
};

pub(super) async fn read(context: &Context, ring: &RingName, seen: &str) -> Result<Secret, Error> {
    let name = names::ledger(ring);
    let what = || format!("ledger {name}");
    let secret = api(context).get(&name).await.map_err(|error| Error::api(what(), error))?;
    if secret.resource_version().as_deref() != Some(seen) {
        return Err(Error::Conflict(what()));
    }
    Ok(secret)
}

pub(super) async fn store(
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
