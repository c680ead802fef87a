//! The condition `EnforcementComplete`: whether anything that is seen leaves pods
//! out of the ring's check. It is a report: nothing waits for it, because a hole in
//! the check is not mended by holding keys back.

use std::time::Duration;

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, Stage},
    grant,
    omissions::{Cause, Omission, Subject, TenantKind, Weight},
    policy_ref::Action,
    snapshot::Snapshot,
};

/// How long Kyverno may have answered for a new ring before its webhooks have to be
/// there: it writes one half's after the other's.
const GRACE: Duration = Duration::from_secs(10);

/// So many of a kind are named.
const NAMED: usize = 5;

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
    let enforces = snapshot.ring.action == Action::Enforce;
    let unchecked = if enforces { "not verified" } else { "not reported" };
    match omission {
        Omission::Missing { verifies: true, webhook } => format!(
            "Kyverno's webhook {webhook} for pods, by which images are verified, is not there or \
             does not take all of them: look at the logs of its admission controller, or restart it"
        ),
        Omission::Missing { verifies: false, webhook } => format!(
            "Kyverno's webhook {webhook} for pods is not there or does not take all of them: \
             images that are no reference, and what a later webhook puts into a pod, are not \
             refused. Look at the logs of Kyverno's admission controller, or restart it"
        ),
        Omission::Ignored { webhooks } => format!(
            "pods are admitted unverified whenever {} fails or does not answer, because its \
             failurePolicy is Ignore: start Kyverno without --forceFailurePolicyIgnore, and let \
             it write its webhook configurations",
            webhooks.join(" or ")
        ),
        Omission::Objects { webhooks, selector } => format!(
            "pods that the objectSelector {selector} of {} does not select are {unchecked} in any \
             namespace, and who creates a pod writes its labels: take it out of webhooks in \
             Kyverno's ConfigMap",
            webhooks.join(" and ")
        ),
        Omission::Namespaces { webhooks, selector, namespaces } => format!(
            "pods are {unchecked} in {}, which the namespaceSelector {selector} of {} leaves out: \
             correct webhooks in Kyverno's ConfigMap, or the namespace's labels",
            listed(namespaces),
            webhooks.join(" and ")
        ),
        Omission::Filtered { filter, namespaces } => format!(
            "pods are {unchecked} in {}, as far as {filter} of resourceFilters in Kyverno's \
             ConfigMap fits them: take it out",
            listed(namespaces)
        ),
        Omission::Excluded { who } => format!(
            "pods of {} are {unchecked}, because Kyverno's ConfigMap excludes who creates or \
             changes them: take that out, or accept each by the operator's --accept-exclusions, \
             such as --accept-exclusions={}",
            listed(who),
            who.first().map(String::as_str).unwrap_or_default()
        ),
        Omission::Excepted { exception, policy } => format!(
            "{} names the ring's rule in policy {policy}, so that what it matches is \
             {unchecked} where Kyverno heeds exceptions (its flags enablePolicyException and \
             exceptionNamespace): delete it, or start the operator with \
             --accept-exclusions={exception}",
            object(exception)
        ),
        Omission::Changed { policy } => format!(
            "{} may change pods, or the images that Kyverno sees in them, after others were \
             verified: delete it, or start the operator with --accept-exclusions={policy}",
            object(policy)
        ),
        Omission::Conditions { webhooks, conditions } => format!(
            "whether pods are left out cannot be told: the matchConditions {} of {} are not this \
             operator's to judge",
            listed(conditions),
            webhooks.join(" and ")
        ),
        Omission::Unclear { webhooks, selector } => format!(
            "whether namespaces are left out cannot be told: the namespaceSelector {selector} of \
             {} has an operator that is not known here",
            webhooks.join(" and ")
        ),
        Omission::MayChange { policy } => format!(
            "what the NamespacedMutatingPolicy {} does to pods is not judged: Kyverno verifies \
             after it as a rule; delete it, or start the operator with \
             --accept-exclusions={policy}",
            named(policy)
        ),
        Omission::MayCreate { kind, policy } => format!(
            "what the {} {} has Kyverno create is not judged: it may be policies that undo the \
             check, and Kyverno's own rights pass the guard; delete it, or start the operator \
             with --accept-exclusions={policy}",
            kind.as_str(),
            named(policy)
        ),
        Omission::Unwritable { kind, policy } => format!(
            "the {} {} asks for what the API server takes in no webhook, and then Kyverno can write \
             none of its webhooks anew, the ring's among them: delete it, or start the operator \
             with --accept-exclusions={policy}",
            kind.as_str(),
            named(policy)
        ),
        Omission::Adds { kind, policy } => format!(
            "the {} {} verifies images, too, and takes nothing from what the ring asks",
            kind.as_str(),
            named(policy)
        ),
        Omission::ExceptsOthers { exception } => format!(
            "the PolicyException {} of policies.kyverno.io does not reach the ring's policy, \
             which is a ClusterPolicy",
            named(exception)
        ),
        Omission::Unseen { what, why } => {
            unseen(snapshot, *what, &why.why, why.cause == Cause::Forbidden)
        }
    }
}

fn unseen(snapshot: &Snapshot, what: Subject, why: &str, is_forbidden: bool) -> String {
    let kyverno = &snapshot.operator.kyverno;
    let what = match what {
        Subject::Settings => {
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
        Subject::Webhooks(half) => half.configuration(),
        Subject::Policies(TenantKind::Policy) => "Policies of namespaces",
        Subject::Policies(TenantKind::NamespacedMutatingPolicy) => "NamespacedMutatingPolicies",
        Subject::Policies(TenantKind::NamespacedGeneratingPolicy) => "NamespacedGeneratingPolicies",
        Subject::Policies(TenantKind::NamespacedImageValidatingPolicy) => {
            "NamespacedImageValidatingPolicies"
        }
        Subject::Policies(TenantKind::NamespacedValidatingPolicy) => "NamespacedValidatingPolicies",
        Subject::Exceptions => "PolicyExceptions",
        Subject::OtherExceptions => "PolicyExceptions of policies.kyverno.io",
    };
    let hint = if is_forbidden { "; apply the operator's manifests anew" } else { "" };
    format!("{what} could not be looked at: {why}{hint}")
}

/// A policy's or an exception's namespace and name, from what `--accept-exclusions`
/// calls it.
fn named(exclusion: &str) -> &str {
    exclusion.split_once(':').map_or(exclusion, |(_, name)| name)
}

/// A policy or an exception, from what `--accept-exclusions` calls it.
fn object(exclusion: &str) -> String {
    match exclusion.split_once(':') {
        Some(("exception", name)) => format!("PolicyException {name}"),
        Some((_, name)) => format!("Policy {name}"),
        None => exclusion.to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    in_short(names, ", ")
}

/// The first of them, and how many more there are. What others wrote is shown in
/// one line.
fn in_short(texts: &[String], between: &str) -> String {
    let named: Vec<&str> = texts.iter().take(NAMED).map(String::as_str).collect();
    let text = match texts.len().saturating_sub(named.len()) {
        0 => named.join(between),
        more => format!("{} and {more} more", named.join(between)),
    };
    text.replace(char::is_control, " ")
}

fn new(status: Status, reason: Reason, message: String) -> Condition {
    Condition { kind: Kind::EnforcementComplete, status, reason, message }
}
