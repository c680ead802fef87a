//! Logs, metrics and events.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use signingkeyring_core::{event, names};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use tracing_subscriber::EnvFilter;

use crate::{kyverno, settings::LogFormat};

/// Sends log lines to standard error.
///
/// # Errors
/// If the filter cannot be read.
pub fn init_logs(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // The client logs whole response bodies when it cannot read one; a
    // ledger's would hold private keys.
    let filter = EnvFilter::try_new(format!("{filter},kube_client=error"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// What `/metrics` shows.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    duration: Family<ControllerLabels, Histogram>,
    rings: Family<StateLabels, Gauge>,
    ring_states: Mutex<BTreeMap<String, &'static str>>,
    queue_depth: Family<ControllerLabels, Gauge>,
    rotations: Counter,
    policy_writes: Counter,
    drift: Family<KindLabels, Counter>,
    gate_state: Family<GateLabels, Gauge>,
    gate_asked: Family<PolicyLabels, Gauge>,
    gate_latency: Family<PolicyLabels, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GateLabels {
    policy: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PolicyLabels {
    policy: String,
}

/// What a policy's gate can say, for metrics.
pub(crate) const GATE_STATES: [&str; 4] = ["answered", "open", "mute", "unreadable"];

/// What a ring can be, for metrics.
pub(crate) const RING_STATES: [&str; 5] = ["ready", "rotating", "not_ready", "stalled", "deleting"];

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("signingkeyring"),
            reconciles: Family::default(),
            duration: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0])
            }),
            rings: Family::default(),
            ring_states: Mutex::default(),
            queue_depth: Family::default(),
            rotations: Counter::default(),
            policy_writes: Counter::default(),
            drift: Family::default(),
            gate_state: Family::default(),
            gate_asked: Family::default(),
            gate_latency: Family::default(),
        };
        metrics.register();
        for state in RING_STATES {
            // A series that is zero can be alerted on; one that is missing cannot.
            metrics.rings.get_or_create(&StateLabels { state }).set(0);
        }
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("reconciles", "Passes by controller and outcome", self.reconciles.clone());
        r.register_with_unit(
            "reconcile_duration",
            "How long passes took",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register("rings", "Rings by state", self.rings.clone());
        r.register("queue_depth", "Names that wait or are worked on", self.queue_depth.clone());
        r.register("versions_activated", "Versions that became current", self.rotations.clone());
        r.register("policy_writes", "Policies written", self.policy_writes.clone());
        r.register("drift_undone", "Edits by others that were undone", self.drift.clone());
        r.register(
            "gate_state",
            "1 for what the policy's gate said last: answered, open (nothing is verified), mute \
             (pods are refused) or unreadable",
            self.gate_state.clone(),
        );
        r.register_with_unit(
            "gate_asked_timestamp",
            "When the policy's gate was asked last",
            Unit::Seconds,
            self.gate_asked.clone(),
        );
        r.register_with_unit(
            "gate_latency",
            "How long the policy's last answer took",
            Unit::Seconds,
            self.gate_latency.clone(),
        );
    }

    /// Counts a pass.
    pub(crate) fn reconciled(
        &self,
        controller: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, outcome }).inc();
        let labels = ControllerLabels { controller };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Says how much a controller has to do.
    pub(crate) fn queue_depth(&self, controller: &'static str, depth: usize) {
        let labels = ControllerLabels { controller };
        self.queue_depth.get_or_create(&labels).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Says what state a ring is in, or that it is gone.
    pub(crate) fn ring_state(&self, ring: &str, state: Option<&'static str>) {
        let mut states = self.ring_states.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match state {
            Some(state) => states.insert(ring.to_owned(), state),
            None => states.remove(ring),
        };
        if let Some(state) = before {
            self.rings.get_or_create(&StateLabels { state }).dec();
        }
        if let Some(state) = state {
            self.rings.get_or_create(&StateLabels { state }).inc();
        }
    }

    /// Counts a version that became current.
    pub(crate) fn version_activated(&self) {
        self.rotations.inc();
    }

    /// Counts a policy write.
    pub(crate) fn policy_written(&self) {
        self.policy_writes.inc();
    }

    /// Counts an edit by others that was undone.
    pub(crate) fn drift_undone(&self, kind: &'static str) {
        self.drift.get_or_create(&KindLabels { kind }).inc();
    }

    /// Records what a policy's gate said. `asked` is in seconds since 1970.
    pub(crate) fn gate_answered(
        &self,
        policy: &str,
        state: &'static str,
        asked: i64,
        took: Duration,
    ) {
        for other in GATE_STATES {
            let labels = GateLabels { policy: policy.to_owned(), state: other };
            self.gate_state.get_or_create(&labels).set(i64::from(other == state));
        }
        let labels = PolicyLabels { policy: policy.to_owned() };
        self.gate_asked.get_or_create(&labels).set(asked);
        self.gate_latency.get_or_create(&labels).set(took.as_secs_f64());
    }

    /// Takes out the series of a policy that is gone.
    pub(crate) fn gate_gone(&self, policy: &str) {
        for state in GATE_STATES {
            self.gate_state.remove(&GateLabels { policy: policy.to_owned(), state });
        }
        let labels = PolicyLabels { policy: policy.to_owned() };
        self.gate_asked.remove(&labels);
        self.gate_latency.remove(&labels);
    }

    /// The metrics in the OpenMetrics text format.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Writes events; a failure to do so is only logged.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events written with this client.
    #[must_use]
    pub(crate) fn new(client: Client) -> Self {
        let reporter = Reporter { controller: names::MANAGER.to_owned(), instance: None };
        Self(Recorder::new(client, reporter))
    }

    /// Says what happened to an object. `action` is what the operator did.
    pub(crate) async fn publish(
        &self,
        on: &ObjectReference,
        warning: bool,
        reason: impl Into<event::Reason>,
        action: event::Action,
        note: &str,
    ) {
        let reason = reason.into().as_str();
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note).to_owned()),
            action: action.as_str().to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, on).await {
            tracing::warn!(
                object = on.name,
                reason,
                error = crate::error::brief(&error),
                "event not written"
            );
        }
    }
}

/// As much of a text as fits into an event's note: the API takes 1024 bytes.
fn cut(note: &str) -> &str {
    let mut end = note.len().min(1024);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

/// A reference to a ring, for events.
#[must_use]
pub(crate) fn ring_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(SigningKeyRing::api_version(&()).into_owned()),
        kind: Some(SigningKeyRing::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to an exclusion list, for events.
#[must_use]
pub(crate) fn list_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some(ImageExclusionList::api_version(&()).into_owned()),
        kind: Some(ImageExclusionList::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// A reference to a policy, for events.
#[must_use]
pub(crate) fn policy_reference(name: &str, uid: Option<&str>) -> ObjectReference {
    let kind = kyverno::resource();
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_by_bytes_and_not_within_a_character() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"a".repeat(2000)).len(), 1024);
        assert_eq!(cut(&"\u{20ac}".repeat(1000)), "\u{20ac}".repeat(341));
    }
}
