//! The condition `PipelinesPublished` and a line per pipeline.

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Facts, is_in_the_way, is_out_of_reach},
    grant,
    ledger::{Ledger, PipelineRef},
    snapshot::{PipelineFound, Snapshot},
};

/// A pipeline as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineReport {
    /// Which Secret.
    pub pipeline: PipelineRef,
    /// The version it holds.
    pub version: Option<u32>,
    /// [`Reason::Published`], or why it is not.
    pub reason: Reason,
}

pub(super) fn condition(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
) -> (Condition, Vec<PipelineReport>) {
    let ledger = facts.ledger;
    let lines: Vec<(PipelineReport, String)> =
        snapshot.ring.pipelines.keys().map(|pipeline| line(snapshot, ledger, pipeline)).collect();
    let left_behind = ledger.and_then(|ledger| {
        left_behind(snapshot, ledger, |p| !snapshot.ring.pipelines.contains_key(p))
    });
    let new = |status, reason, message| Condition {
        kind: Kind::PipelinesPublished,
        status,
        reason,
        message,
    };
    let condition = if let Some((first, _)) =
        lines.iter().find(|(line, _)| line.reason != Reason::Published)
    {
        let texts: Vec<&str> = lines
            .iter()
            .filter(|(line, _)| line.reason != Reason::Published)
            .map(|(_, text)| text.as_str())
            .chain(left_behind.iter().map(|(_, text)| text.as_str()))
            .collect();
        new(Status::False, first.reason, texts.join("; "))
    } else if let Some(text) = left_behind {
        new(Status::True, text.0, text.1)
    } else if lines.is_empty() {
        new(Status::True, Reason::NoPipelines, "the ring names no pipeline".to_owned())
    } else {
        new(Status::True, Reason::Published, "every pipeline holds the key it should".to_owned())
    };
    (condition, lines.into_iter().map(|(line, _)| line).collect())
}

fn line(
    snapshot: &Snapshot,
    ledger: Option<&Ledger>,
    pipeline: &PipelineRef,
) -> (PipelineReport, String) {
    let pending = (Reason::PublicationPending, format!("{pipeline} waits for its key"));
    let found = snapshot.pipelines.get(pipeline);
    let held = match found {
        Some(PipelineFound::Ours { holds, .. }) => *holds,
        _ => None,
    };
    let (reason, text) = match found {
        Some(found) if snapshot.is_ending(pipeline) && *found != PipelineFound::NoNamespace => {
            let namespace = &pipeline.namespace;
            (
                Reason::NamespaceTerminating,
                format!(
                    "{pipeline}: namespace {namespace} is being deleted, so nothing can be created \
                     there; rotations go on without it. Take the pipeline out of spec.pipelines; \
                     or look what holds the namespace up (kubectl get namespace {namespace} -o \
                     yaml), and create it anew once it is gone"
                ),
            )
        }
        Some(PipelineFound::Ours { .. })
            if ledger.is_some_and(|ledger| is_in_the_way(snapshot, ledger, pipeline)) =>
        {
            let what = "has to be written and cannot be changed";
            (Reason::SecretImmutable, format!("{pipeline} {what}. {}", replace(pipeline)))
        }
        Some(PipelineFound::Ours { .. }) => {
            // One that is about to be switched still holds the key that signs.
            let signing = ledger.and_then(Ledger::current).map(|current| current.number);
            match (held, signing) {
                (Some(held), Some(signing)) if held >= signing => {
                    (Reason::Published, String::new())
                }
                _ => pending,
            }
        }
        Some(PipelineFound::Absent) | None => pending,
        Some(PipelineFound::NoNamespace) => (
            Reason::NamespaceMissing,
            format!(
                "{pipeline}: the namespace does not exist. Create it: kubectl create namespace {}",
                pipeline.namespace
            ),
        ),
        Some(PipelineFound::Forbidden) => (
            Reason::AccessNotGranted,
            format!(
                "{pipeline}: the namespace's owner has to grant access: {}",
                grant::publish(&snapshot.operator, pipeline)
            ),
        ),
        Some(PipelineFound::Foreign { ring: Some(ring), .. }) => (
            Reason::SecretConflict,
            format!(
                "{pipeline}: the Secret of that name is written by ring {ring}, so it is left \
                 alone. Name another one in spec.pipelines of one of the two rings, by secretName"
            ),
        ),
        Some(PipelineFound::OursUnknownKey { .. }) if ledger.is_none() => (
            Reason::SecretConflict,
            format!(
                "{pipeline}: what the Secret of that name holds is not known as long as the ring's \
                 ledger is not; it is left as it is, and may hold the key that signs"
            ),
        ),
        Some(
            found @ (PipelineFound::Foreign { ring: None, .. }
            | PipelineFound::OursUnknownKey { .. }),
        ) => {
            let what = match found {
                PipelineFound::OursUnknownKey { .. } => {
                    "a Secret of that name exists that names this ring and no key of it"
                }
                _ => {
                    "a Secret of that name exists that no ring has written, or whose annotations \
                      somebody took off"
                }
            };
            (
                Reason::SecretConflict,
                format!(
                    "{pipeline}: {what}, so it is left alone. Name another one in spec.pipelines, \
                     by secretName; or, once you have made sure that nobody needs it, delete it: \
                     kubectl delete secret {} --namespace={}",
                    pipeline.name, pipeline.namespace
                ),
            )
        }
        Some(PipelineFound::Failed(text)) => (
            Reason::SecretFailed,
            format!(
                "{pipeline}: {text}. It is tried again; mend that, or take the pipeline out of \
                 spec.pipelines"
            ),
        ),
    };
    (PipelineReport { pipeline: pipeline.clone(), version: held, reason }, text)
}

