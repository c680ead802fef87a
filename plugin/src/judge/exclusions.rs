//! What needs no signature in a ring's namespaces, as core selects it for the policies.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use signingkeyring_convert::exclusion;
use signingkeyring_core::{
    images::Cover,
    ledger::Exclusion,
    policy::{
        exclusions::{List, select},
        packing::Room,
    },
};
use signingkeyring_crds::{ImageExclusion, ImageExclusionList, SigningKeyRing};
use signingkeyring_inspect::{Excluded, Image, Pattern, PolicyKind};

/// The exclusions of the lists and of a ring, with who says so and whether they count.
pub struct Exclusions {
    lists: Vec<List>,
    own: Vec<Exclusion>,
    ring: String,
    now: Timestamp,
    /// The globs that the ring's policy has, if that can be seen.
    in_force: Option<BTreeSet<String>>,
    entries: Vec<Entry>,
    /// How many bytes what counts of the lists takes up.
    bytes: usize,
}

struct Entry {
    pattern: Pattern,
    /// As it is written.
    image: String,
    /// The list that has it; of the ring's own there is none.
    list: Option<String>,
    standing: Standing,
}

/// Whether an exclusion counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Counts,
    Expired,
    /// It does not fit beside the others.
    NoRoom,
    /// The policy does not have it.
    NotWritten,
}

impl Exclusions {
    /// Those of the lists and of the ring. `in_force` has the globs of its policy, if that
    /// can be seen: of the lists nothing counts that is not there.
    pub fn new(
        lists: Vec<List>,
        ring: &SigningKeyRing,
        now: Timestamp,
        in_force: Option<BTreeSet<String>>,
    ) -> Self {
        let own = read(&ring.spec.policy.exclude).0;
        let mut new = Self::of(lists, own, ring.name_any(), now, in_force);
        new.leave_out_what_is_not_written(None);
        new
    }

    fn of(
        lists: Vec<List>,
        own: Vec<Exclusion>,
        ring: String,
        now: Timestamp,
        in_force: Option<BTreeSet<String>>,
    ) -> Self {
        // The operator's settings are not to be seen from here.
        let selection =
            select(lists.clone(), Room::usual(), now, || in_force.clone().unwrap_or_default());
        let bytes = selection.bytes;
        let standing = |exclusion: &Exclusion| match exclusion.counts(now) {
            true => Standing::Counts,
            false => Standing::Expired,
        };
        let counting = selection.counting.into_iter().map(|(list, exclusion)| {
            let standing = standing(&exclusion);
            (exclusion, Some(list), standing)
        });
        let left_out = selection.too_large.into_iter().flat_map(|large| {
            let (list, left_out) = (large.list, large.left_out.into_iter());
            left_out.map(move |exclusion| (exclusion, Some(list.clone()), Standing::NoRoom))
        });
        let of_ring = own.iter().cloned().map(|exclusion| {
            let standing = standing(&exclusion);
            (exclusion, None, standing)
        });
        let entry = |(exclusion, list, standing): (Exclusion, Option<String>, Standing)| {
            let pattern = Pattern::parse(&exclusion.image).ok()?;
            Some(Entry { pattern, image: exclusion.image, list, standing })
        };
        let entries = counting.chain(left_out).chain(of_ring).filter_map(entry).collect();
        Self { entries, bytes, lists, own, ring, now, in_force }
    }

    /// The operator may have less room than it has by default, and writes a list some time
    /// after it was made. One list may be tried as if it had.
    fn leave_out_what_is_not_written(&mut self, tried: Option<&str>) {
        let Some(in_force) = &self.in_force else { return };
        let is_there =
            |pattern: &&Pattern| pattern.spellings().iter().all(|glob| in_force.contains(glob));
        let patterns = self.entries.iter().map(|entry| &entry.pattern);
        let written: Cover = patterns.filter(is_there).cloned().collect();
        let counting = self.entries.iter_mut().filter(|e| e.standing == Standing::Counts);
        let is_tried = |entry: &Entry| tried.is_some() && entry.list.as_deref() == tried;
        for entry in counting.filter(|e| !is_tried(e) && !written.covers(&e.pattern)) {
            entry.standing = Standing::NotWritten;
        }
    }

