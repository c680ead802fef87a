//! The condition `PolicyEnforced`: whether Kyverno verifies, and if not, why.

use std::time::Duration;

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, PATIENCE, Stage},
    ledger::{Ledger, RuleSettings},
    policy_ref::{Action, PolicyKind, PolicyRef},
    promise::{Act, Way},
    snapshot::{Answer, Covered, LedgerFound, NO_WEBHOOK_YET, PolicyFound, Silence, Snapshot},
    usable::Unusable,
};

mod explain;
mod unheard;

use explain::{explain, unreachable_message};
use unheard::{silent_message, slow_message, unaskable_message, unreadable_message};

pub(super) fn condition(snapshot: &Snapshot, facts: &Facts<'_>) -> Condition {
    let blocked_by_a_loss = facts.stage == Stage::DeletionBlocked && facts.ledger.is_none();
    if facts.stage == Stage::Lost || blocked_by_a_loss {
        return after_a_loss(snapshot, facts);
    }
    if let (Stage::Deleting, Some(ledger)) = (facts.stage, facts.ledger)
        && ledger.removed
    {
        let message = leaving(snapshot, facts, ledger)
            .unwrap_or_else(|| "the ring is being deleted, and its rule with it".to_owned());
        return new(Status::False, Reason::Deleting, message);
    }
    let before = || snapshot.reported.policy_enforced.clone();
    let Some(ledger) = facts.ledger else {
        return new(Status::False, Reason::PolicyPending, "there is no rule yet".to_owned());
    };
    match facts.enforcement {
        Enforcement::Acknowledged(_) => match covered(snapshot, facts) {
            Some(text) => {
                let pending = || new(Status::False, Reason::PolicyPending, text);
                let unheard = matches!(facts.covered, Some((_, Covered::Unheard)));
                before().filter(|_| unheard).unwrap_or_else(pending)
            }
            None => outdated(snapshot).unwrap_or_else(|| enforced(ledger)),
        },
        Enforcement::NotAsked => before().unwrap_or_else(not_asked),
        // The usual seconds of a rotation: the previous key set stands. Those of
        // a policy that Kyverno has yet to load are silent.
        Enforcement::Behind { held, .. } | Enforcement::Silent(_, _, held) if held < PATIENCE => {
            match before() {
                Some(before) if before.status == Status::True => before,
                _ => new(
                    Status::False,
                    Reason::PolicyPending,
                    "Kyverno was told and has not caught up yet".to_owned(),
                ),
            }
        }
        // One answer that took too long may be the only one.
        Enforcement::Slow(_, _, held) if held < PATIENCE => {
            let is_well = |before: &Condition| before.status == Status::True;
            let slow = || explained(snapshot, facts.enforcement);
            before().filter(is_well).unwrap_or_else(slow)
        }
        problem => explained(snapshot, problem),
    }
}

/// When more is to be said of a Kyverno that goes on not to answer, though nothing else
/// changes.
pub(super) fn look_again(facts: &Facts<'_>) -> Option<Duration> {
    match facts.enforcement {
        Enforcement::Silent(policy, Silence::NoWebhook, held)
            if policy.kind().has_own_webhook() && held < NO_WEBHOOK_YET =>
        {
            Some(NO_WEBHOOK_YET - held)
        }
        Enforcement::Silent(_, _, held) | Enforcement::Slow(_, _, held) if held < PATIENCE => {
            Some(PATIENCE - held)
        }
        _ => None,
    }
}

fn explained(snapshot: &Snapshot, problem: Enforcement<'_>) -> Condition {
    let (reason, message) = explain(snapshot, problem);
    new(status(problem), reason, message)
}

/// Of what cannot be told, nothing is claimed.
const fn status(problem: Enforcement<'_>) -> Status {
    match problem {
        Enforcement::NotAsked
        | Enforcement::Silent(..)
        | Enforcement::Slow(..)
        | Enforcement::Unreadable(..)
        | Enforcement::Unaskable { exists: true, .. } => Status::Unknown,
        _ => Status::False,
    }
}

