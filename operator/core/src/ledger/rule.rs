//! What the policies say of a ring, apart from its keys.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::policy_ref::{Action, PolicyRef};

/// What the policies say of a ring, apart from its keys. It stands in the
/// ledger so that a ring whose object is gone or unreadable keeps its rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The ledger's sequence when what the policies say last changed. It moves
    /// only then, so that a commit Kyverno need not know writes no policy.
    pub sequence: u64,
    /// What is asked of the ring, and where its rule is.
    pub settings: RuleSettings,
}

/// The part of a [`Rule`] that a [`Change`](super::Change) sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSettings {
    /// Refuse or report.
    pub action: Action,
    /// The ring's own exclusions.
    pub exclude: Vec<Exclusion>,
    /// The policy that holds the ring's rule.
    pub policy: PolicyRef,
    /// The policy the rule is moving away from, until the other one is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<PolicyRef>,
}

impl RuleSettings {
    /// The policies that hold the ring's rule.
    pub fn policies(&self) -> impl Iterator<Item = PolicyRef> + use<> {
        std::iter::once(self.policy).chain(self.leaving)
    }
}

/// An image pattern that needs no signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exclusion {
    /// The pattern as the user wrote it.
    pub image: String,
    /// The last day (UTC) on which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
}

impl Exclusion {
    /// Whether it still counts at `now`.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|last| now.to_zoned(jiff::tz::TimeZone::UTC).date() <= last)
    }
}