    /// What is said if it matters how much room the operator has.
    pub fn doubt(&self) -> Option<String> {
        let left_out = self.entries.iter().any(|entry| entry.standing == Standing::NoRoom);
        let Room { new: usual, .. } = Room::usual();
        (left_out || self.bytes > Room::least().new).then(|| {
            format!(
                "how much room the operator has for exclusion lists is not seen from here \
                 (--rings-per-policy, --bytes-per-policy): its default is assumed, {usual} bytes, \
                 of which these take up {}",
                self.bytes
            )
        })
    }

    /// The same with another list in the place of the one of its name, or beside the others.
    #[must_use]
    pub fn with(&self, list: &ImageExclusionList) -> Self {
        let mut list = to_list(list).0;
        let name = list.name.clone();
        let mut lists = self.lists.clone();
        let namesake = lists.iter().find(|old| old.name == list.name);
        list.created = namesake.and_then(|old| old.created);
        lists.retain(|old| old.name != list.name);
        lists.push(list);
        let in_force = self.in_force.clone().unwrap_or_else(|| {
            // What counts is, for all that is known.
            let counting = self.entries.iter().filter(|e| e.standing == Standing::Counts);
            counting.flat_map(|entry| entry.pattern.spellings()).collect()
        });
        let mut with =
            Self::of(lists, self.own.clone(), self.ring.clone(), self.now, Some(in_force));
        with.leave_out_what_is_not_written(Some(&name));
        with
    }

    /// The exclusion that has the most to say of an image.
    pub fn find(&self, kind: PolicyKind, image: &Image) -> Option<(Excluded, String)> {
        let counting = self.entries.iter().filter(|entry| entry.standing == Standing::Counts);
        let judged = counting.filter_map(|entry| {
            let excluded = entry.pattern.excludes(kind, image);
            (excluded != Excluded::No).then(|| (excluded, self.said(entry)))
        });
        judged.max_by_key(|(excluded, _)| *excluded)
    }

    /// An entry, and whose it is.
    fn said(&self, Entry { image, list, .. }: &Entry) -> String {
        match list {
            Some(list) => format!("{image} of list {list}"),
            None => format!("{image} of ring {}", self.ring),
        }
    }

    /// Why one that is about an image does not count.
    pub fn void(&self, kind: PolicyKind, image: &Image) -> Option<String> {
        let mut void = self.entries.iter().filter_map(|entry| {
            let why = match entry.standing {
                Standing::Counts => return None,
                Standing::Expired => "has expired",
                Standing::NoRoom => {
                    "does not count, because the lists are larger than there is room for"
                }
                Standing::NotWritten if entry.list.is_none() => "is not in the ring's policy yet",
                Standing::NotWritten => {
                    "is not in the ring's policy: it is new, or there is no room for it (kubectl \
                     describe iel)"
                }
            };
            let is_about = entry.pattern.excludes(kind, image) != Excluded::No;
            is_about.then(|| format!("{} {why}", self.said(entry)))
        });
        void.next()
    }
}

/// A list as core has it, and what of it cannot be read, which does not count.
pub fn to_list(list: &ImageExclusionList) -> (List, Vec<String>) {
    let name = list.name_any();
    let (exclusions, problems) = read(&list.spec.images);
    let problems = problems.into_iter().map(|problem| format!("list {name}: {problem}")).collect();
    let created = list.creation_timestamp().map(|created| created.0);
    (List { name, created, exclusions, remembered: false }, problems)
}

