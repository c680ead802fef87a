//! The condition `PipelinesPublished` and a line per pipeline.

use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Facts, is_out_of_reach},
    ledger::{Ledger, PipelineRef},
    names,
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
            .collect();
        new(Status::False, first.reason, texts.join("; "))
    } else if let Some(text) = left_behind {
        new(Status::True, Reason::SecretLeftBehind, text)
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
    let held = match (found, ledger) {
        (Some(PipelineFound::Ours { fingerprint, .. }), Some(ledger)) => {
            ledger.by_fingerprint(fingerprint).map(|v| v.number)
        }
        _ => None,
    };
    let (reason, text) = match found {
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
                grant(snapshot, pipeline)
            ),
        ),
        Some(PipelineFound::Foreign | PipelineFound::OursUnknownKey) => (
            Reason::SecretConflict,
            format!(
                "{pipeline}: a Secret of that name exists that this ring did not write, so it is \
                 left alone. Delete it or name another: kubectl delete secret {} --namespace={}",
                pipeline.name, pipeline.namespace
            ),
        ),
        Some(PipelineFound::Failed(text)) => (Reason::SecretFailed, format!("{pipeline}: {text}")),
    };
    (PipelineReport { pipeline: pipeline.clone(), version: held, reason }, text)
}

/// The command that lets the operator publish into a pipeline's namespace.
fn grant(snapshot: &Snapshot, pipeline: &PipelineRef) -> String {
    let PipelineRef { namespace, name } = pipeline;
    let role = names::PIPELINE_ROLE;
    let account = format!("{}:{}", snapshot.operator.namespace, names::SERVICE_ACCOUNT);
    let bind = format!(
        "kubectl create rolebinding {role} --namespace={namespace} --clusterrole={role} --serviceaccount={account}"
    );
    if name == names::DEFAULT_SECRET_NAME {
        return bind;
    }
    format!(
        "{bind} && kubectl create role {role}-{name} --namespace={namespace} \
         --verb=get,update,patch,delete --resource=secrets --resource-name={name} && kubectl \
         create rolebinding {role}-{name} --namespace={namespace} --role={role}-{name} \
         --serviceaccount={account}"
    )
}

/// Why a rotation waits for pipelines, if it does.
pub(super) fn waiting_on(facts: &Facts<'_>) -> Option<String> {
    (!facts.holding_back.is_empty()).then(|| {
        format!(
            "{} hold an older key, or may; make them reachable or take them out of spec.pipelines",
            list(&facts.holding_back)
        )
    })
}

/// Published Secrets that should be gone and that we may not delete.
pub(super) fn left_behind(
    snapshot: &Snapshot,
    ledger: &Ledger,
    unwanted: impl Fn(&PipelineRef) -> bool,
) -> Option<String> {
    let left: Vec<&PipelineRef> = ledger
        .publications
        .iter()
        .filter(|p| unwanted(p) && is_out_of_reach(snapshot, p))
        .collect();
    let first = *left.first()?;
    Some(format!(
        "left behind with a private key, because access was withdrawn: {}. Let the operator \
         delete it: {}",
        list(&left),
        grant(snapshot, first)
    ))
}

/// Names of pipelines for a sentence.
fn list(pipelines: &[&PipelineRef]) -> String {
    let names: Vec<String> = pipelines.iter().map(ToString::to_string).collect();
    names.join(", ")
}
