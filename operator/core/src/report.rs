//! What the status says: from what was observed to conditions, reasons and
//! sentences.
//!
//! `Ready` is derived from the other conditions and never set by a step.
//! Sentences hold nothing that changes by itself (no ages, no counters of
//! seconds): a status is written only when something happened.

use jiff::Timestamp;

use crate::{
    ledger::{Ledger, PipelineRef, Version},
    plan::is_token,
    snapshot::{LedgerFound, Snapshot},
};

mod keys;
mod pipelines;
mod policy;
mod revocations;

pub use pipelines::PipelineReport;

/// Where a ring is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The usual one.
    Serving,
    /// Its deletion waits, and until then it is served.
    DeletionBlocked,
    /// It is being taken down.
    Deleting,
    /// Its keys are lost: nothing is changed any more.
    Lost,
}

/// What the status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Ready` first. `Reconciling` and `Stalled` are absent unless true.
    pub conditions: Vec<Condition>,
    /// The rotation token whose version is current.
    pub observed_rotation: Option<String>,
    /// When the schedule rotates next.
    pub next_rotation: Option<Timestamp>,
    /// The pipelines of the spec.
    pub pipelines: Vec<PipelineReport>,
}

/// A condition as the Kubernetes API has it, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: Kind,
    /// Whether it holds.
    pub status: Status,
    /// Why, in one word for programs.
    pub reason: Reason,
    /// Why, and what to do, in a sentence for people.
    pub message: String,
}

/// The types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// All is well: the sum of the others.
    Ready,
    /// Something is on its way.
    Reconciling,
    /// Nothing will move until a person acts.
    Stalled,
    /// A version exists that may sign.
    KeysAvailable,
    /// Kyverno enforces the ring's rule.
    PolicyEnforced,
    /// The pipelines hold the key they should.
    PipelinesPublished,
    /// What the user revoked is not accepted any more. Absent unless asked for.
    RevocationsApplied,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows yet.
    Unknown,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is as it is. The names are part of the API: alerts
        /// and scripts match them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl std::str::FromStr for Reason {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $(stringify!($name) => Ok(Self::$name),)+
                    _ => Err(()),
                }
            }
        }
    };
}

reasons! {
    /// All is as asked.
    Available,
    /// No version is current yet.
    FirstVersionPending,
    /// A new version is on its way to the pipelines.
    Rotating,
    /// A version that is to stand by is on its way to Kyverno.
    StandbyPending,
    /// The rule is on its way into another policy.
    Moving,
    /// The API server refused a write, which is tried again.
    Retrying,
    /// Versions existed and their ledger is gone or damaged.
    KeyMaterialLost,
    /// An older ledger was restored over a newer one.
    LedgerOutdated,
    /// The version that signed was revoked and the next is on its way.
    CurrentRevoked,
    /// Every version that was accepted is revoked.
    AllRevoked,
    /// What is revoked is not accepted any more.
    RevocationsApplied,
    /// Kyverno still accepts what was just revoked, or may.
    RevocationPending,
    /// A revocation names a version that never existed.
    RevocationUnknown,
    /// Lifecycle changes are frozen by the user.
    Suspended,
    /// An existing key pair could not be taken over.
    ImportFailed,
    /// The ring's object asks for something that cannot be served.
    SpecInvalid,
    /// The ring's object cannot be read by this operator.
    SpecUnreadable,
    /// Kyverno enforces the ring's rule.
    Enforced,
    /// Kyverno reports what the ring's rule would refuse.
    Audited,
    /// Kyverno has not been asked yet.
    GateNotAsked,
    /// Kyverno was just told and has not caught up.
    PolicyPending,
    /// Kyverno keeps answering with an older key set.
    PolicyBehind,
    /// The cluster does not serve Kyverno's ClusterPolicy.
    KyvernoMissing,
    /// An object with the policy's name is not ours.
    PolicyConflict,
    /// Kyverno refused the policy.
    PolicyRejected,
    /// The policy does not exist.
    PolicyMissing,
    /// Pods pass without being verified.
    GateOpen,
    /// Kyverno does not answer and pods are refused.
    GateMute,
    /// Something that is not our gate answered.
    GateUnreadable,
    /// Every pipeline holds the key it should.
    Published,
    /// The ring has no pipeline.
    NoPipelines,
    /// No version may be published yet.
    PublicationPending,
    /// A namespace's owner has not granted access.
    AccessNotGranted,
    /// A pipeline's namespace does not exist.
    NamespaceMissing,
    /// A Secret with the pipeline's name is not ours.
    SecretConflict,
    /// A Secret could not be read or written.
    SecretFailed,
    /// A Secret of a pipeline that was taken out could not be deleted.
    SecretLeftBehind,
    /// Namespaces are still enrolled in a ring that is being deleted.
    DeletionBlocked,
    /// The ring is being taken down.
    Deleting,
}

