//! Which kinds of policies are of no use any more, as it was seen last.

use std::collections::BTreeSet;

use signingkeyring_core::{
    policy_ref::PolicyKind,
    usable::{Unusable, UnusableKinds},
};

use crate::lock::RwLock;

/// Which kinds of policies are of no use any more.
#[derive(Debug, Default)]
pub struct Usable(RwLock<Seen>);

#[derive(Debug, Default)]
struct Seen {
    unusable: UnusableKinds,
    /// Those that Kyverno did not execute when it was looked last.
    missing: BTreeSet<PolicyKind>,
    /// Those of them of which that was so when it was looked before, too.
    gone: BTreeSet<PolicyKind>,
}

impl Usable {
    /// Whether a kind is of use, for all that is known.
    #[must_use]
    pub fn is_usable(&self, kind: PolicyKind) -> bool {
        !self.0.read().unusable.contains_key(&kind)
    }

    /// Whether nobody has verified by it for a while.
    #[must_use]
    pub fn is_dead(&self, kind: PolicyKind) -> bool {
        let seen = self.0.read();
        seen.gone.contains(&kind) || seen.unusable.get(&kind) == Some(&Unusable::NotLoaded)
    }

    /// Those that are served and of no use.
    #[must_use]
    pub fn unusable(&self) -> UnusableKinds {
        self.0.read().unusable.clone()
    }

    /// Takes in what was seen; returns whether that is news. A kind that is `missing` for
    /// the time of two looks is gone: while CRDs are replaced none is.
    pub fn put(&self, unusable: &UnusableKinds, missing: BTreeSet<PolicyKind>) -> bool {
        let mut seen = self.0.write();
        let gone: BTreeSet<_> = seen.missing.intersection(&missing).copied().collect();
        let is_news = seen.unusable != *unusable || seen.gone != gone;
        *seen = Seen { unusable: unusable.clone(), missing, gone };
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_missing_for_a_moment_is_not_dead() {
        let (usable, kind) = (Usable::default(), PolicyKind::ImageValidatingPolicy);
        let look = |missing: &[PolicyKind]| {
            usable.put(&UnusableKinds::new(), missing.iter().copied().collect())
        };
        assert!(!look(&[kind]) && !usable.is_dead(kind));
        assert!(!look(&[]) && !usable.is_dead(kind));
        assert!(!look(&[kind]));
        assert!(look(&[kind]) && usable.is_dead(kind), "that is news");
        assert!(!look(&[kind]) && usable.is_dead(kind));
        assert!(look(&[]) && !usable.is_dead(kind));
        usable.put(&[(kind, Unusable::NotLoaded)].into(), BTreeSet::new());
        assert!(usable.is_dead(kind));
        usable.put(&[(kind, Unusable::Frozen(String::new()))].into(), BTreeSet::new());
        assert!(!usable.is_dead(kind) && !usable.is_usable(kind), "it verifies");
    }
}
