//! Executes a plan. The only writer of the operator, the gate's dry runs and
//! events aside. Every write is a compare-and-swap: a create that must not
//! exist yet, or a replacement or deletion of exactly what was observed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_core::{
    event::{Action as Doing, Occurrence},
    high_water::{HighWater, HighWaters},
    ledger::{Cause, Change, Ledger, Mint, PipelineRef},
    names,
    plan::Action,
    snapshot::{Finding, PipelineFound},
};
use signingkeyring_crds::SigningKeyRing;
use tracing::{info, warn};

use crate::{
    context::Context,
    error::{Error, brief},
    handover::HeldKey,
    observe::{Observed, is_rights_problem},
    telemetry,
};

mod announcements;
mod import;
pub mod ledger;
pub mod pipelines;
mod place;
pub mod policies;
pub mod status;
pub mod unknown_rings;

use announcements::{
    announce_current, announce_published, announce_removed, announce_restored, announce_retired,
    fingerprint,
};

/// What executing a plan came to.
#[derive(Debug, Default)]
pub struct Done {
    /// Whether anything was written, so that the ring is to be looked at again.
    pub wrote: bool,
    /// What came to light, for the snapshot to learn.
    pub findings: Vec<Finding>,
    /// A version waits for its key pair, with which the ring is woken.
    pub awaits_key: bool,
    /// Why the pass ended before its end, if it failed.
    pub failed: Option<Error>,
}

/// What a pass has come to so far.
#[derive(Default)]
struct Progress {
    /// The key that pipelines were given, which is read once.
    key: Option<HeldKey>,
    /// The pipelines that were given it, and its version.
    published: BTreeSet<PipelineRef>,
    version: Option<u32>,
}