/// What helps where a Secret cannot be changed.
fn replace(pipeline: &PipelineRef) -> String {
    format!(
        "It is immutable, or of a type other than Opaque. Delete it, and it is written anew: \
         kubectl delete secret {} --namespace={}; or take the pipeline out of spec.pipelines",
        pipeline.name, pipeline.namespace
    )
}

/// Why a rotation waits for pipelines, if it does.
pub(super) fn waiting_on(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    ledger: &Ledger,
) -> Option<String> {
    let fixed = |pipeline: &&PipelineRef| is_in_the_way(snapshot, ledger, pipeline);
    let out_of_reach = |pipeline: &&PipelineRef| is_out_of_reach(snapshot, pipeline);
    let (fixed, others): (Vec<&PipelineRef>, Vec<&PipelineRef>) =
        facts.holding_back.iter().copied().partition(fixed);
    let (out_of_reach, others): (Vec<&PipelineRef>, Vec<&PipelineRef>) =
        others.into_iter().partition(out_of_reach);
    let mut texts: Vec<String> = Vec::new();
    if !out_of_reach.is_empty() {
        texts.push(format!(
            "{} hold an older key, or may; let the operator in (PipelinesPublished says how), or take \
             them out of spec.pipelines",
            list(&out_of_reach)
        ));
    }
    texts.extend(fixed.into_iter().map(|pipeline| {
        format!("{pipeline} holds an older key and cannot be changed. {}", replace(pipeline))
    }));
    if texts.is_empty() && !others.is_empty() {
        texts.push(format!("{} are being switched", list(&others)));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Published Secrets that should be gone and are not: that we may not delete,
/// that somebody holds up, or that do not say any more whose they are.
pub(super) fn left_behind(
    snapshot: &Snapshot,
    ledger: &Ledger,
    unwanted: impl Fn(&PipelineRef) -> bool,
) -> Option<(Reason, String)> {
    let (mut unreachable, mut leaving) = (Vec::new(), Vec::new());
    let (mut unnamed, mut failed) = (Vec::new(), Vec::new());
    for pipeline in ledger.publications.iter().filter(|p| unwanted(p)) {
        match snapshot.pipelines.get(pipeline) {
            Some(PipelineFound::Ours { leaving: true, .. }) => leaving.push(pipeline),
            Some(
                PipelineFound::Foreign { holds: Some(version), .. }
                | PipelineFound::OursUnknownKey { holds: Some(version) },
            ) if !ledger.removed => unnamed.push((pipeline, version)),
            Some(PipelineFound::Failed(text)) => failed.push((pipeline, text)),
            _ if is_out_of_reach(snapshot, pipeline) => unreachable.push(pipeline),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    let (ending, unreachable): (Vec<&PipelineRef>, Vec<&PipelineRef>) =
        unreachable.into_iter().partition(|pipeline| snapshot.is_ending(pipeline));
    if !unreachable.is_empty() {
        let grants: Vec<String> =
            unreachable.iter().map(|p| grant::publish(&snapshot.operator, p)).collect();
        texts.push(format!(
            "perhaps left behind with a private key, because access was withdrawn, so the operator \
             can neither look nor delete: {}. Let it: {}",
            list(&unreachable),
            grants.join(" && ")
        ));
    }
    if let Some(first) = ending.first() {
        texts.push(format!(
            "looked for once that is possible: {}. The namespace is being deleted, so the operator \
             may not look any more, and what is there goes with it. Look what holds it up: kubectl \
             get namespace {} -o yaml",
            list(&ending),
            first.namespace
        ));
    }
    if let Some(first) = leaving.first() {
        texts.push(format!(
            "being deleted, and held up with a private key by somebody's finalizers: {}. Look whose \
             they are: kubectl get secret {} --namespace={} -o yaml",
            list(&leaving),
            first.name,
            first.namespace
        ));
    }
    for (pipeline, text) in failed {
        texts.push(format!("perhaps left behind with a private key: {pipeline}: {text}"));
    }
    for (pipeline, version) in unnamed {
        texts.push(format!(
            "left behind with the private key of version {version}, whose signatures are accepted, \
             because somebody edited its annotations: {pipeline}. Delete it: kubectl delete secret \
             {} --namespace={}",
            pipeline.name, pipeline.namespace
        ));
    }
    // Of a Secret that may be gone it is not said that it was left behind.
    let reason = if texts.len() == usize::from(!ending.is_empty()) {
        Reason::NamespaceTerminating
    } else {
        Reason::SecretLeftBehind
    };
    (!texts.is_empty()).then(|| (reason, texts.join("; ")))
}

/// Names of pipelines for a sentence.
fn list(pipelines: &[&PipelineRef]) -> String {
    let names: Vec<String> = pipelines.iter().map(ToString::to_string).collect();
    names.join(", ")
}
