//! Pipeline Secrets: written and deleted only if they are ours, and only in
//! the state that was observed.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use signingkeyring_core::{ledger::PipelineRef, names, snapshot::Layout};

use crate::{
    context::Context,
    error::{Error, is_code},
    keys::KeyPair,
    observe::{Observed, annotations, kept},
    secrets::{self, Content, Wiped, entries},
};

/// What errors call a pipeline's Secret.
pub(super) fn named(pipeline: &PipelineRef) -> String {
    format!("Secret {pipeline}")
}

/// Writes a version's key pair into a pipeline Secret.
///
/// # Errors
/// If the Secret changed since it was observed, or the API server refuses.
pub(super) async fn write(
    context: &Context,
    observed: &Observed,
    pipeline: &PipelineRef,
    layout: Layout,
    version: u32,
    key: &KeyPair,
) -> Result<(), Error> {
    let [private, password, public] = entries(layout);
    let data = BTreeMap::from([
        (private.to_owned(), ByteString(key.encrypted_pem().to_vec())),
        (password.to_owned(), ByteString(key.password().to_vec())),
        (public.to_owned(), ByteString(key.public_pem().as_bytes().to_vec())),
    ]);
    let seen = observed.secrets.get(pipeline);
    let label = (names::LABEL_MANAGED_BY.to_owned(), names::MANAGER.to_owned());
    let ring = observed.snapshot.name.as_str();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(pipeline.name.clone()),
            namespace: Some(pipeline.namespace.clone()),
            labels: Some([label].into()),
            annotations: Some(annotations(ring, version, key.fingerprint(), layout)),
            resource_version: seen.and_then(|meta| meta.resource_version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some(secrets::TYPE.to_owned()),
        ..Secret::default()
    };
    let secret = Wiped(secret);
    let api = api(context, pipeline);
    let result = match seen {
        Some(seen) => {
            let seen = seen.resource_version.as_deref().unwrap_or_default();
            let content = context.cache.contents.get(pipeline, seen);
            let content = content.ok_or_else(|| Error::Conflict(named(pipeline)))?;
            // Until it is known what became of this.
            context.cache.contents.set_intact(pipeline, seen, false);
            secrets::change(&api, &secret, content.but_of(layout)).await
        }
        None => secrets::create(&context.client, &api, &secret).await,
    };
    let stored = match result {
        Ok(stored) => stored,
        // Whoever deleted it has changed it. A namespace that is gone is seen to be.
        Err(error) if seen.is_some() && is_code(&error, 404) => {
            return Err(Error::Conflict(named(pipeline)));
        }
        Err(error) => return Err(Error::api(named(pipeline), error)),
    };
    let version = stored.resource_version().unwrap_or_default();
    let contents = &context.cache.contents;
    contents.put(pipeline, version.clone(), Arc::new(Content::of(&secret)));
    contents.set_intact(pipeline, &version, true);
    context.cache.looks.wrote(ring, pipeline, kept(stored.metadata));
    Ok(())
}

/// Deletes a pipeline Secret of ours.
///
/// # Errors
/// If it changed since it was observed, or the API server refuses.
pub async fn delete(
    context: &Context,
    observed: &Observed,
    pipeline: &PipelineRef,
) -> Result<(), Error> {
    let seen = observed.secrets.get(pipeline);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: seen.and_then(|meta| meta.uid.clone()),
            resource_version: seen.and_then(|meta| meta.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    match api(context, pipeline).delete(&pipeline.name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, 404) => Ok(()),
        Err(error) => Err(Error::api(named(pipeline), error)),
    }
}

fn api(context: &Context, pipeline: &PipelineRef) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &pipeline.namespace)
}
