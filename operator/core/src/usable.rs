//! Which kind of policy holds a ring's rule, where nobody says so: Kyverno is upgraded
//! under the operator, and ends a kind in steps.

use std::collections::BTreeMap;

use crate::policy_ref::PolicyKind;

/// Why a kind of policy that Kyverno serves is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Kyverno, or the API server, refuses to change a policy, in these words.
    Frozen(String),
    /// Kyverno has loaded none of the operator's for long.
    NotLoaded,
}

/// The kinds that are of no use.
pub type UnusableKinds = BTreeMap<PolicyKind, Unusable>;

/// What can be made of a kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Kyverno executes it and takes changes.
    Works,
    /// Nothing is to be put there now.
    Unusable,
    /// Nor has anybody verified by it for a while.
    Dead,
}

/// Which kind holds the rules of rings that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// This one.
    Kind(PolicyKind),
    /// The older one while it is served and of use, the newer one from then on, as long as
    /// somebody verifies by it.
    Auto,
}

/// Why a ring's rule is in a policy of some kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The ring asks for it.
    Asked,
    /// The operator was told so.
    Told,
    /// Nobody asked, and it is served and of use.
    Usable,
    /// Nobody asked, and the older one is not.
    OtherUnusable,
    /// Nobody asked, and nobody verifies by the newer one any more.
    NewerDead,
    /// Nobody asked, and it is of no use, but nor is what it would move to.
    Stays,
}

impl Because {
    /// In a few words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "spec.policy.kind asks for it",
            Self::Told => "the operator's --policy-kind says so",
            Self::Usable => "Kyverno executes it and takes changes (--policy-kind=Auto)",
            Self::OtherUnusable => {
                "Kyverno does not serve or execute ClusterPolicies, or takes no changes of them \
                 (--policy-kind=Auto)"
            }
            Self::NewerDead => {
                "Kyverno does not execute ImageValidatingPolicies any more, as 1.19 does \
                 (--policy-kind=Auto)"
            }
            Self::Stays => {
                "there is no other kind that Kyverno executes and takes changes of, or the rule would \
                 move to an older one although it is verified by (--policy-kind=Auto)"
            }
        }
    }
}

/// The kind that a ring's rule is to be in. `asked` is what its object names, `stands`
/// where the rule is. Of its own accord it goes from the older kind to the newer one, and
/// back only where that verifies nothing any more: what works is not moved.
#[must_use]
pub fn choose(
    asked: Option<PolicyKind>,
    preference: Preference,
    stands: Option<PolicyKind>,
    standing: impl Fn(PolicyKind) -> Standing,
) -> (PolicyKind, Because) {
    match (asked, preference) {
        (Some(kind), _) => return (kind, Because::Asked),
        (None, Preference::Kind(kind)) => return (kind, Because::Told),
        (None, Preference::Auto) => {}
    }
    let [older, newer] = [PolicyKind::ClusterPolicy, PolicyKind::ImageValidatingPolicy];
    let stands = stands.unwrap_or(older);
    match (standing(older), standing(newer)) {
        (Standing::Unusable | Standing::Dead, Standing::Works) => (newer, Because::OtherUnusable),
        (Standing::Works, Standing::Dead) if stands == newer => (older, Because::NewerDead),
        _ if standing(stands) == Standing::Works => (stands, Because::Usable),
        _ => (stands, Because::Stays),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: PolicyKind = PolicyKind::ClusterPolicy;
    const NEW: PolicyKind = PolicyKind::ImageValidatingPolicy;

    #[test]
    fn what_is_asked_for_comes_first_and_auto_goes_on_and_not_back() {
        let kind = |asked, preference, stands, works| {
            let old = if works { Standing::Works } else { Standing::Unusable };
            choose(
                asked,
                preference,
                stands,
                |kind| if kind == OLD { old } else { Standing::Works },
            )
            .0
        };
        for works in [true, false] {
            assert_eq!(kind(Some(OLD), Preference::Auto, Some(NEW), works), OLD);
            assert_eq!(kind(None, Preference::Kind(NEW), Some(OLD), works), NEW);
            assert_eq!(kind(Some(OLD), Preference::Kind(NEW), None, works), OLD);
        }
        assert_eq!(kind(None, Preference::Auto, None, true), OLD);
        assert_eq!(kind(None, Preference::Auto, Some(OLD), true), OLD);
        assert_eq!(kind(None, Preference::Auto, Some(OLD), false), NEW);
        assert_eq!(kind(None, Preference::Auto, None, false), NEW);
        assert_eq!(kind(None, Preference::Auto, Some(NEW), true), NEW);
    }

    #[test]
    fn auto_does_not_go_where_nothing_is_of_use() {
        for (stands, stays) in [(None, OLD), (Some(OLD), OLD), (Some(NEW), NEW)] {
            for standing in [Standing::Unusable, Standing::Dead] {
                let (kind, because) = choose(None, Preference::Auto, stands, |_| standing);
                assert_eq!(kind, stays);
                assert!(!because.as_str().contains("executes it"), "{because:?}");
            }
        }
    }

    #[test]
    fn auto_goes_back_only_where_nobody_verifies_any_more() {
        for (newer, goes) in [(Standing::Dead, OLD), (Standing::Unusable, NEW)] {
            let kind = |older: Standing| {
                choose(None, Preference::Auto, Some(NEW), |kind| match kind {
                    OLD => older,
                    NEW => newer,
                })
            };
            assert_eq!(kind(Standing::Works).0, goes);
            assert_eq!(kind(Standing::Unusable), (NEW, Because::Stays));
        }
    }
}
