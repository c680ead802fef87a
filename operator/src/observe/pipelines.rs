//! What the pipeline Secrets hold, from their metadata alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use kube::{Api, core::PartialObjectMeta};
use serde_json::Value;
use signingkeyring_core::{
    ledger::PipelineRef,
    names,
    snapshot::{Layout, LedgerFound, PipelineFound, Ring},
};

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
        ring.pipelines.keys().chain(published.into_iter().flatten()).collect();
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
    let fingerprint = get(names::ANNOTATION_FINGERPRINT).unwrap_or_default();
    if ledger.by_fingerprint(fingerprint).is_none() {
        return PipelineFound::OursUnknownKey;
    }
    let layout = match get(names::ANNOTATION_LAYOUT) {
        Some("Cosign") => Some(Layout::Cosign),
        Some("Environment") => Some(Layout::Environment),
        _ => None,
    };
    let managed = secret.metadata.managed_fields.as_deref().unwrap_or_default();
    let intact = layout.is_some_and(|layout| only_ours(managed, layout));
    PipelineFound::Ours { fingerprint: fingerprint.to_owned(), layout, intact }
}

/// Whether exactly the entries of the layout are in the Secret's data and
/// nobody else wrote one. The metadata says so without the data being read.
fn only_ours(managed: &[ManagedFieldsEntry], layout: Layout) -> bool {
    let mut ours = BTreeSet::new();
    for entry in managed {
        let Some(fields) = entry.fields_v1.as_ref() else { continue };
        let keys = match fields.0.get("f:data") {
            Some(Value::Object(keys)) => keys,
            _ => continue,
        };
        if entry.manager.as_deref() != Some(names::MANAGER) {
            return false;
        }
        ours.extend(keys.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned));
    }
    let wanted: BTreeSet<String> = entries(layout).map(str::to_owned).into();
    ours == wanted
}

/// The names of a layout's entries: private key, password, public key.
#[must_use]
pub(crate) fn entries(layout: Layout) -> [&'static str; 3] {
    match layout {
        Layout::Cosign => ["cosign.key", "cosign.password", "cosign.pub"],
        Layout::Environment => ["COSIGN_PRIVATE_KEY", "COSIGN_PASSWORD", "COSIGN_PUBLIC_KEY"],
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, keys: &[&str]) -> ManagedFieldsEntry {
        let data: serde_json::Map<String, Value> = std::iter::once((".".to_owned(), json!({})))
            .chain(keys.iter().map(|key| (format!("f:{key}"), json!({}))))
            .collect();
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            fields_v1: Some(FieldsV1(json!({"f:data": data}))),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn an_edit_shows_in_the_managed_fields() {
        let all = entries(Layout::Cosign);
        let ours = entry(names::MANAGER, &all);
        assert!(only_ours(std::slice::from_ref(&ours), Layout::Cosign));
        assert!(!only_ours(&[], Layout::Cosign));
        assert!(!only_ours(std::slice::from_ref(&ours), Layout::Environment));
        assert!(!only_ours(&[entry(names::MANAGER, &all[..2])], Layout::Cosign));
        let edit = entry("kubectl-edit", &["cosign.key"]);
        assert!(!only_ours(&[entry(names::MANAGER, &all[1..]), edit], Layout::Cosign));
        let label = ManagedFieldsEntry {
            manager: Some("kubectl-label".to_owned()),
            fields_v1: Some(FieldsV1(json!({"f:metadata": {"f:labels": {"f:team": {}}}}))),
            ..ManagedFieldsEntry::default()
        };
        assert!(only_ours(&[ours, label], Layout::Cosign));
    }
}
