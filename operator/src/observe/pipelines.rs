//! What the pipeline Secrets hold, from their metadata alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::join_all;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, core::PartialObjectMeta};
use signingkeyring_core::{
    ledger::{PipelineRef, Publications},
    names,
    snapshot::{Layout, LedgerFound, PipelineFound, Ring},
};

use super::managed::only_ours;
use crate::{
    context::Context,
    error::{brief, is_code},
};

/// Looks at the pipelines of the spec and at those the ledger lists. They are
/// read by name at every pass because a watch would need the right to list
/// Secrets.
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
        return (PipelineFound::NoNamespace, None);
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &pipeline.namespace);
    match api.get_metadata_opt(&pipeline.name).await {
        Ok(None) => (PipelineFound::Absent, None),
        Ok(Some(secret)) => (found(&secret, ring, ledger), Some(secret.metadata)),
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

fn found(secret: &PartialObjectMeta<Secret>, ring: &str, ledger: &LedgerFound) -> PipelineFound {
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let get = |key: &str| annotations.get(key).map(String::as_str);
    if get(names::ANNOTATION_RING) != Some(ring) {
        return PipelineFound::Foreign;
    }
    let LedgerFound::Present(ledger) = ledger else {
        return PipelineFound::OursUnknownKey;
    };
    let fingerprint = get(names::ANNOTATION_FINGERPRINT).and_then(|text| text.parse().ok());
    let Some(fingerprint) = fingerprint.filter(|f| ledger.by_fingerprint(f).is_some()) else {
        return PipelineFound::OursUnknownKey;
    };
    let layout: Option<Layout> = get(names::ANNOTATION_LAYOUT).and_then(|name| name.parse().ok());
    let managed = secret.metadata.managed_fields.as_deref().unwrap_or_default();
    let intact =
        layout.is_some_and(|layout| only_ours(managed, &entries(layout).map(str::to_owned).into()));
    PipelineFound::Ours { fingerprint, layout, intact }
}

/// The names of a layout's entries: private key, password, public key.
#[must_use]
pub(crate) fn entries(layout: Layout) -> [&'static str; 3] {
    match layout {
        Layout::Cosign => ["cosign.key", "cosign.password", "cosign.pub"],
        Layout::Environment => ["COSIGN_PRIVATE_KEY", "COSIGN_PASSWORD", "COSIGN_PUBLIC_KEY"],
    }
}
