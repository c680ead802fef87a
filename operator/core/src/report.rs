//! What the status says: from what was observed to conditions, reasons and
//! sentences.
//!
//! `Ready` is derived from the other conditions and never set by a step.
//! Sentences hold nothing that changes by itself (no ages, no counters of
//! seconds): a status is written only when something happened.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, PATIENCE, Stage},
    ledger::{Leaving, Ledger, Version},
    promise::Promise,
    snapshot::Snapshot,
};

mod keys;
mod omissions;
mod pipelines;
mod policy;
mod promises;
mod revocations;

pub use pipelines::PipelineReport;

/// So long what passes by itself may be left unsaid: that what is asked of a policy is
/// written, loaded and answered with, whatever else is written just then.
pub const PASSING: Duration = Duration::from_secs(5);

/// What the status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Ready` first. `Reconciling` and `Stalled` are absent unless true.
    pub conditions: Vec<Condition>,
    /// What each of them promises.
    pub promises: Vec<Promise>,
    /// The rotation token whose version is current.
    pub observed_rotation: Option<String>,
    /// When the schedule rotates next.
    pub next_rotation: Option<Timestamp>,
    /// When it has to be looked again although nothing changes.
    pub look_again: Option<Duration>,
    /// Whether it tells of the usual seconds between two steps, so that in a moment there is
    /// something else to say.
    pub is_passing: bool,
    /// The pipelines of the spec.
    pub pipelines: Vec<PipelineReport>,
    /// Whether the versions and the policy that the status shows stay as they
    /// are, because the ledger cannot be relied on: they are the evidence that
    /// keys existed.
    pub keeps_versions: bool,
}

/// Reports on a ring.
#[must_use]
pub fn report(snapshot: &Snapshot, facts: &Facts<'_>) -> Report {
    let (pipelines_published, pipelines) = pipelines::condition(snapshot, facts);
    let parts = [
        keys::condition(snapshot, facts),
        policy::condition(snapshot, facts),
        pipelines_published,
        omissions::condition(snapshot, facts),
    ];
    let mut conditions = vec![ready(snapshot, facts, &parts)];
    conditions.extend(reconciling(snapshot, facts));
    conditions.extend(stalled(snapshot, facts, &parts));
    conditions.extend(parts);
    conditions.extend(revocations::condition(snapshot, facts));
    let of_omissions = conditions.iter().find_map(|said| omissions::look_again(facts, said));
    let look_again = of_omissions.into_iter().chain(policy::look_again(facts)).min();
    Report {
        look_again,
        is_passing: is_passing(snapshot, facts),
        promises: conditions.iter().map(|said| promises::of(snapshot, facts, said)).collect(),
        conditions,
        observed_rotation: observed_rotation(snapshot, facts),
        next_rotation: facts.next_rotation.map(|next| next.begins),
        pipelines,
        keeps_versions: facts.ledger.is_none() || facts.knows_more.is_some(),
    }
}

fn is_passing(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    let passes = match facts.enforcement {
        Enforcement::Acknowledged(held) => {
            let pending = facts.ledger.and_then(Ledger::pending);
            let soaks_for = snapshot.ring.soak.saturating_sub(held);
            pending.is_some_and(|v| v.acknowledged_at().is_some() || soaks_for < PASSING)
        }
        Enforcement::Behind { held, failure: None, .. } | Enforcement::Silent(_, _, held) => {
            held < PATIENCE
        }
        Enforcement::NotAsked | Enforcement::PolicyMissing(_, None) => true,
        _ => false,
    };
    let nobody_waits = snapshot.trouble.is_none() && facts.due_revocations.is_empty();
    facts.stage == Stage::Serving && nobody_waits && passes
}

