//! What the policies should say of a ring, and where: its action, its
//! exclusions, and the move from one policy to another.

use crate::{
    facts::{Enforcement, Facts, carrying},
    ledger::{Change, Ledger, RuleSettings},
    snapshot::Snapshot,
};

/// The rule of a ring that begins, or goes on with what a ledger from before says.
/// Where it stands already is its place, whatever is asked by now: it moves from there
/// as any rule does.
pub(super) fn first(snapshot: &Snapshot, before: Option<&RuleSettings>) -> RuleSettings {
    let mut rule = before.cloned().unwrap_or_else(|| RuleSettings {
        action: snapshot.ring.action,
        exclude: snapshot.ring.exclude.clone(),
        policy: snapshot.place.free,
        leaving: None,
    });
    let mut standing = carrying(snapshot);
    if let Some(policy) = standing.next() {
        rule.policy = policy;
        rule.leaving = standing.next();
    }
    rule
}

/// The change that brings the ring's rule to what is asked. A ring whose
/// action changed joins the new policy first and leaves the old one only when
/// the new one was acknowledged, and the old one with what it says meanwhile.
pub(super) fn change(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<Change> {
    let now = &ledger.rule.settings;
    let action = snapshot.ring.action;
    let place = snapshot.place;
    let mut wanted = RuleSettings { action, exclude: snapshot.ring.exclude.clone(), ..now.clone() };
    let leaves = place.crowded && now.leaving.is_none() && place.free != now.policy;
    if now.policy.action() != action || leaves {
        // A move that is asked back while under way turns around.
        let back = now.leaving.filter(|policy| policy.action() == action);
        wanted.policy = back.unwrap_or(place.free);
        wanted.leaving = Some(now.policy);
    } else if let Some(leaving) = now.leaving
        && matches!(facts.enforcement_here, Enforcement::Acknowledged(_))
        && (leaving.action() == action || facts.enforcement_there.is_some_and(is_released))
    {
        wanted.leaving = None;
    }
    (wanted != *now).then_some(Change::Rule(wanted))
}

/// Whether Kyverno has loaded that the ring is leaving a policy of the other
/// action, which until then could make it refuse what the new one verified.
fn is_released(said: Enforcement<'_>) -> bool {
    use Enforcement::{Acknowledged, Conflict, PolicyMissing};
    matches!(said, Acknowledged(_) | Conflict(_) | PolicyMissing(..))
}
