//! What verdicts depend on, read from the cluster; what cannot be read is told.

use std::collections::BTreeSet;

use kube::{ResourceExt, core::DeserializeGuard};
use signingkeyring_convert::state;
use signingkeyring_core::policy::exclusions::List;
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use signingkeyring_inspect::Key;

use super::exclusions::to_list;
use crate::{
    cluster::{Cluster, FoundRing},
    error::Error,
    policy,
    ring::{policy_kind, versions},
};

/// The exclusion lists.
#[derive(Debug, Default)]
pub struct Lists {
    /// Those that can be read.
    pub lists: Vec<List>,
    /// The names of the others, which may exclude anything.
    pub unread: Vec<String>,
    /// What cannot be read of them, and why.
    pub notes: Vec<String>,
}

impl Lists {
    /// Reads them.
    pub fn read(found: &[DeserializeGuard<ImageExclusionList>]) -> Self {
        let mut lists = Self::default();
        for found in found {
            match &found.0 {
                Ok(list) => {
                    let (list, problems) = to_list(list);
                    lists.lists.push(list);
                    lists.notes.extend(problems);
                }
                Err(invalid) => {
                    let name = found.name_any();
                    lists.notes.push(format!(
                        "list {name} cannot be read, and may exclude what seems to be refused: {}",
                        invalid.error
                    ));
                    lists.unread.push(name);
                }
            }
        }
        lists
    }
}

/// The globs that the ring's policy excludes; nothing of a ring that has none.
pub async fn in_force(
    cluster: &Cluster,
    ring: &SigningKeyRing,
) -> Result<Option<BTreeSet<String>>, Error> {
    Ok(policy::spec(cluster, ring)
        .await?
        .map(|spec| policy_kind(ring).skipped_by(&spec, &ring.name_any())))
}

/// What is lost with rings that cannot be read.
pub fn unreadable_rings(rings: &[FoundRing]) -> Vec<String> {
    let of = |found: &FoundRing| {
        let invalid = found.0.as_ref().err()?;
        let (name, why) = (found.name_any(), &invalid.error);
        Some(format!("ring {name} cannot be read, so its keys are not known here: {why}"))
    };
    rings.iter().filter_map(of).collect()
}

/// The keys of all rings. What is no key signs nothing.
pub fn keys(rings: &[FoundRing]) -> Vec<Key> {
    let readable = rings.iter().filter_map(|found| found.0.as_ref().ok());
    readable
        .flat_map(|ring| {
            let name = ring.name_any();
            versions(ring)
                .iter()
                .filter_map(|v| Key::new(&name, v.version, state(v.state), &v.public_key).ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told() {
        let list = |name: &str, images: serde_json::Value| {
            from_value(json!({
                "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "ImageExclusionList",
                "metadata": {"name": name}, "spec": {"images": images},
            }))
            .unwrap()
        };
        let read = Lists::read(&[
            list("newer", json!("all")),
            list("good", json!([{"image": "quay.io/a/*", "reason": "r"}])),
            list("odd", json!([{"image": "*", "reason": "r"}])),
        ]);
        let names: Vec<&str> = read.lists.iter().map(|list| &*list.name).collect();
        assert_eq!((names, &*read.unread), (vec!["good", "odd"], &["newer".to_owned()][..]));
        assert!(read.notes[0].starts_with("list newer cannot be read"), "{:?}", read.notes);
        assert!(read.notes[1].starts_with("list odd: image"), "{:?}", read.notes);
        let ring: FoundRing =
            from_value(json!({"metadata": {"name": "till"}, "spec": {"keepVersions": "x"}}))
                .unwrap();
        let [note] = &unreadable_rings(std::slice::from_ref(&ring))[..] else { panic!() };
        assert!(note.starts_with("ring till cannot be read"), "{note}");
        assert!(keys(&[ring]).is_empty());
    }
}