fn ready(snapshot: &Snapshot, facts: &Facts<'_>, parts: &[Condition]) -> Condition {
    let not_ready =
        |reason, message| Condition { kind: Kind::Ready, status: Status::False, reason, message };
    match facts.stage {
        Stage::Deleting => return not_ready(Reason::Deleting, deleting(snapshot, facts)),
        Stage::DeletionBlocked => {
            return not_ready(Reason::DeletionBlocked, blocked(snapshot, facts));
        }
        Stage::Serving | Stage::Lost => {}
    }
    if !snapshot.ring.problems.is_empty() {
        return not_ready(Reason::SpecInvalid, snapshot.ring.problems.join("; "));
    }
    // Of that the gate is silent, and there is more to say.
    let is_silent = |part: &Condition| {
        part.reason == Reason::GateSilent && policy::is_not_loaded(snapshot, facts)
    };
    if let Some(part) = parts.iter().find(|part| holds_back(part) && !is_silent(part)) {
        return Condition { kind: Kind::Ready, ..part.clone() };
    }
    if let Some(message) = policy::cannot_rotate(snapshot, facts) {
        return not_ready(Reason::CannotRotate, message);
    }
    let unseen = parts.iter().find(|part| part.status != Status::True);
    let message = if snapshot.ring.suspend {
        "suspended by spec.suspend: no version is minted, switched or retired".to_owned()
    } else if snapshot.enrolled.is_empty() {
        let label = &snapshot.operator.enrolment_label;
        format!(
            "no namespace is enrolled, so no image is checked: kubectl label namespace NAME {label}={}",
            snapshot.name
        )
    } else if let Some(unseen) = unseen {
        format!("all is as asked, as far as it can be seen: {}", unseen.message)
    } else {
        "all is as asked".to_owned()
    };
    Condition { kind: Kind::Ready, status: Status::True, reason: Reason::Available, message }
}

/// Whether a part keeps a ring from being ready. That something cannot be seen
/// which Kyverno might leave out does not: it may be so for ever.
fn holds_back(part: &Condition) -> bool {
    match part.kind {
        Kind::EnforcementComplete => part.status == Status::False,
        _ => part.status != Status::True,
    }
}

