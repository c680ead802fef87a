//! What the policies say of a ring, apart from its keys.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
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
#[serde(try_from = "SettingsJson", into = "SettingsJson")]
pub struct RuleSettings {
    /// Refuse or report.
    pub action: Action,
    /// The ring's own exclusions.
    pub exclude: Vec<Exclusion>,
    /// The Secrets in Kyverno's namespace with which it looks the ring's images up.
    pub credentials: BTreeSet<String>,
    /// The policy that holds the ring's rule.
    pub policy: PolicyRef,
    /// The policy that the rule is moving away from.
    pub leaving: Option<Leaving>,
    /// The credentials that the ring had when it began to leave that policy.
    pub left_credentials: BTreeSet<String>,
}

/// A policy that a rule is moving away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaving {
    /// Which one.
    pub policy: PolicyRef,
    /// How far the move has come.
    pub phase: Phase,
}

/// How far a move has come. Each phase is acknowledged before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The new policy verifies, and does not refuse what was on its way before it was
    /// there; the old one goes on as before.
    Arriving,
    /// Both do all that they are for.
    Arrived,
    /// The old one looks at no image any more.
    Released,
}

impl Leaving {
    /// A move away from a policy that begins.
    #[must_use]
    pub const fn beginning(policy: PolicyRef) -> Self {
        Self { policy, phase: Phase::Arriving }
    }
}

/// What a policy is to do for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// To verify, and to refuse what it has not verified.
    Whole,
    /// To verify, without refusing what passed the first half of Kyverno before the
    /// rule was there.
    Beside,
    /// To hold the ring's rule and look at no image.
    Nothing,
}

impl RuleSettings {
    /// A rule in this policy that excludes nothing.
    #[must_use]
    pub const fn of(policy: PolicyRef) -> Self {
        Self {
            action: policy.action(),
            exclude: Vec::new(),
            credentials: BTreeSet::new(),
            policy,
            leaving: None,
            left_credentials: BTreeSet::new(),
        }
    }

    /// The credentials of the ring in one of its policies. Where a policy has one set
    /// for all of its rings, a ring leaves it with what it had there: another would be
    /// the others', too.
    #[must_use]
    pub fn credentials_in(&self, policy: PolicyRef) -> &BTreeSet<String> {
        let is_left = self.leaving.is_some_and(|leaving| leaving.policy == policy);
        if is_left && policy.kind().shares_credentials() {
            &self.left_credentials
        } else {
            &self.credentials
        }
    }

    /// The same of a move of which it is not known how far it has come since: no policy
    /// does less than before the move began, or than it may at all beside the other.
    #[must_use]
    pub fn holding_on(&self) -> Self {
        let mut settings = self.clone();
        if let Some(leaving) = &mut settings.leaving {
            let alike = leaving.policy.action() == self.policy.action();
            leaving.phase = if alike { Phase::Arrived } else { Phase::Arriving };
        }
        settings
    }

    /// The policies that hold the ring's rule.
    pub fn policies(&self) -> impl Iterator<Item = PolicyRef> + use<> {
        std::iter::once(self.policy).chain(self.leaving.map(|leaving| leaving.policy))
    }

    /// What one of them is to do for the ring.
    #[must_use]
    pub fn duty(&self, policy: PolicyRef) -> Duty {
        let Some(leaving) = self.leaving else { return Duty::Whole };
        let is_left = policy == leaving.policy;
        if is_left && leaving.phase == Phase::Released {
            return Duty::Nothing;
        }
        if leaving.policy.action() != self.policy.action() {
            // Kyverno 1.19 verifies Enforce and Audit policies in two calls, and the
            // second replaces what the first wrote on the Pod: under both, a verified
            // image is refused as unverified. So the Audit one looks at no image, and the
            // Enforce one does not ask for what was written.
            return match policy.action() {
                Action::Enforce => Duty::Beside,
                Action::Audit => Duty::Nothing,
            };
        }
        if !is_left && leaving.phase == Phase::Arriving { Duty::Beside } else { Duty::Whole }
    }
}

/// Settings as a ledger has them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsJson {
    action: Action,
    exclude: Vec<Exclusion>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    credentials: BTreeSet<String>,
    policy: PolicyRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaving: Option<PolicyRef>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    left_credentials: BTreeSet<String>,
    /// Of a move that has come further than to its first phase. Since format 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
}

impl From<RuleSettings> for SettingsJson {
    fn from(settings: RuleSettings) -> Self {
        let RuleSettings { action, exclude, credentials, policy, leaving, left_credentials } =
            settings;
        let phase = leaving.map(|leaving| leaving.phase).filter(|phase| *phase != Phase::Arriving);
        let leaving = leaving.map(|leaving| leaving.policy);
        Self { action, exclude, credentials, policy, leaving, left_credentials, phase }
    }
}

impl TryFrom<SettingsJson> for RuleSettings {
    type Error = &'static str;

    fn try_from(json: SettingsJson) -> Result<Self, Self::Error> {
        let SettingsJson { action, exclude, credentials, policy, leaving, left_credentials, phase } =
            json;
        let leaving = match (leaving, phase) {
            (Some(policy), phase) => {
                Some(Leaving { policy, phase: phase.unwrap_or(Phase::Arriving) })
            }
            (None, None) => None,
            (None, Some(_)) => return Err("a rule that does not move has a phase of a move"),
        };
        Ok(Self { action, exclude, credentials, policy, leaving, left_credentials })
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
        self.expires.is_none_or(|last| now.to_zoned(TimeZone::UTC).date() <= last)
    }

    /// The moment from which it does not count any more, if there is one: the one after
    /// its last day.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        let next = self.expires?.checked_add(1.day()).ok()?;
        Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger that has come back from a backup may say that a policy was let go of to
    /// which the ring has returned since.
    #[test]
    fn where_it_is_not_known_how_far_a_move_has_come_no_policy_stops_verifying() {
        let enforce = |number| PolicyRef::new(Action::Enforce, number);
        for phase in [Phase::Arriving, Phase::Arrived, Phase::Released] {
            let mut alike = RuleSettings::of(enforce(1));
            alike.leaving = Some(Leaving { policy: enforce(2), phase });
            let held = alike.holding_on();
            assert_eq!([1, 2].map(|n| held.duty(enforce(n))), [Duty::Whole; 2], "{phase:?}");

            let audit = PolicyRef::new(Action::Audit, 1);
            for (here, left) in [(enforce(1), audit), (audit, enforce(1))] {
                let mut moved = RuleSettings::of(here);
                moved.leaving = Some(Leaving { policy: left, phase });
                assert_eq!(moved.holding_on().duty(enforce(1)), Duty::Beside, "{phase:?}");
            }
        }
    }
}
