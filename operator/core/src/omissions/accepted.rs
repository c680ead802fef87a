//! The exclusions that an administrator has accepted.

use std::{collections::BTreeSet, str::FromStr};

/// What an entry may begin with: whose name follows.
const KINDS: [&str; 6] = ["user", "group", "role", "clusterrole", "policy", "exception"];

/// What the defaults of Kyverno's chart exclude.
const OF_THE_CHART: [&str; 1] = ["group:system:nodes"];

/// The exclusions that an administrator has accepted, beside those that are the
/// defaults of Kyverno's chart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(BTreeSet<Exclusion>);

/// One exclusion, such as `group:platform-admins` or `policy:NAMESPACE/NAME`, as it
/// stands in Kyverno's settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclusion(String);

/// A text that names no exclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write user:NAME, group:NAME, role:NAMESPACE:NAME or clusterrole:NAME as in Kyverno's \
     ConfigMap, policy:NAMESPACE/NAME or exception:NAMESPACE/NAME"
)]
pub struct NoExclusion;

impl FromStr for Exclusion {
    type Err = NoExclusion;

    fn from_str(text: &str) -> Result<Self, NoExclusion> {
        let (kind, name) = text.split_once(':').ok_or(NoExclusion)?;
        let is_object = ["policy", "exception"].contains(&kind);
        let fits = KINDS.contains(&kind)
            && !name.is_empty()
            && (!is_object
                || name.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()));
        fits.then(|| Self(text.to_owned())).ok_or(NoExclusion)
    }
}

impl Accepted {
    /// Whether this one is among them.
    pub(super) fn has(&self, exclusion: &str) -> bool {
        OF_THE_CHART.contains(&exclusion) || self.0.iter().any(|known| known.0 == exclusion)
    }
}

impl FromIterator<Exclusion> for Accepted {
    fn from_iter<I: IntoIterator<Item = Exclusion>>(exclusions: I) -> Self {
        Self(exclusions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        for good in ["user:jane", "group:a:b", "role:ns:admin", "policy:shop/p", "exception:a/b"] {
            assert!(good.parse::<Exclusion>().is_ok(), "{good}");
        }
        for bad in ["", "jane", "user:", "host:x", "policy:p", "policy:/p", "exception:a/"] {
            assert!(bad.parse::<Exclusion>().is_err(), "{bad}");
        }
    }
}