fn read(entries: &[ImageExclusion]) -> (Vec<Exclusion>, Vec<String>) {
    let (mut exclusions, mut problems) = (Vec::new(), Vec::new());
    for entry in entries {
        match exclusion(entry) {
            Ok(exclusion) => exclusions.push(exclusion),
            Err(problem) => problems.push(problem),
        }
    }
    (exclusions, problems)
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

    fn exclusions(lists: &[ImageExclusionList], in_force: Option<BTreeSet<String>>) -> Exclusions {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let lists = lists.iter().map(|list| to_list(list).0).collect();
        Exclusions::new(lists, &ring(&[VersionState::Current]), now, in_force)
    }

    fn found(exclusions: &Exclusions, image: &str) -> Option<String> {
        let image = Image::parse(image).unwrap();
        exclusions.find(PolicyKind::ClusterPolicy, &image).map(|(_, by)| by)
    }

    fn void(exclusions: &Exclusions, image: &str) -> Option<String> {
        exclusions.void(PolicyKind::ClusterPolicy, &Image::parse(image).unwrap())
    }

    #[test]
    fn a_list_that_is_tried_takes_the_place_of_its_namesake() {
        let lists = [list("a", "quay.io/a/*", None), list("b", "redis:7", Some("2026-11-23"))];
        let exclusions = exclusions(&lists, None);
        assert_eq!(found(&exclusions, "quay.io/a/b"), Some("quay.io/a/* of list a".to_owned()));
        assert_eq!(found(&exclusions, "redis:7"), None);
        let expired = "redis:7 of list b has expired";
        assert_eq!(void(&exclusions, "redis:7").as_deref(), Some(expired));
        let tried = exclusions.with(&list("a", "ghcr.io/x/*", None));
        assert_eq!(found(&tried, "quay.io/a/b"), None);
        assert_eq!(found(&tried, "ghcr.io/x/y"), Some("ghcr.io/x/* of list a".to_owned()));
    }

    #[test]
    fn what_the_policy_does_not_have_excludes_nothing() {
        let lists = [list("a", "quay.io/a/*", None), list("b", "quay.io/a/b:*", None)];
        let globs = |image| Pattern::parse(image).unwrap().spellings().into_iter().collect();
        let none = exclusions(&lists, Some(BTreeSet::new()));
        assert_eq!(found(&none, "quay.io/a/b"), None);
        assert!(void(&none, "quay.io/a/b").unwrap().contains("is not in the ring's policy"));
        // What is below a tree is not written beside it.
        let tree = exclusions(&lists, Some(globs("quay.io/a/*")));
        assert!(found(&tree, "quay.io/a/b").is_some() && void(&tree, "quay.io/a/b").is_none());
        // A list that is tried need not be there.
        let tried = none.with(&list("c", "quay.io/a/b:*", None));
        assert!(found(&tried, "quay.io/a/b").is_some());
        assert!(tried.doubt().is_none(), "there is room for that anyhow");
        // The others are as they were.
        assert_eq!(found(&tried, "quay.io/a/c"), None);
    }

    #[test]
    fn what_there_is_no_room_for_excludes_nothing() {
        let large = |name: &str, created: &str| -> ImageExclusionList {
            let image =
                |number| json!({"image": format!("{name}.example/{number:0200}:*"), "reason": "r"});
            let mut list = list(name, "quay.io/x/*", None);
            list.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
            let images: Vec<_> = (0..40).map(image).collect();
            let more: Vec<ImageExclusion> = serde_json::from_value(json!(images)).unwrap();
            list.spec.images.extend(more);
            list
        };
        let old = large("old", "2026-01-01T00:00:00Z");
        let new = large("new", "2026-02-01T00:00:00Z");
        let image = |name: &str| format!("{name}.example/{:0200}:1", 7);
        let one = exclusions(std::slice::from_ref(&old), None);
        assert!(found(&one, &image("old")).is_some());
        let both = exclusions(&[new.clone(), old.clone()], None);
        assert!(both.doubt().is_some() && found(&both, &image("old")).is_some());
        assert_eq!(found(&both, &image("new")), None);
        assert!(void(&both, &image("new")).unwrap().contains("larger than there is room"));
        // What is in force stays.
        let globs = Pattern::parse(&image("new").replace(":1", ":*")).unwrap().spellings();
        let stays = exclusions(&[new, old], Some(globs.into_iter().collect()));
        assert!(found(&stays, &image("new")).is_some());
        // One that is tried beside what is in force does not fit, either.
        let tried = one.with(&large("tried", "2025-01-01T00:00:00Z"));
        assert!(found(&tried, &image("old")).is_some() && found(&tried, &image("tried")).is_none());
    }
}