/// Reports on a ring in this stage of its life.
#[must_use]
pub fn report(snapshot: &Snapshot, stage: Stage, next_rotation: Option<Timestamp>) -> Report {
    let ledger = match &snapshot.ledger {
        LedgerFound::Present(ledger) => Some(ledger),
        _ => None,
    };
    let (pipelines_published, pipelines) = pipelines::condition(snapshot, ledger);
    let parts = [
        keys::condition(snapshot, ledger, stage),
        policy::condition(snapshot, ledger, stage),
        pipelines_published,
    ];
    let mut conditions = vec![ready(snapshot, stage, &parts)];
    conditions.extend(reconciling(snapshot, ledger, stage));
    conditions.extend(stalled(snapshot, stage, &parts));
    conditions.extend(parts);
    conditions.extend(revocations::condition(snapshot, ledger, stage));
    Report {
        conditions,
        observed_rotation: observed_rotation(snapshot, ledger),
        next_rotation,
        pipelines,
    }
}

fn ready(snapshot: &Snapshot, stage: Stage, parts: &[Condition]) -> Condition {
    let not_ready =
        |reason, message| Condition { kind: Kind::Ready, status: Status::False, reason, message };
    match stage {
        Stage::Deleting => return not_ready(Reason::Deleting, deleting(snapshot)),
        Stage::DeletionBlocked => return not_ready(Reason::DeletionBlocked, blocked(snapshot)),
        Stage::Serving | Stage::Lost => {}
    }
    if !snapshot.ring.problems.is_empty() {
        return not_ready(Reason::SpecInvalid, snapshot.ring.problems.join("; "));
    }
    if let Some(part) = parts.iter().find(|part| part.status != Status::True) {
        return Condition { kind: Kind::Ready, ..part.clone() };
    }
    let message = if snapshot.ring.suspend {
        "suspended by spec.suspend: no version is minted, switched or retired".to_owned()
    } else if snapshot.enrolled.is_empty() {
        let label = &snapshot.operator.enrolment_label;
        format!(
            "no namespace is enrolled, so no image is checked: kubectl label namespace NAME {label}={}",
            snapshot.name
        )
    } else {
        "all is as asked".to_owned()
    };
    Condition { kind: Kind::Ready, status: Status::True, reason: Reason::Available, message }
}

fn reconciling(snapshot: &Snapshot, ledger: Option<&Ledger>, stage: Stage) -> Option<Condition> {
    if let Some(trouble) = &snapshot.trouble {
        return Some(Condition {
            kind: Kind::Reconciling,
            status: Status::True,
            reason: Reason::Retrying,
            message: format!("{trouble}; it is tried again"),
        });
    }
    let (reason, message) = match (stage, ledger) {
        (Stage::Deleting, _) => (Reason::Deleting, deleting(snapshot)),
        (Stage::DeletionBlocked, _) => (Reason::DeletionBlocked, blocked(snapshot)),
        (Stage::Lost, _) => return None,
        (Stage::Serving, None) if keys::import(snapshot).is_some() || snapshot.ring.suspend => {
            return None;
        }
        (Stage::Serving, None) => {
            (Reason::FirstVersionPending, "the first version is being minted".to_owned())
        }
        (Stage::Serving, Some(ledger)) => match (ledger.pending(), &ledger.rule.settings.leaving) {
            (Some(pending), _) => rotating(snapshot, ledger, pending),
            (None, Some(old)) => (
                Reason::Moving,
                format!("the rule moves from policy {old} to {}", ledger.rule.settings.policy),
            ),
            (None, None) => return None,
        },
    };
    Some(Condition { kind: Kind::Reconciling, status: Status::True, reason, message })
}

