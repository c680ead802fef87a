//! The condition `EnforcementComplete`: whether anything that is seen leaves pods
//! out of the ring's check. It is a report: nothing waits for it, because a hole in
//! the check is not mended by holding keys back.

use std::time::Duration;

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, Stage},
    grant,
    omissions::{Cause, Omission, Subject, Weight, in_short},
    policy_ref::Action,
    snapshot::Snapshot,
};

/// How long Kyverno may have answered for a new ring before its webhooks have to be
/// there: it writes one half's after the other's.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn condition(snapshot: &Snapshot, facts: &Facts<'_>) -> Condition {
    let Some(omissions) = &snapshot.omissions else {
        // What was said before stands, so that a restart turns nothing.
        let text = "what Kyverno leaves out of the ring's check has not been looked at yet";
        let not_yet = || new(Status::Unknown, Reason::PolicyPending, text.to_owned());
        return snapshot.reported.enforcement_complete.clone().unwrap_or_else(not_yet);
    };
    let (late, found): (Vec<&Omission>, Vec<&Omission>) = omissions
        .iter()
        .filter(|omission| !(omission.comes_with_the_policy() && is_over(facts)))
        .partition(|omission| omission.comes_with_the_policy() && is_new(snapshot, facts));
    let told = |least: Weight| {
        let told = found.iter().filter(|omission| omission.weight() <= least);
        told.map(|omission| sentence(snapshot, omission)).collect::<Vec<String>>()
    };
    match found.first().map(|first| (*first, first.weight())) {
        Some((first, Weight::Certain)) => {
            return new(Status::False, reason(first), in_short(&told(Weight::Certain), "; "));
        }
        Some((first, Weight::Open)) if late.is_empty() => {
            return new(Status::Unknown, reason(first), in_short(&told(Weight::Open), "; "));
        }
        _ => {}
    }
    if !late.is_empty() {
        let text = "Kyverno has yet to write its webhooks for the ring's policy".to_owned();
        return new(Status::Unknown, Reason::PolicyPending, text);
    }
    let text = "nothing that is seen of Kyverno leaves pods of the ring's namespaces out";
    let beside = told(Weight::Nothing);
    let text = match beside.is_empty() {
        true => text.to_owned(),
        false => format!("{text}; {}", in_short(&beside, "; ")),
    };
    new(Status::True, Reason::Complete, text)
}

/// When it has to be looked again whether Kyverno has written its webhooks by then.
/// Until it answers for the ring, nothing has to: that it does is heard.
pub(super) fn look_again(facts: &Facts<'_>, said: &Condition) -> Option<Duration> {
    let is_pending = said.kind == Kind::EnforcementComplete && said.reason == Reason::PolicyPending;
    let is_answered = matches!(facts.enforcement, Enforcement::Acknowledged(_));
    (is_pending && is_answered).then_some(GRACE)
}

/// Whether the ring's rule is out of force, and Kyverno needs no webhooks for it.
fn is_over(facts: &Facts<'_>) -> bool {
    facts.stage == Stage::Deleting && facts.ledger.is_none_or(|ledger| ledger.removed)
}

/// Whether Kyverno may yet have to write its webhooks for the first time.
fn is_new(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    let before = snapshot.reported.enforcement_complete.as_ref();
    let is_told = before.is_some_and(|before| before.reason != Reason::PolicyPending);
    // The first rule of another action has another webhook.
    let moves = facts.ledger.is_some_and(|ledger| ledger.rule.settings.leaving.is_some());
    let has_had_its_time =
        matches!(facts.enforcement, Enforcement::Acknowledged(held) if held >= GRACE);
    (moves || !is_told) && !has_had_its_time
}

/// Whether what cannot be seen can be by a right that is given in Kyverno's namespace.
pub(super) fn can_be_granted(snapshot: &Snapshot) -> bool {
    let omissions = snapshot.omissions.iter().flatten();
    let first = omissions.into_iter().find(|o| matches!(o, Omission::Unseen { .. }));
    first.is_some_and(
        |o| matches!(o, Omission::Unseen { what: Subject::Settings, why } if why.cause == Cause::Forbidden),
    )
}

const fn reason(omission: &Omission) -> Reason {
    match omission {
        Omission::Missing { .. } => Reason::WebhookMissing,
        Omission::Ignored { .. } => Reason::FailuresIgnored,
        Omission::Objects { .. } => Reason::PodsLeftOut,
        Omission::Namespaces { .. } => Reason::NamespacesLeftOut,
        Omission::Filtered { .. } => Reason::PodsFiltered,
        Omission::Excluded { .. } => Reason::UsersExcluded,
        Omission::Excepted { .. } => Reason::RuleExcepted,
        Omission::Changed { .. } => Reason::PodsChanged,
        Omission::Conditions { .. }
        | Omission::Unclear { .. }
        | Omission::MayChange { .. }
        | Omission::Unwritable { .. }
        | Omission::MayCreate { .. } => Reason::NotJudged,
        Omission::Adds { .. } | Omission::ExceptsOthers { .. } => Reason::Complete,
        Omission::Unseen { .. } => Reason::NotSeen,
    }
}

fn sentence(snapshot: &Snapshot, omission: &Omission) -> String {
    match omission {
        Omission::Unseen { what, why } => {
            unseen(snapshot, *what, &why.why, why.cause == Cause::Forbidden)
        }
        seen => seen.says(snapshot.ring.action == Action::Enforce),
    }
}

fn unseen(snapshot: &Snapshot, what: Subject, why: &str, is_forbidden: bool) -> String {
    let kyverno = &snapshot.operator.kyverno;
    if what == Subject::Settings {
        let name = format!("{}/{}", kyverno.namespace, kyverno.config_map);
        let text = format!(
            "resourceFilters and excluded users, groups and roles are not seen, because \
             Kyverno's ConfigMap {name} could not be read"
        );
        return if is_forbidden {
            format!("{text}; let the operator: {}", grant::settings(&snapshot.operator))
        } else {
            format!("{text}: {why}")
        };
    }
    let hint = if is_forbidden { "; apply the operator's manifests anew" } else { "" };
    format!("{} could not be looked at: {why}{hint}", what.name())
}

fn new(status: Status, reason: Reason, message: String) -> Condition {
    Condition { kind: Kind::EnforcementComplete, status, reason, message }
}
