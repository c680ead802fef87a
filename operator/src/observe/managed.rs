//! Who wrote a Secret's data, as its metadata tells without the data being read.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;
use signingkeyring_core::names;

/// Whether exactly these entries are in a Secret's data and nobody but this
/// operator wrote one.
#[must_use]
pub(crate) fn only_ours(managed: &[ManagedFieldsEntry], wanted: &BTreeSet<String>) -> bool {
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
    ours == *wanted
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    const ALL: [&str; 3] = ["cosign.key", "cosign.password", "cosign.pub"];

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

    fn intact(managed: &[ManagedFieldsEntry]) -> bool {
        only_ours(managed, &ALL.map(str::to_owned).into())
    }

    #[test]
    fn an_edit_shows_in_the_managed_fields() {
        let ours = entry(names::MANAGER, &ALL);
        assert!(intact(std::slice::from_ref(&ours)));
        assert!(!intact(&[]));
        assert!(only_ours(&[], &BTreeSet::new()));
        assert!(!intact(&[entry(names::MANAGER, &ALL[..2])]));
        assert!(!intact(&[entry(names::MANAGER, &[&ALL[..], &["more"]].concat())]));
        let edit = entry("kubectl-edit", &["cosign.key"]);
        assert!(!intact(&[entry(names::MANAGER, &ALL[1..]), edit]));
        let label = ManagedFieldsEntry {
            manager: Some("kubectl-label".to_owned()),
            fields_v1: Some(FieldsV1(json!({"f:metadata": {"f:labels": {"f:team": {}}}}))),
            ..ManagedFieldsEntry::default()
        };
        assert!(intact(&[ours, label]));
    }
}
