//! What needs no signature in a ring's namespaces.

use jiff::Timestamp;
use kube::ResourceExt;
use signingkeyring_convert::exclusion;
use signingkeyring_crds::{ImageExclusion, ImageExclusionList, SigningKeyRing};
use signingkeyring_inspect::{Excluded, Image, Pattern, PolicyKind};

/// The exclusions that count, with who says so.
pub struct Exclusions {
    lists: Vec<ImageExclusionList>,
    own: Vec<ImageExclusion>,
    ring: String,
    now: Timestamp,
}

impl Exclusions {
    /// Those of the lists and of the ring.
    pub fn new(lists: Vec<ImageExclusionList>, ring: &SigningKeyRing, now: Timestamp) -> Self {
        Self { lists, own: ring.spec.policy.exclude.clone(), ring: ring.name_any(), now }
    }

    /// The same with another list in the place of the one of its name, or beside the others.
    #[must_use]
    pub fn with(&self, list: ImageExclusionList) -> Self {
        let mut lists = self.lists.clone();
        lists.retain(|old| old.name_any() != list.name_any());
        lists.push(list);
        Self { lists, own: self.own.clone(), ring: self.ring.clone(), now: self.now }
    }

    /// The exclusion that has the most to say of an image.
    pub fn find(&self, kind: PolicyKind, image: &Image) -> Option<(Excluded, String)> {
        let listed = self.lists.iter().flat_map(|list| {
            let name = list.name_any();
            list.spec.images.iter().map(move |entry| (entry, format!("list {name}")))
        });
        let own = self.own.iter().map(|entry| (entry, format!("ring {}", self.ring)));
        let judged = listed.chain(own).filter_map(|(entry, from)| {
            let read = exclusion(entry).ok().filter(|read| read.counts(self.now))?;
            let excluded = Pattern::parse(&read.image).ok()?.excludes(kind, image);
            (excluded != Excluded::No).then(|| (excluded, format!("{} of {from}", entry.image)))
        });
        judged.max_by_key(|(excluded, _)| *excluded)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use signingkeyring_crds::VersionState;

    use super::*;
    use crate::ring::tests::ring;

    fn list(name: &str, image: &str, expires: Option<&str>) -> ImageExclusionList {
        let entry = json!({"image": image, "reason": "r", "expires": expires});
        serde_json::from_value(json!({
            "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "ImageExclusionList",
            "metadata": {"name": name}, "spec": {"images": [entry]},
        }))
        .unwrap()
    }

    #[test]
    fn a_list_that_is_tried_takes_the_place_of_its_namesake() {
        let lists = vec![list("a", "quay.io/a/*", None), list("b", "redis:7", Some("2026-11-23"))];
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let exclusions = Exclusions::new(lists, &ring(&[VersionState::Current]), now);
        let found = |exclusions: &Exclusions, image: &str| {
            let image = Image::parse(image).unwrap();
            exclusions.find(PolicyKind::ClusterPolicy, &image).map(|(_, by)| by)
        };
        assert_eq!(found(&exclusions, "quay.io/a/b"), Some("quay.io/a/* of list a".to_owned()));
        // It has expired.
        assert_eq!(found(&exclusions, "redis:7"), None);
        let tried = exclusions.with(list("a", "ghcr.io/x/*", None));
        assert_eq!(found(&tried, "quay.io/a/b"), None);
        assert_eq!(found(&tried, "ghcr.io/x/y"), Some("ghcr.io/x/* of list a".to_owned()));
    }
}