fn rotating(snapshot: &Snapshot, ledger: &Ledger, pending: &Version) -> (Reason, String) {
    let number = pending.number;
    if snapshot.ring.suspend {
        let message = format!("version {number} is pending and waits: spec.suspend is true");
        return (Reason::Suspended, message);
    }
    let reason = match (number, pending.standby) {
        (_, true) => Reason::StandbyPending,
        (1, false) => Reason::FirstVersionPending,
        (_, false) => Reason::Rotating,
    };
    let waiting = policy::waiting_on(snapshot, ledger)
        .or_else(|| pipelines::waiting_on(snapshot, ledger))
        .unwrap_or_else(|| "the pipelines are being switched".to_owned());
    (reason, format!("version {number} is pending: {waiting}"))
}

/// What only a person can mend.
fn stalled(snapshot: &Snapshot, stage: Stage, parts: &[Condition]) -> Option<Condition> {
    let stalled =
        |reason, message| Condition { kind: Kind::Stalled, status: Status::True, reason, message };
    if !snapshot.ring.problems.is_empty() {
        return Some(stalled(Reason::SpecInvalid, snapshot.ring.problems.join("; ")));
    }
    if stage == Stage::Lost {
        let (reason, message) = keys::lost(snapshot);
        return Some(stalled(reason, message));
    }
    let needs_a_person = |reason| {
        matches!(
            reason,
            Reason::PolicyConflict
                | Reason::PolicyRejected
                | Reason::ImportFailed
                | Reason::SecretConflict
        )
    };
    parts
        .iter()
        .find(|part| part.status == Status::False && needs_a_person(part.reason))
        .map(|part| stalled(part.reason, part.message.clone()))
}

fn blocked(snapshot: &Snapshot) -> String {
    let names: Vec<&str> = snapshot.enrolled.iter().take(5).map(String::as_str).collect();
    let more = match snapshot.enrolled.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let label = &snapshot.operator.enrolment_label;
    format!(
        "namespaces are still enrolled and would be left without a check: {}{more}. Take their \
         label off (kubectl label namespace NAME {label}-), or let the ring go: kubectl annotate \
         skr {} {}=true",
        names.join(", "),
        snapshot.name,
        crate::names::ANNOTATION_ALLOW_UNENFORCED,
    )
}

fn deleting(snapshot: &Snapshot) -> String {
    let LedgerFound::Present(ledger) = &snapshot.ledger else {
        return "the last traces are being removed".to_owned();
    };
    if let Some(text) = policy::leaving(snapshot, ledger) {
        return text;
    }
    pipelines::left_behind(snapshot, ledger, |_| true)
        .unwrap_or_else(|| "its Secrets and its ledger are being deleted".to_owned())
}

/// A token is done when the version that it asked for is current, or was.
fn observed_rotation(snapshot: &Snapshot, ledger: Option<&Ledger>) -> Option<String> {
    let before = || snapshot.reported.observed_rotation.clone();
    let Some(ledger) = ledger else { return before() };
    let token = snapshot.ring.token.as_deref().filter(|token| !token.is_empty())?;
    if !is_token(token) {
        return before();
    }
    match ledger.handled(token) {
        Some(version) if ledger.current().is_some_and(|current| current.number >= version) => {
            Some(token.to_owned())
        }
        _ => before(),
    }
}

/// Names of pipelines for a sentence.
fn list<'a>(pipelines: impl Iterator<Item = &'a PipelineRef>) -> String {
    pipelines.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
