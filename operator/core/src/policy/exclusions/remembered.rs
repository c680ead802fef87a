//! Lists that are gone because their kind is: the CRD was deleted, or is not
//! served. Nobody said that what they exclude is to be refused, so they stay in
//! force as they were last known, and are said to be remembered. A list that is
//! deleted while its kind is served goes.

use std::collections::{BTreeMap, BTreeSet};

use super::List;
use crate::{
    images::{Cover, Pattern},
    ledger::Exclusion,
};

/// The name of what an operator that has never seen the lists takes from the
/// policies. No list can have it.
pub const FROM_POLICIES: &str = "(read from the policies)";

/// The kind of the lists, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its CRD is there.
    Served {
        /// What tells it from another of its name.
        uid: String,
        /// Whether it is being deleted, and its lists with it.
        leaving: bool,
    },
    /// Its CRD is not there.
    Gone,
    /// The operator may not look.
    Unknown,
}

impl Kind {
    /// Whether a list that has vanished went with its kind. `known` is the CRD of
    /// which it was.
    #[must_use]
    pub fn took_its_lists(&self, known: Option<&str>) -> bool {
        match self {
            Self::Served { uid, leaving } => *leaving || known.is_some_and(|known| known != uid),
            Self::Gone => true,
            Self::Unknown => false,
        }
    }
}

/// What the lists excluded as far as the policies show it: the globs of each
/// ring's rule, less those of the ring's own exclusions. When an entry expires
/// they do not say.
#[must_use]
pub fn from_policies<'a>(
    rules: impl IntoIterator<Item = (BTreeSet<String>, &'a [Exclusion])>,
) -> List {
    let mut found = BTreeMap::new();
    for (globs, own) in rules {
        let own = own.iter().filter_map(|exclusion| Pattern::parse(&exclusion.image).ok());
        let own: Cover = own.collect();
        for glob in globs {
            // Of an image's spellings one is enough.
            if let Ok(pattern) = Pattern::parse(&glob)
                && !own.covers(&pattern)
            {
                found.entry(pattern).or_insert(glob);
            }
        }
    }
    let exclusions = found.into_values().map(|image| Exclusion { image, expires: None });
    List {
        name: FROM_POLICIES.to_owned(),
        created: None,
        exclusions: exclusions.collect(),
        remembered: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(images: &[&str]) -> Vec<Exclusion> {
        let own = images.iter();
        own.map(|image| Exclusion { image: (*image).to_owned(), expires: None }).collect()
    }

    fn globs(images: &[&str]) -> BTreeSet<String> {
        let patterns = images.iter().map(|image| Pattern::parse(image).unwrap());
        patterns.flat_map(|pattern| pattern.spellings()).collect()
    }

    /// The globs that a list has rendered.
    fn rendered(list: &List) -> BTreeSet<String> {
        let images: Vec<&str> = list.exclusions.iter().map(|e| e.image.as_str()).collect();
        globs(&images)
    }

    #[test]
    fn what_is_read_back_is_rendered_as_it_was() {
        for image in [
            "quay.io/org/*",
            "reg.example/*",
            "quay.io/org/app:*",
            "quay.io/org/app:1",
            "quay.io/org/app:1*",
            "busybox:*",
            "docker.io/library/busybox:1.2*",
            "kbudde/rabbitmq-exporter",
            "grafana/*",
            "localhost:5000/a:*",
            &format!("redis@sha256:{}", "a".repeat(64)),
        ] {
            let list = from_policies([(globs(&[image]), &[][..])]);
            assert_eq!(rendered(&list), globs(&[image]), "{image}");
            assert_eq!(list.exclusions.len(), 1, "{image}");
        }
    }

    #[test]
    fn a_rings_own_exclusions_are_not_the_lists() {
        let first = own(&["docker.io/library/redis:*", "quay.io/a/*"]);
        let rules = [
            (globs(&["redis:*", "quay.io/a/*", "quay.io/l/*"]), &first[..]),
            (globs(&["quay.io/a/b:*", "quay.io/l/*"]), &[][..]),
        ];
        let list = from_policies(rules);
        assert_eq!(rendered(&list), globs(&["quay.io/a/b:*", "quay.io/l/*"]));
    }

    #[test]
    fn what_is_no_pattern_is_nothing() {
        let globs = ["*", "", "quay.io/*/x", "h/p@*", "docker.io/library/*", "?"];
        let globs = globs.map(str::to_owned).into();
        assert_eq!(from_policies([(globs, &[][..])]).exclusions, []);
    }

    #[test]
    fn a_list_goes_alone_only_while_its_kind_is_served() {
        let served = |uid: &str, leaving| Kind::Served { uid: uid.to_owned(), leaving };
        for (kind, known, expected) in [
            (served("a", false), Some("a"), false),
            (served("a", true), Some("a"), true),
            // Deleted and made again while nobody looked.
            (served("b", false), Some("a"), true),
            (served("a", false), None, false),
            (Kind::Gone, Some("a"), true),
            (Kind::Unknown, Some("a"), false),
        ] {
            assert_eq!(kind.took_its_lists(known), expected, "{kind:?} {known:?}");
        }
    }
}