/// Why an action was not executed.
#[derive(Debug)]
enum Halt {
    /// Something is not as it was observed, and only a person can mend it.
    Found(Finding),
    /// The key pair for it was ordered.
    AwaitsKey,
    /// It failed.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Executes actions in order. A pipeline that fails does not hold up the
/// others; what only a person can mend ends the pass, and so does what fails
/// otherwise: the ring, its ledger or the API server would not have it.
pub async fn act(
    context: &Context,
    object: &SigningKeyRing,
    observed: &Observed,
    actions: &[Action],
) -> Done {
    let mut progress = Progress::default();
    let done = act_in_order(context, object, observed, actions, &mut progress).await;
    if let Some(version) = progress.version {
        let on = telemetry::ring_reference(&object.name_any(), object.uid().as_deref());
        announce_published(context, &on, observed, version, &progress.published).await;
    }
    done
}

async fn act_in_order(
    context: &Context,
    object: &SigningKeyRing,
    observed: &Observed,
    actions: &[Action],
    progress: &mut Progress,
) -> Done {
    let mut done = Done::default();
    let mut conflict = None;
    for action in actions {
        match (action, execute(context, object, observed, action, progress).await) {
            (_, Ok(())) => done.wrote = true,
            (
                Action::WriteSecret { pipeline, .. } | Action::DeleteSecret(pipeline),
                Err(Halt::Failed(Error::Api { source, .. })),
            ) => {
                let found = if is_rights_problem(&source) {
                    PipelineFound::Forbidden
                } else {
                    PipelineFound::Failed(brief(&source))
                };
                warn!(ring = object.name_any(), %pipeline, error = brief(&source), "pipeline not served");
                done.findings.push(Finding::Pipeline(pipeline.clone(), found));
            }
            // Somebody writes it all the time: the others do not wait for that.
            (
                Action::WriteSecret { pipeline, .. } | Action::DeleteSecret(pipeline),
                Err(Halt::Failed(error @ Error::Conflict(_))),
            ) if error.is_about(&pipelines::named(pipeline)) => conflict = Some(error),
            (_, Err(Halt::Found(finding))) => {
                done.findings.push(finding);
                return Done { wrote: false, ..done };
            }
            (_, Err(Halt::AwaitsKey)) => return Done { awaits_key: true, ..done },
            (_, Err(Halt::Failed(error))) => return Done { failed: Some(error), ..done },
        }
    }
    Done { failed: conflict, ..done }
}

async fn execute(
    context: &Context,
    object: &SigningKeyRing,
    observed: &Observed,
    action: &Action,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let name = &observed.snapshot.name;
    let ring = name.as_str();
    let on = telemetry::ring_reference(ring, object.uid().as_deref());
    if action.begins_rotation(observed.snapshot.ledger.table())
        && !context.rotations.begin(ring, observed.snapshot.ring.soak)
    {
        return Err(Error::Overtaken("the room for a rotation".to_owned()).into());
    }
    match action {
        Action::AddFinalizer(mark) => Ok(add_finalizer(context, object, mark.as_ref()).await?),
        Action::RemoveFinalizer => Ok(remove_finalizer(context, object).await?),
        Action::RecordHighWater(mark) => Ok(record_high_water(context, object, mark).await?),
        Action::Mint(mint) => self::mint(context, &on, observed, mint).await,
        Action::Commit(change) => commit(context, &on, observed, change, &progress.published).await,
        Action::WriteSecret { pipeline, layout, version, drifted } => {
            let key = ledger::key(context, observed, *version, progress.key.take()).await?;
            let pair = &key.pair;
            let written =
                pipelines::write(context, observed, pipeline, *layout, *version, pair).await;
            progress.key = Some(key);
            if written.is_err() {
                // It may be there all the same: what was seen before says nothing any more.
                context.cache.looks.forget(ring);
            }
            written?;
            info!(ring, %pipeline, version, drifted, "pipeline Secret written");
            if *drifted {
                context.metrics.drift_undone("Secret");
                announce_restored(context, &on, pipeline, *version).await;
            } else {
                progress.published.insert(pipeline.clone());
                progress.version = Some(*version);
            }
            Ok(())
        }
        Action::DeleteSecret(pipeline) => {
            context.cache.looks.forget(ring);
            pipelines::delete(context, observed, pipeline).await?;
            info!(ring, %pipeline, "pipeline Secret is being deleted");
            Ok(())
        }
        Action::DeleteKeySecret(secret) => {
            ledger::delete_key_secret(context, name, secret).await?;
            info!(ring, name = secret, "private key destroyed");
            Ok(())
        }
        Action::DeleteLedger => {
            ledger::delete(context, observed).await?;
            info!(ring, "ledger deleted");
            Ok(())
        }
    }
}

async fn mint(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    mint: &Mint,
) -> Result<(), Halt> {
    let ring = observed.snapshot.name.as_str();
    let next = ledger::mint(context, observed, mint).await?;
    let (version, events) = (mint.version(), &context.events);
    let fingerprint = fingerprint(&next, version);
    match mint {
        Mint::New { cause, .. } => {
            let standby = *cause == Cause::Standby;
            info!(ring, version, fingerprint, standby, "version minted");
            let why = if standby { " to stand by" } else { "" };
            let note = format!("version {version} was generated{why}, {fingerprint}");
            events.publish(on, false, Occurrence::VersionMinted, Doing::Mint, &note).await;
        }
        Mint::Import { from, .. } => {
            info!(ring, version, fingerprint, %from, "version imported");
            let note =
                format!("version {version} was taken over from Secret {from}, {fingerprint}");
            events.publish(on, false, Occurrence::VersionImported, Doing::Import, &note).await;
        }
        Mint::Recover(_) => {
            warn!(ring, version, fingerprint, "version minted over a loss, as asked");
            let note = format!("version {version} was generated over a loss, {fingerprint}");
            events.publish(on, true, Occurrence::VersionMinted, Doing::Recover, &note).await;
        }
    }
    announce_retired(context, on, observed, &next).await;
    Ok(())
}

async fn commit(
    context: &Context,
    on: &ObjectReference,
    observed: &Observed,
    change: &Change,
    published: &BTreeSet<PipelineRef>,
) -> Result<(), Halt> {
    let ring = observed.snapshot.name.as_str();
    let next = ledger::commit(context, observed, change).await?;
    hasten(context, &next, change);
    let events = &context.events;
    let fingerprint = |number: u32| fingerprint(&next, number);
    match change {
        Change::Acknowledge { version, .. } => info!(ring, version, "version acknowledged"),
        Change::Promote { version, .. } => info!(ring, version, "version that stood by takes over"),
        Change::Discard { version } => info!(ring, version, "version given up before it signed"),
        Change::Activate { version, .. } => {
            announce_current(context, on, observed, &next, (*version, published)).await;
            return Ok(());
        }
        Change::Revoke { versions, promote, .. } => {
            for version in versions {
                let fingerprint = fingerprint(*version);
                warn!(ring, version, fingerprint, "version revoked");
                let note = format!("version {version} was revoked, {fingerprint}");
                events.publish(on, true, Occurrence::VersionRevoked, Doing::Revoke, &note).await;
            }
            if let Some(version) = promote {
                announce_current(context, on, observed, &next, (*version, published)).await;
                return Ok(());
            }
        }
        Change::CorrectTimes => warn!(ring, "the ledger named times in the future, corrected"),
        Change::Window { .. } => info!(ring, "window moved"),
        Change::Rule(rule) => info!(ring, policy = %rule.policy, "rule changed"),
        Change::Begin { .. } => info!(ring, "ring begun without a version"),
        Change::Publications { strike, .. } => {
            info!(ring, "publications recorded");
            for pipeline in strike {
                announce_removed(context, on, observed, pipeline).await;
            }
        }
        Change::Withdraw(_) => info!(ring, "publications withdrawn"),
        Change::Remove { .. } => info!(ring, "ring removed, its rule leaves the policies"),
    }
    announce_retired(context, on, observed, &next).await;
    Ok(())
}

/// Has the policies of a ring written without delay where it was revoked or removed: before
/// anything is said of it.
fn hasten(context: &Context, ledger: &Ledger, change: &Change) {
    for policy in ledger.rule.settings.policies() {
        match change {
            Change::Revoke { .. } => context.policies.wake_urgently(&policy),
            Change::Remove { .. } => context.policies.wake_soon(&policy),
            _ => {}
        }
    }
}

/// Has the ring's annotation remember how far the ring has come, unless the
/// ring has changed since it was observed.
async fn record_high_water(
    context: &Context,
    object: &SigningKeyRing,
    mark: &HighWater,
) -> Result<(), Error> {
    let name = object.name_any();
    let patch = json!({"metadata": {
        "annotations": annotation(&name, mark),
        "resourceVersion": object.resource_version(),
    }});
    patch_metadata(context, &name, &patch, "high-water mark").await
}

/// The annotation that has a ring remember how far it has come.
fn annotation(ring: &str, mark: &HighWater) -> serde_json::Value {
    let text = HighWaters([(ring.to_owned(), mark.clone())].into()).to_string();
    json!({names::ANNOTATION_HIGH_WATER: text})
}

/// Puts our finalizer on a ring, with a mark for its annotation if there is one, unless the
/// ring has changed since it was observed.
async fn add_finalizer(
    context: &Context,
    object: &SigningKeyRing,
    mark: Option<&HighWater>,
) -> Result<(), Error> {
    let name = object.name_any();
    let mut finalizers = others_finalizers(object);
    finalizers.push(names::FINALIZER);
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "annotations": mark.map_or_else(|| json!({}), |mark| annotation(&name, mark)),
        "resourceVersion": object.resource_version(),
    }});
    patch_metadata(context, &name, &patch, "finalizer").await
}

/// Takes our finalizer off a ring, unless the ring has changed since it was observed.
async fn remove_finalizer(context: &Context, object: &SigningKeyRing) -> Result<(), Error> {
    let name = object.name_any();
    let patch = json!({"metadata": {
        "finalizers": others_finalizers(object),
        "resourceVersion": object.resource_version(),
    }});
    match patch_metadata(context, &name, &patch, "finalizer").await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn others_finalizers(object: &SigningKeyRing) -> Vec<&str> {
    let finalizers = object.finalizers().iter().map(String::as_str);
    finalizers.filter(|finalizer| *finalizer != names::FINALIZER).collect()
}

async fn patch_metadata(
    context: &Context,
    ring: &str,
    patch: &serde_json::Value,
    what: &str,
) -> Result<(), Error> {
    let api: Api<SigningKeyRing> = Api::all(context.client.clone());
    let params =
        PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(ring, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(error) => match Error::api(format!("{what} of ring {ring}"), error) {
            Error::Conflict(what) => Err(Error::Overtaken(what)),
            other => Err(other),
        },
    }
}
