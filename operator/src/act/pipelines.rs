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
    observe::Observed,
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
    // What others have put on the Secret (labels of their tools) stays.
    let mut labels = seen.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(names::LABEL_MANAGED_BY.to_owned(), names::MANAGER.to_owned());
    let mut annotations = seen.and_then(|meta| meta.annotations.clone()).unwrap_or_default();
    for (name, value) in [
        (names::ANNOTATION_RING, observed.snapshot.name.to_string()),
        (names::ANNOTATION_VERSION, version.to_string()),
        (names::ANNOTATION_FINGERPRINT, key.fingerprint().to_string()),
        (names::ANNOTATION_LAYOUT, layout.as_str().to_owned()),
    ] {
        annotations.insert(name.to_owned(), value);
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(pipeline.name.clone()),
            namespace: Some(pipeline.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: seen.and_then(|meta| meta.owner_references.clone()),
            finalizers: seen.and_then(|meta| meta.finalizers.clone()),
            resource_version: seen.and_then(|meta| meta.resource_version.clone()),
            uid: seen.and_then(|meta| meta.uid.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some(secrets::TYPE.to_owned()),
        ..Secret::default()
    };
    let secret = Wiped(secret);
    let (client, api) = (&context.client, api(context, pipeline));
    let result = match seen {
        Some(_) => secrets::replace(client, &api, &pipeline.name, &secret).await,
        None => secrets::create(client, &api, &secret).await,
    };
    let stored = result.map_err(|error| Error::api(named(pipeline), error))?;
    let version = stored.resource_version().unwrap_or_default();
    context.cache.contents.put(pipeline, version, Arc::new(Content::of(&secret)));
    let stored = ObjectMeta { managed_fields: None, ..stored.metadata };
    context.cache.looks.wrote(observed.snapshot.name.as_str(), pipeline, stored);
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
