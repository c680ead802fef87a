//! What the metadata of a pipeline's Secret say of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use signingkeyring_core::{fingerprint::Fingerprint, names, snapshot::Layout};

/// The annotations of a Secret that holds a version of a ring.
pub(crate) fn annotations(
    ring: &str,
    version: u32,
    fingerprint: &Fingerprint,
    layout: Layout,
) -> BTreeMap<String, String> {
    let annotations = [
        (names::ANNOTATION_RING, ring.to_owned()),
        (names::ANNOTATION_VERSION, version.to_string()),
        (names::ANNOTATION_FINGERPRINT, fingerprint.to_string()),
        (names::ANNOTATION_LAYOUT, layout.as_str().to_owned()),
    ];
    annotations.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What is kept of a Secret's metadata: others write whole Secrets into annotations.
pub(crate) fn kept(meta: ObjectMeta) -> ObjectMeta {
    let annotations = meta.annotations.map(|mut annotations| {
        annotations.retain(|name, _| OURS.contains(&name.as_str()));
        annotations
    });
    ObjectMeta {
        annotations,
        uid: meta.uid,
        resource_version: meta.resource_version,
        deletion_timestamp: meta.deletion_timestamp,
        ..ObjectMeta::default()
    }
}

/// The annotations that say what a pipeline's Secret holds.
const OURS: [&str; 4] = [
    names::ANNOTATION_RING,
    names::ANNOTATION_VERSION,
    names::ANNOTATION_FINGERPRINT,
    names::ANNOTATION_LAYOUT,
];

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_into_annotations_is_not_kept() {
        let annotations = [
            ("kubectl.kubernetes.io/last-applied-configuration", "cosign.key: a key"),
            (names::ANNOTATION_RING, "shop"),
        ];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let meta = ObjectMeta {
            annotations: Some(annotations.into()),
            labels: Some([("a".to_owned(), "b".to_owned())].into()),
            resource_version: Some("7".to_owned()),
            ..ObjectMeta::default()
        };
        let kept = kept(meta);
        assert_eq!(annotation(&kept, names::ANNOTATION_RING), Some("shop"));
        assert_eq!(kept.annotations.map(|kept| kept.len()), Some(1));
        assert_eq!((kept.resource_version.as_deref(), kept.labels), (Some("7"), None));
    }
}
