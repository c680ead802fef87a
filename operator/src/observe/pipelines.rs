//! What the pipeline Secrets hold.
//!
//! They are read by name at every pass, because a watch would need the right to
//! list Secrets, and as metadata as long as they are as this process has seen
//! them last: only after somebody else wrote one, its data are read once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::join_all;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt};
use signingkeyring_core::{
    ledger::{Ledger, PipelineRef, Publications, Version},
    names,
    snapshot::{Layout, LedgerFound, PipelineFound, Ring},
};
use tracing::debug;

use crate::{
    context::Context,
    error::{brief, is_code},
    keys::{self, opening_cost},
    secrets::{Content, Wiped, entries},
};

/// Looks at the pipelines of the spec and at those the ledger lists.
pub(super) async fn look(
    context: &Context,
    ring_name: &str,
    ring: &Ring,
    ledger: &LedgerFound,
) -> (BTreeMap<PipelineRef, PipelineFound>, HashMap<PipelineRef, ObjectMeta>) {
    let published = match ledger {
        LedgerFound::Present(ledger) => Some(&ledger.publications),
        _ => None,
    };
    let all: BTreeSet<&PipelineRef> =
        ring.pipelines.keys().chain(published.into_iter().flat_map(Publications::iter)).collect();
    let looks = all.into_iter().map(|pipeline| async move {
        let (found, meta) = look_at(context, ring_name, ledger, pipeline).await;
        (pipeline.clone(), found, meta)
    });
    let mut found = BTreeMap::new();
    let mut metas = HashMap::new();
    for (pipeline, what, meta) in join_all(looks).await {
        if let Some(meta) = meta {
            metas.insert(pipeline.clone(), meta);
        }
        found.insert(pipeline, what);
    }
    (found, metas)
}