/// What is in force stays in force: a lost ledger changes no rule. Whether
/// Kyverno still answers with that rule is another matter.
fn after_a_loss(snapshot: &Snapshot, facts: &Facts<'_>) -> Condition {
    if let (Enforcement::Acknowledged(_), Some(outdated)) = (facts.enforcement, outdated(snapshot))
    {
        return outdated;
    }
    match (facts.enforcement, snapshot.reported.policy_enforced.clone()) {
        (Enforcement::Acknowledged(_), Some(before)) if before.status == Status::True => before,
        (Enforcement::NotAsked, Some(before)) => before,
        (Enforcement::Acknowledged(_), _) => {
            let reason = match snapshot.ring.action {
                Action::Enforce => Reason::Enforced,
                Action::Audit => Reason::Audited,
            };
            let text = "Kyverno goes on with the last rule of the ring".to_owned();
            new(Status::True, reason, text)
        }
        (Enforcement::NotAsked, None) => not_asked(),
        (problem, _) => explained(snapshot, problem),
    }
}

/// Kyverno answers with the ring's keys, but for long with another rule than the
/// one that the policy holds.
pub(super) fn outdated(snapshot: &Snapshot) -> Option<Condition> {
    let (policy, _) = snapshot.policies.iter().find(
        |(_, seen)| matches!(&seen.answer, Answer::Answered { behind, .. } if *behind >= PATIENCE),
    )?;
    let message = format!(
        "Kyverno does not answer with the ring's rule that policy {policy} holds by now, such as \
         other exclusions; look at the logs of its admission controller"
    );
    Some(new(Status::False, Reason::PolicyBehind, message))
}

/// Whether Kyverno has loaded none of the policies of the kind that holds the ring's
/// rule for long.
pub(super) fn is_not_loaded(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    stays_in_unusable(snapshot, facts).is_some_and(|(_, why)| *why == Unusable::NotLoaded)
}

/// The policy that holds the ring's rule, and why its kind is of no use, if that is so.
/// A rule that is on its way to another kind is not held up by that.
fn stays_in_unusable<'a>(
    snapshot: &'a Snapshot,
    facts: &Facts<'_>,
) -> Option<(PolicyRef, &'a Unusable)> {
    let policy = facts.ledger?.rule.settings.policy;
    let kind = policy.kind();
    let unusable = snapshot.unusable.get(&kind).filter(|_| snapshot.ring.kind == kind);
    Some((policy, unusable?))
}

