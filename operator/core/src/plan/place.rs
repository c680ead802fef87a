//! What the policies should say of a ring, and where: its action, its
//! exclusions, and the move from one policy to another.

use super::enforcement;
use crate::{
    ledger::{Change, Ledger, RuleSettings},
    policy_ref::PolicyRef,
    snapshot::Snapshot,
};

/// The rule of a ring that has none yet.
pub(super) fn first(snapshot: &Snapshot) -> RuleSettings {
    RuleSettings {
        action: snapshot.ring.action,
        exclude: snapshot.ring.exclude.clone(),
        policy: snapshot.free_place,
        leaving: None,
    }
}

/// The change that brings the ring's rule to what is asked. A ring whose
/// action changed joins the new policy first and leaves the old one only when
/// the new one was acknowledged, and the old one with what it says meanwhile.
pub(super) fn change(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let now = &ledger.rule.settings;
    let action = snapshot.ring.action;
    let mut wanted = RuleSettings { action, exclude: snapshot.ring.exclude.clone(), ..now.clone() };
    let leaves = snapshot.crowded && now.leaving.is_none() && snapshot.free_place != now.policy;
    if now.policy.action() != action || leaves {
        // A move that is asked back while under way turns around.
        let back = now.leaving.filter(|policy| policy.action() == action);
        wanted.policy = back.unwrap_or(snapshot.free_place);
        wanted.leaving = Some(now.policy);
    } else if let Some(leaving) = now.leaving
        && enforcement::acknowledged_by(snapshot, ledger, now.policy)
        && (leaving.action() == action || is_let_go(snapshot, ledger, leaving))
    {
        wanted.leaving = None;
    }
    (wanted != *now).then_some(Change::Rule(wanted))
}

/// Whether Kyverno has loaded that the ring is leaving a policy of the other
/// action, which until then could make it refuse what the new one verified.
fn is_let_go(snapshot: &Snapshot, ledger: &Ledger, policy: PolicyRef) -> bool {
    use enforcement::Enforcement::{Acknowledged, Conflict, PolicyMissing};
    let said = enforcement::of_policy(snapshot, &ledger.mark(), policy);
    matches!(said, Acknowledged(_) | Conflict(_) | PolicyMissing(..))
}