async fn look_at(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipeline: &PipelineRef,
) -> (PipelineFound, Option<ObjectMeta>) {
    if !context.cache.namespaces.exists(&pipeline.namespace) {
        context.cache.contents.forget(pipeline);
        return (PipelineFound::NoNamespace, None);
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    let result = match api.get_metadata_opt(&pipeline.name).await {
        Ok(None) => {
            context.cache.contents.forget(pipeline);
            return (PipelineFound::Absent, None);
        }
        Ok(Some(secret)) => found(context, ring, ledger, pipeline, secret.metadata).await,
        Err(error) => Err(error),
    };
    match result {
        Ok((found, meta)) => (found, Some(meta)),
        Err(error) if is_rights_problem(&error) => (PipelineFound::Forbidden, None),
        Err(error) => (PipelineFound::Failed(brief(&error)), None),
    }
}

/// Whether the operator lacks a right, as opposed to a quota or a policy that
/// refuses the object: those answer with 403 too.
#[must_use]
pub fn is_rights_problem(error: &kube::Error) -> bool {
    is_code(error, 403) && brief(error).contains(" cannot ")
}

async fn found(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
    pipeline: &PipelineRef,
    meta: ObjectMeta,
) -> kube::Result<(PipelineFound, ObjectMeta)> {
    let LedgerFound::Present(ledger) = ledger else {
        let owner = annotation(&meta, names::ANNOTATION_RING);
        let found = if owner == Some(ring) {
            PipelineFound::OursUnknownKey { holds: None }
        } else {
            PipelineFound::Foreign { ring: owner.and_then(|o| o.parse().ok()), holds: None }
        };
        return Ok((found, meta));
    };
    let is_named = |meta: &ObjectMeta| annotation(meta, names::ANNOTATION_RING) == Some(ring);
    if !is_named(&meta) && !ledger.publications.contains(pipeline) {
        let ring = annotation(&meta, names::ANNOTATION_RING).and_then(|ring| ring.parse().ok());
        return Ok((PipelineFound::Foreign { ring, holds: None }, meta));
    }
    let (content, meta) = content(context, pipeline, meta).await?;
    let holds = held_version(context, ledger, pipeline, &content).await?;
    let get = |name| annotation(&meta, name);
    let found = if !is_named(&meta) {
        let ring = get(names::ANNOTATION_RING).and_then(|ring| ring.parse().ok());
        PipelineFound::Foreign { ring, holds: holds.map(|version| version.number) }
    } else {
        let named = get(names::ANNOTATION_FINGERPRINT).and_then(|text| text.parse().ok());
        let layout: Option<Layout> =
            get(names::ANNOTATION_LAYOUT).and_then(|name| name.parse().ok());
        let said = get(names::ANNOTATION_VERSION);
        match named.filter(|named| ledger.by_fingerprint(named).is_some()) {
            None => PipelineFound::OursUnknownKey { holds: holds.map(|version| version.number) },
            Some(named) => PipelineFound::Ours {
                // One that holds a version which is not accepted any more was
                // edited by nobody for that.
                intact: holds
                    .or_else(|| ledger.by_fingerprint(&named).filter(|v| !v.state().is_accepted()))
                    .is_some_and(|version| {
                        version.fingerprint == named
                            && said == Some(version.number.to_string().as_str())
                            && layout.is_some_and(|layout| content.is_exactly(layout, version))
                    }),
                holds: holds.map(|version| version.number),
                layout,
                fixed: content.fixed,
                leaving: meta.deletion_timestamp.is_some(),
            },
        }
    };
    Ok((found, meta))
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// What a Secret of this resourceVersion holds: as known, or read once.
async fn content(
    context: &Context,
    pipeline: &PipelineRef,
    meta: ObjectMeta,
) -> kube::Result<(Arc<Content>, ObjectMeta)> {
    let version = meta.resource_version.clone().unwrap_or_default();
    if let Some(content) = context.cache.contents.get(pipeline, &version) {
        return Ok((content, meta));
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    let secret = Wiped(api.get(&pipeline.name).await?);
    debug!(%pipeline, "somebody else wrote this Secret: its data were read");
    let content = Arc::new(Content::of(&secret));
    let mut meta = secret.0.metadata.clone();
    meta.managed_fields = None;
    let version = secret.0.resource_version().unwrap_or_default();
    context.cache.contents.put(pipeline, version, Arc::clone(&content));
    Ok((content, meta))
}

/// The version whose private key a Secret holds, of those that are accepted.
async fn held_version<'a>(
    context: &Context,
    ledger: &'a Ledger,
    pipeline: &PipelineRef,
    content: &Content,
) -> kube::Result<Option<&'a Version>> {
    let mut known = content.digests.iter().filter_map(|digest| ledger.by_key_digest(digest));
    if let Some(version) = known.next() {
        return Ok(Some(version));
    }
    // Of a version that an older operator has left no digest is known: the
    // boxes are opened, once for each state of the Secret.
    let mut unknown = ledger.accepted().filter(|version| version.key_digest().is_none());
    if content.digests.is_empty() || unknown.next().is_none() {
        return Ok(None);
    }
    let public = content.opened.get_or_try_init(|| open(context, pipeline)).await?;
    Ok(ledger.accepted().find(|version| public.contains(&version.public_key)))
}

/// The public keys that belong to the private keys in a Secret, of those that
/// their passwords open.
async fn open(context: &Context, pipeline: &PipelineRef) -> kube::Result<Vec<String>> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    let mut secret = Wiped(api.get(&pipeline.name).await?);
    let mut opened = Vec::new();
    for layout in Layout::ALL {
        let [private, password, _] = entries(*layout);
        let Some((sealed, password)) = secret.take(private).zip(secret.take(password)) else {
            continue;
        };
        let Ok(cost) = opening_cost(&sealed) else { continue };
        let work = move || keys::open(&sealed, &password).and_then(|key| key.public_pem());
        if let Ok(Ok(public)) = context.sealings.compute(cost, work).await {
            opened.push(public);
        }
    }
    Ok(opened)
}