/// Why the ring's rule cannot be changed any more.
pub(super) fn cannot_rotate(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<String> {
    let (policy, unusable) = stays_in_unusable(snapshot, facts)?;
    let (kind, other) = (policy.kind().as_str(), policy.kind().other());
    let what = match unusable {
        Unusable::Frozen(_) => format!(
            "what policy {policy}, a {kind}, holds for the ring cannot be changed, so no rotation \
             and no revocation would come through: {}",
            said_of(unusable)
        ),
        Unusable::NotLoaded => format!(
            "{}, such as {policy}, a {kind}: it is not known whether images are verified by it, and \
             no rotation and no revocation would come through",
            said_of(unusable)
        ),
    };
    let helps = match way_to(snapshot, other) {
        Ok(way) => {
            format!("Have the ring move to the other kind: {}", commands(snapshot, &way))
        }
        Err(NoWay::NotServed) => format!(
            "Mend that, or install what serves the other kind, to which the ring could move: {} \
             comes with {}, and this cluster does not serve it as that does",
            other.as_str(),
            other.comes_with()
        ),
        Err(NoWay::Unusable(why)) => format!(
            "Mend that; to move would not help, because of {} the same is true: {why}",
            other.as_str()
        ),
    };
    Some(format!("{what}. {helps}"))
}

/// The commands of a way.
fn commands(snapshot: &Snapshot, way: &Way) -> String {
    let command = |act: &Act| act.command(&snapshot.operator, &snapshot.name);
    way.iter().filter_map(command).collect::<Vec<_>>().join(" && ")
}

/// What has the ring leave a kind that the cluster does not serve or execute, if it is
/// asked to be there and can.
pub(super) fn way_out(snapshot: &Snapshot, kind: PolicyKind) -> Option<Way> {
    let is_asked = snapshot.ring.kind == kind && matches!(snapshot.ledger, LedgerFound::Present(_));
    is_asked.then(|| way_to(snapshot, kind.other()).ok()).flatten()
}

/// Why a ring cannot move to a kind.
pub(super) enum NoWay {
    NotServed,
    Unusable(String),
}

/// What has a ring move to a kind.
pub(super) fn way_to(snapshot: &Snapshot, kind: PolicyKind) -> Result<Way, NoWay> {
    if !snapshot.executes(kind) {
        return Err(NoWay::NotServed);
    }
    if let Some(unusable) = snapshot.unusable.get(&kind) {
        return Err(NoWay::Unusable(said_of(unusable)));
    }
    let probe = unfit_probe(snapshot, kind).map(|_| Act::InstallProbe);
    Ok(probe.into_iter().chain([Act::MoveTo(kind)]).collect())
}

/// Why policies of a kind cannot be asked, if the namespace for that is not fit.
fn unfit_probe(snapshot: &Snapshot, kind: PolicyKind) -> Option<&str> {
    snapshot.probe_missing.as_deref().filter(|_| !kind.has_question_kind())
}

/// What has a policy answer again: a namespace in which it can be asked, or else this.
pub(super) fn or_probe(snapshot: &Snapshot, policy: PolicyRef, otherwise: Act) -> Act {
    unfit_probe(snapshot, policy.kind()).map_or(otherwise, |_| Act::InstallProbe)
}

fn said_of(unusable: &Unusable) -> String {
    match unusable {
        Unusable::Frozen(text) => {
            format!("Kyverno, or the API server, takes no change of it any more: {text}")
        }
        Unusable::NotLoaded => {
            "Kyverno takes what is asked and answers for none of the operator's policies of this \
             kind, as if it did not load them any more"
                .to_owned()
        }
    }
}

/// Whether Kyverno has had its time to catch up.
pub(super) fn is_late(held: Duration) -> bool {
    held >= PATIENCE
}

/// Whether a policy that the ring has left cannot be written.
pub(super) fn failure_elsewhere(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    facts.left_behind.is_some_and(|policy| is_unwritable(snapshot, policy))
}

fn is_unwritable(snapshot: &Snapshot, policy: PolicyRef) -> bool {
    let found = snapshot.policies.get(&policy).map(|seen| &seen.found);
    matches!(found, Some(PolicyFound::Ours { failure: Some(_), .. }))
}

/// What a person has to do before a removed ring's rule is out of the policies.
pub(super) fn leaving_waits_for(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    ledger: &Ledger,
) -> Option<Act> {
    let named = ledger.rule.settings.policies().find_map(|policy| {
        let seen = snapshot.policies.get(&policy)?;
        let is_ours = matches!(seen.found, PolicyFound::Ours { .. });
        match &seen.answer {
            _ if snapshot.questions_missing.is_some() && is_ours => Some(Act::MendKyverno),
            Answer::Silent(..) if is_ours => Some(or_probe(snapshot, policy, Act::MendKyverno)),
            Answer::Unreadable(_) if is_ours => Some(or_probe(snapshot, policy, Act::MendGate)),
            Answer::Slow(..) | Answer::Unreachable(_) => Some(Act::MendKyverno),
            Answer::Answered { mark: Some(_), .. } if is_unwritable(snapshot, policy) => {
                Some(Act::MendPolicy)
            }
            _ => None,
        }
    });
    named.or_else(|| failure_elsewhere(snapshot, facts).then_some(Act::MendPolicy))
}

fn not_asked() -> Condition {
    new(Status::Unknown, Reason::GateNotAsked, "Kyverno has not been asked yet".to_owned())
}

fn enforced(ledger: &Ledger) -> Condition {
    let settings = &ledger.rule.settings;
    let versions: Vec<String> = ledger.accepted().map(|v| v.number.to_string()).collect();
    let policy = settings.policy;
    if versions.is_empty() {
        let why = if ledger.is_unborn() { "there is none yet" } else { "all are revoked" };
        let text = format!("Kyverno accepts no version, because {why}, by policy {policy}");
        let reason = match settings.action {
            Action::Enforce => Reason::Enforced,
            Action::Audit => Reason::Audited,
        };
        return new(Status::True, reason, text);
    }
    let versions = versions.join(", ");
    match settings.action {
        Action::Enforce => new(
            Status::True,
            Reason::Enforced,
            format!(
                "Kyverno accepts the versions {versions}, by policy {policy}{}",
                tags_in_private_registries(settings)
            ),
        ),
        Action::Audit => new(
            Status::True,
            Reason::Audited,
            format!(
                "Kyverno reports images of none of the versions {versions}, by policy {policy}, and refuses nothing"
            ),
        ),
    }
}

/// What a ring with registry credentials still needs for images that are named by a tag,
/// where the kind of policy does not look those up with them. Kyverno's flags cannot be
/// seen.
fn tags_in_private_registries(settings: &RuleSettings) -> String {
    if settings.credentials.is_empty() || settings.policy.kind().pins_with_credentials() {
        return String::new();
    }
    let secrets: Vec<&str> = settings.credentials.iter().map(String::as_str).collect();
    format!(
        ". Registries are asked for signatures with the Secrets {} of Kyverno's namespace, but for \
         the digest behind a tag only with those that Kyverno's own flag --imagePullSecrets names, \
         which cannot be seen from here: without it, name images in private registries by digest",
        secrets.join(", ")
    )
}

/// Why a rotation waits for Kyverno, if it does.
pub(super) fn waiting_on(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    ledger: &Ledger,
) -> Option<String> {
    if ledger.pending().is_some_and(|pending| pending.acknowledged_at().is_some()) {
        return None;
    }
    if let Some(text) = left_behind(snapshot, facts) {
        return Some(text);
    }
    match facts.enforcement {
        Enforcement::Acknowledged(_) if facts.covered.is_some() => covered(snapshot, facts),
        Enforcement::Acknowledged(_) if facts.soaked => None,
        Enforcement::Acknowledged(_) => Some(format!(
            "Kyverno accepts it and the soak of {}s has to pass before it signs",
            snapshot.ring.soak.as_secs()
        )),
        Enforcement::NotAsked => Some("Kyverno has to be asked whether it accepts it".to_owned()),
        Enforcement::Behind { failure: None, .. } => {
            Some("Kyverno has to catch up with the policy".to_owned())
        }
        Enforcement::Silent(_, _, held) if held < PATIENCE => {
            Some("Kyverno has to catch up with the policy".to_owned())
        }
        problem => Some(explain(snapshot, problem).1),
    }
}

/// Why a removed ring's rule is still in force, if it is.
pub(super) fn leaving(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<String> {
    let answered = ledger.rule.settings.policies().find_map(|policy| {
        let seen = snapshot.policies.get(&policy)?;
        if let Some(why) = &snapshot.questions_missing
            && matches!(seen.found, PolicyFound::Ours { .. })
        {
            return Some(unaskable_message(snapshot, policy, why, true));
        }
        match &seen.answer {
            Answer::Unreachable(text) => Some(unreachable_message(policy, text)),
            Answer::Answered { mark: Some(_), .. } => Some(being_taken_out(snapshot, policy)),
            Answer::Slow(text, _) => Some(slow_message(policy, text)),
            Answer::Silent(silence, _) => Some(silent_message(snapshot, policy, silence)),
            Answer::Unreadable(text) => Some(unreadable_message(snapshot, policy, text)),
            _ => None,
        }
    });
    answered.or_else(|| left_behind(snapshot, facts))
}

/// Which policy still holds the ring's rule although the ring has left it, if one does.
pub(super) fn left_behind(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<String> {
    facts.left_behind.map(|policy| being_taken_out(snapshot, policy))
}

/// Which policy for namespaces whose label names no ring still covers those of
/// this one, if one does.
fn covered(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<String> {
    let (policy, covered) = facts.covered?;
    let ring = &snapshot.name;
    Some(match covered {
        Covered::Named => format!(
            "policy {policy}, which covers namespaces whose label names no ring, still names \
             {ring}; it is being taken out"
        ),
        Covered::Loaded | Covered::Unheard => format!(
            "Kyverno has to answer that policy {policy}, which covers namespaces whose label \
             names no ring, does not cover those of {ring}"
        ),
    })
}

fn being_taken_out(snapshot: &Snapshot, policy: PolicyRef) -> String {
    let text = format!("its rule is being taken out of policy {policy}");
    match snapshot.policies.get(&policy).map(|seen| &seen.found) {
        Some(PolicyFound::Ours { failure: Some(failure), .. }) => {
            format!("{text}, which could not be written: {}", failure.message)
        }
        _ => text,
    }
}

fn new(status: Status, reason: Reason, message: String) -> Condition {
    Condition { kind: Kind::PolicyEnforced, status, reason, message }
}