fn reconciling(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<Condition> {
    if let Some(trouble) = &snapshot.trouble {
        return Some(Condition {
            kind: Kind::Reconciling,
            status: Status::True,
            reason: Reason::Retrying,
            message: format!("{trouble}; it is tried again"),
        });
    }
    let (reason, message) = match (facts.stage, facts.ledger) {
        (Stage::Deleting, _) => (Reason::Deleting, deleting(snapshot, facts)),
        (Stage::DeletionBlocked, _) => (Reason::DeletionBlocked, blocked(snapshot, facts)),
        (Stage::Lost, _) => return None,
        (Stage::Serving, None) if keys::import(snapshot).is_some() || snapshot.ring.suspend => {
            return None;
        }
        (Stage::Serving, Some(ledger)) if ledger.is_unborn() => {
            if keys::import(snapshot).is_some() || snapshot.ring.suspend {
                return None;
            }
            (Reason::FirstVersionPending, "the first version is being minted".to_owned())
        }
        (Stage::Serving, Some(_)) if keys::import(snapshot).is_some() => return None,
        (Stage::Serving, None) => {
            (Reason::FirstVersionPending, "the first version is being minted".to_owned())
        }
        (Stage::Serving, Some(ledger)) => match (ledger.pending(), &ledger.rule.settings.leaving) {
            // One that was to stand by is what the rotation will switch to.
            (Some(pending), None) if pending.is_spare() && facts.waits_for_others.is_some() => {
                (Reason::RotationQueued, queued(facts.waits_for_others?))
            }
            (Some(pending), _) => rotating(snapshot, facts, ledger, pending),
            (None, Some(Leaving { policy: old, .. })) => (
                Reason::Moving,
                format!("the rule moves from policy {old} to {}", ledger.rule.settings.policy),
            ),
            (None, None) => match policy::left_behind(snapshot, facts) {
                Some(text) => (Reason::Moving, text),
                None => (Reason::RotationQueued, queued(facts.waits_for_others?)),
            },
        },
    };
    Some(Condition { kind: Kind::Reconciling, status: Status::True, reason, message })
}

fn rotating(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    ledger: &Ledger,
    pending: &Version,
) -> (Reason, String) {
    let number = pending.number;
    if snapshot.ring.suspend {
        let message =
            format!("version {number} is pending and waits: spec.suspend is true; take it out");
        return (Reason::Suspended, message);
    }
    let reason = match (number, pending.is_spare()) {
        (_, true) => Reason::StandbyPending,
        (1, false) => Reason::FirstVersionPending,
        (_, false) => Reason::Rotating,
    };
    let waiting = policy::waiting_on(snapshot, facts, ledger)
        .or_else(|| pipelines::waiting_on(snapshot, facts, ledger))
        .unwrap_or_else(|| "the pipelines are being switched".to_owned());
    (reason, format!("version {number} is pending: {waiting}"))
}

/// What a rotation waits for that has yet to begin.
fn queued(most: u16) -> String {
    format!(
        "a rotation is due and begins when its turn comes: no more than {most} rings rotate at \
         once (--max-rotations)"
    )
}

/// What only a person can mend.
fn stalled(snapshot: &Snapshot, facts: &Facts<'_>, parts: &[Condition]) -> Option<Condition> {
    let stalled =
        |reason, message| Condition { kind: Kind::Stalled, status: Status::True, reason, message };
    if !snapshot.ring.problems.is_empty() {
        return Some(stalled(Reason::SpecInvalid, snapshot.ring.problems.join("; ")));
    }
    if facts.stage == Stage::Lost {
        let (reason, message) = keys::lost(snapshot, facts);
        return Some(stalled(reason, message));
    }
    let needs_a_person = |reason| {
        matches!(
            reason,
            Reason::PolicyConflict
                | Reason::PolicyRejected
                | Reason::ImportFailed
                | Reason::SecretConflict
                | Reason::SecretImmutable
        )
    };
    parts
        .iter()
        .find(|part| part.status == Status::False && needs_a_person(part.reason))
        .map(|part| stalled(part.reason, part.message.clone()))
}

fn blocked(snapshot: &Snapshot, facts: &Facts<'_>) -> String {
    let names: Vec<&str> = snapshot.enrolled.iter().take(5).map(String::as_str).collect();
    let more = match snapshot.enrolled.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let unanswered = match facts.asked {
        Some(_) => ", and the rotation that is asked for is not answered",
        None => "",
    };
    let (label, ring) = (&snapshot.operator.enrolment_label, &snapshot.name);
    format!(
        "namespaces are still enrolled and would be left without a check: {}{more}. Take their \
         label off (kubectl label namespace --selector={label}={ring} {label}-), or let the ring \
         go: kubectl annotate --overwrite skr {ring} {}=true. Until then its rule stays in force and \
         no version is minted{unanswered}",
        names.join(", "),
        crate::names::ANNOTATION_ALLOW_UNENFORCED,
    )
}

fn deleting(snapshot: &Snapshot, facts: &Facts<'_>) -> String {
    let Some(ledger) = facts.ledger else {
        return "the last traces are being removed".to_owned();
    };
    if let Some(text) = policy::leaving(snapshot, facts, ledger) {
        return text;
    }
    pipelines::left_behind(snapshot, ledger, |_| true)
        .map_or_else(|| "its Secrets and its ledger are being deleted".to_owned(), |(_, text)| text)
}

/// A token is done when the version that it asked for is current, or was.
fn observed_rotation(snapshot: &Snapshot, facts: &Facts<'_>) -> Option<String> {
    let before = || snapshot.reported.observed_rotation.clone();
    let Some(ledger) = facts.ledger else { return before() };
    snapshot.ring.token.as_deref().filter(|token| !token.is_empty())?;
    let Some(token) = facts.token else { return before() };
    match ledger.handled(token) {
        Some(version) if ledger.current().is_some_and(|current| current.number >= version) => {
            Some(token.to_owned())
        }
        _ => before(),
    }
}
