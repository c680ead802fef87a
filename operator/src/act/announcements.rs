//! What a ring's events say of the steps that were taken.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use signingkeyring_core::{
    event::{Action as Doing, Occurrence},
    facts::Facts,
    ledger::{Ledger, PipelineRef, State, Version},
    snapshot::{LedgerFound, PipelineFound},
};
use tracing::info;

use crate::{context::Context, observe::Observed};

/// A version's fingerprint, for events and logs.
pub(super) fn fingerprint(ledger: &Ledger, number: u32) -> String {
    ledger.by_number(number).map_or("", |row| row.fingerprint.as_str()).to_owned()
}

/// Says that a Secret is gone, once it is.
pub(super) async fn announce_removed(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    pipeline: &PipelineRef,
) {
    let found = observed.snapshot.pipelines.get(pipeline);
    if matches!(found, Some(PipelineFound::Absent | PipelineFound::NoNamespace)) {
        let note = format!("Secret {pipeline} is gone, and its private key with it");
        let (reason, doing) = (Occurrence::PipelineRemoved, Doing::Unpublish);
        context.events.publish(on, false, reason, doing, &note).await;
    }
}

/// Says that a Secret was written again that somebody had changed.
pub(super) async fn announce_restored(
    context: &Context,
    on: &ObjectReference,
    pipeline: &PipelineRef,
    version: u32,
) {
    let note = format!("Secret {pipeline} holds version {version}");
    context.events.publish(on, true, Occurrence::PipelineRestored, Doing::Publish, &note).await;
}

/// Says which Secrets were written, unless that is said in a moment: with all of them written,
/// the version that waited for that becomes current.
pub(super) async fn announce_published(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    version: u32,
    pipelines: &BTreeSet<PipelineRef>,
) {
    let snapshot = &observed.snapshot;
    let waits = snapshot.ledger.table().and_then(Ledger::pending).map(|v| v.number);
    let holds_back = Facts::of(snapshot).holding_back;
    let is_last = waits == Some(version)
        && !snapshot.ring.suspend
        && holds_back.iter().all(|pipeline| pipelines.contains(*pipeline));
    if pipelines.is_empty() || is_last {
        return;
    }
    let note = format!("version {version} is in the Secrets {}", list(pipelines));
    context.events.publish(on, false, Occurrence::PipelinePublished, Doing::Publish, &note).await;
}

/// Says that a version signs, which version is not accepted any more for that, and which
/// Secrets hold the one that signs. `published` are those that were written in this pass.
pub(super) async fn announce_current(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    next: &Ledger,
    (version, published): (u32, &BTreeSet<PipelineRef>),
) {
    let ring = observed.snapshot.name.as_str();
    let fingerprint = fingerprint(next, version);
    info!(ring, version, fingerprint, "version current");
    context.metrics.version_activated(next.by_number(version));
    let mut note = format!("version {version} signs, {fingerprint}");
    for retired in retired(observed, next) {
        info!(ring, version = retired.number, fingerprint = %retired.fingerprint, "version retired");
        note += &format!(
            "; images of version {}, {}, are refused from now on",
            retired.number, retired.fingerprint
        );
    }
    let holds_it = |(pipeline, found): (&PipelineRef, &PipelineFound)| match found {
        PipelineFound::Ours { holds, .. } if *holds == Some(version) => Some(pipeline.clone()),
        _ => None,
    };
    let mut pipelines: BTreeSet<_> =
        observed.snapshot.pipelines.iter().filter_map(holds_it).collect();
    pipelines.extend(published.iter().cloned());
    if !pipelines.is_empty() {
        note += &format!("; it is in the Secrets {}", list(&pipelines));
    }
    context.events.publish(on, false, Occurrence::VersionCurrent, Doing::Activate, &note).await;
}

/// Says which versions are not accepted any more.
pub(super) async fn announce_retired(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    next: &Ledger,
) {
    let ring = observed.snapshot.name.as_str();
    for Version { number, fingerprint, .. } in retired(observed, next) {
        info!(ring, version = number, %fingerprint, "version retired");
        let note = format!("images of version {number}, {fingerprint}, are refused from now on");
        let (reason, doing) = (Occurrence::VersionRetired, Doing::Retire);
        context.events.publish(on, false, reason, doing, &note).await;
    }
}

/// The versions that retire with a commit.
fn retired<'a>(observed: &'a Observed, next: &'a Ledger) -> impl Iterator<Item = &'a Version> {
    let before = match &observed.snapshot.ledger {
        LedgerFound::Present(before) => Some(before),
        _ => None,
    };
    next.versions.iter().filter(|v| v.state() == State::Retired).filter(move |version| {
        let was = before.and_then(|before| before.by_number(version.number));
        was.is_some_and(|was| was.state() != State::Retired)
    })
}

fn list(pipelines: &BTreeSet<PipelineRef>) -> String {
    let names: Vec<String> = pipelines.iter().map(ToString::to_string).collect();
    names.join(", ")
}
