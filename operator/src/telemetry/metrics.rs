//! What `/metrics` shows.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use signingkeyring_core::{guard::Guard, ledger::Version};

use super::{
    process::Process,
    requests::Requests,
    rings::{RingSeries, Table},
};
use crate::{gate::State, lock::Mutex};

/// What `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    duration: Family<ControllerLabels, Histogram>,
    rings: Family<StateLabels, Gauge>,
    table: Arc<Table>,
    incomplete: Mutex<BTreeSet<String>>,
    incomplete_rings: Gauge,
    queue_depth: Family<ControllerLabels, Gauge>,
    rotations: Counter,
    rotation_steps: Family<StepLabels, Histogram>,
    rotations_under_way: Gauge,
    rotations_waiting: Gauge,
    policy_writes: Counter,
    drift: Family<KindLabels, Counter>,
    placed_rings: Family<KindLabels, Gauge>,
    exclusion_bytes: Gauge,
    exclusion_bytes_limit: Gauge,
    exclusion_lists_too_large: Gauge,
    exclusion_lists_remembered: Gauge,
    unknown_ring_namespaces: Gauge,
    guard_state: Family<StateLabels, Gauge>,
    gate_state: Family<GateLabels, Gauge>,
    gate_policy_bound: Gauge<f64, AtomicU64>,
    gate_cluster_bound: Gauge<f64, AtomicU64>,
    recheck_bound: Gauge<f64, AtomicU64>,
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
struct StepLabels {
    step: &'static str,
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

/// What a ring can be, for metrics.
const RING_STATES: [&str; 5] = ["ready", "rotating", "not_ready", "stalled", "deleting"];

impl Metrics {
    /// Those of one time of leading or standing by, beside what the process takes and asks
    /// for.
    #[must_use]
    pub fn new(requests: &Requests) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            leader: Gauge::default(),
            reconciles: Family::default(),
            duration: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0])
            }),
            rings: Family::default(),
            table: Arc::default(),
            incomplete: Mutex::default(),
            incomplete_rings: Gauge::default(),
            queue_depth: Family::default(),
            rotations: Counter::default(),
            rotation_steps: Family::new_with_constructor(|| {
                Histogram::new([1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0])
            }),
            rotations_under_way: Gauge::default(),
            rotations_waiting: Gauge::default(),
            policy_writes: Counter::default(),
            drift: Family::default(),
            placed_rings: Family::default(),
            exclusion_bytes: Gauge::default(),
            exclusion_bytes_limit: Gauge::default(),
            exclusion_lists_too_large: Gauge::default(),
            exclusion_lists_remembered: Gauge::default(),
            unknown_ring_namespaces: Gauge::default(),
            guard_state: Family::default(),
            gate_state: Family::default(),
            gate_policy_bound: Gauge::default(),
            gate_cluster_bound: Gauge::default(),
            recheck_bound: Gauge::default(),
            gate_asked: Family::default(),
            gate_latency: Family::default(),
        };
        metrics.register(requests);
        for state in RING_STATES {
            // A series that is zero can be alerted on; one that is missing cannot.
            metrics.rings.get_or_create(&StateLabels { state }).set(0);
        }
        metrics
    }
}

impl Metrics {
    fn register(&mut self, requests: &Requests) {
        self.registry.register_collector(Box::new(Process));
        requests.register(&mut self.registry);
        let r = self.registry.sub_registry_with_prefix("signingkeyring");
        r.register(
            "leader",
            "1 if this replica works, 0 if it stands by: of all replicas together more than 1 is a \
             defect, and 0 for longer than 15 seconds that nobody works",
            self.leader.clone(),
        );
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
        r.register_with_unit(
            "rotation_step_duration",
            "How long the steps of a rotation took: acknowledge, until Kyverno had accepted the \
             new key for the whole soak, and publish, until the pipelines held it",
            Unit::Seconds,
            self.rotation_steps.clone(),
        );
        r.register_collector(Box::new(Arc::clone(&self.table)));
        r.register(
            "rotations_under_way",
            "Rings whose next version is on its way",
            self.rotations_under_way.clone(),
        );
        r.register(
            "rotations_waiting",
            "Rings of which a rotation is due and waits for those of others (--max-rotations)",
            self.rotations_waiting.clone(),
        );
        r.register("policy_writes", "Policies written", self.policy_writes.clone());
        r.register("drift_undone", "Edits by others that were undone", self.drift.clone());
        r.register(
            "placed_rings",
            "Rings by the kind of policy that holds their rules",
            self.placed_rings.clone(),
        );
        r.register(
            "exclusion_bytes",
            "Bytes in each ring's rule of what counts of the exclusion lists",
            self.exclusion_bytes.clone(),
        );
        r.register(
            "exclusion_limit_bytes",
            "How many bytes that may be",
            self.exclusion_bytes_limit.clone(),
        );
        r.register(
            "exclusion_lists_too_large",
            "Exclusion lists of which something does not count",
            self.exclusion_lists_too_large.clone(),
        );
        r.register(
            "exclusion_lists_remembered",
            "Exclusion lists that are gone with their kind and stay in force",
            self.exclusion_lists_remembered.clone(),
        );
        r.register(
            "unknown_ring_namespaces",
            "Namespaces whose enrolment label names no ring",
            self.unknown_ring_namespaces.clone(),
        );
        r.register(
            "incomplete_rings",
            "Rings of whose check something leaves pods out",
            self.incomplete_rings.clone(),
        );
        r.register(
            "guard_state",
            "1 for what the guard is: absent, fits, differs (it was told otherwise than the \
             operator, or a part of it is missing), or unknown (it cannot be looked at)",
            self.guard_state.clone(),
        );
        r.register(
            "gate_state",
            "1 for what the policy's gate said last: answered, open (nothing is verified), silent, \
             slow (it took 2 seconds or more, or longer than Kyverno's webhook may), mute (pods are \
             refused) or unreadable",
            self.gate_state.clone(),
        );
        r.register_with_unit(
            "gate_policy_bound",
            "Within this time it shows that one policy does not answer any more, as many as there \
             are and as fast as they answer",
            Unit::Seconds,
            self.gate_policy_bound.clone(),
        );
        r.register_with_unit(
            "gate_cluster_bound",
            "Within this time all rings say that Kyverno as a whole does not answer, once that is \
             known: after 45 seconds, or at once where it refuses",
            Unit::Seconds,
            self.gate_cluster_bound.clone(),
        );
        r.register_with_unit(
            "recheck_bound",
            "Within this time each ring is looked at although nothing changed: so long an edit of \
             a pipeline's Secret may stay",
            Unit::Seconds,
            self.recheck_bound.clone(),
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
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, outcome }).inc();
        let labels = ControllerLabels { controller };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Says how much a controller has to do.
    pub fn queue_depth(&self, controller: &'static str, depth: usize) {
        let labels = ControllerLabels { controller };
        self.queue_depth.get_or_create(&labels).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Says what state a ring is in, or that it is gone.
    pub fn ring_state(&self, ring: &str, series: Option<RingSeries>) {
        let state = series.as_ref().map(|series| series.state);
        if let Some(state) = self.table.note(ring, series) {
            self.rings.get_or_create(&StateLabels { state }).dec();
        }
        match state {
            Some(state) => {
                self.rings.get_or_create(&StateLabels { state }).inc();
            }
            None => self.ring_is_incomplete(ring, false),
        }
    }

    /// Says whether something leaves pods out of a ring's check.
    pub fn ring_is_incomplete(&self, ring: &str, is_incomplete: bool) {
        let mut incomplete = self.incomplete.lock();
        if is_incomplete {
            incomplete.insert(ring.to_owned());
        } else {
            incomplete.remove(ring);
        }
        self.incomplete_rings.set(i64::try_from(incomplete.len()).unwrap_or(i64::MAX));
    }

    /// Says how many rings rotate, and how many wait for them.
    pub fn rotating(&self, under_way: usize, waiting: usize) {
        self.rotations_under_way.set(i64::try_from(under_way).unwrap_or(i64::MAX));
        self.rotations_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts a version that became current, with how long its steps took.
    pub fn version_activated(&self, version: Option<&Version>) {
        self.rotations.inc();
        let Some(version) = version else { return };
        let (acknowledged, activated) = (version.acknowledged_at(), version.activated_at());
        let steps = [
            ("acknowledge", Some(version.created_at), acknowledged),
            ("publish", acknowledged, activated),
        ];
        for (step, begun, done) in steps {
            if let (Some(begun), Some(done)) = (begun, done) {
                let took = done.duration_since(begun).as_secs_f64();
                self.rotation_steps.get_or_create(&StepLabels { step }).observe(took);
            }
        }
    }

    /// Says when exclusions of lists end.
    pub fn exclusions_end<'a>(&self, ends: impl Iterator<Item = (&'a str, i64)>) {
        self.table.lists_end(ends);
    }

    /// Counts a policy write.
    pub fn policy_written(&self) {
        self.policy_writes.inc();
    }

    /// Counts an edit by others that was undone.
    pub fn drift_undone(&self, kind: &'static str) {
        self.drift.get_or_create(&KindLabels { kind }).inc();
    }

    /// Says how many exclusion lists are gone with their kind.
    pub fn exclusions_remembered(&self, lists: usize) {
        self.exclusion_lists_remembered.set(i64::try_from(lists).unwrap_or(i64::MAX));
    }

    /// Says how much the exclusion lists take up, of how much, and how many do
    /// not fit.
    pub fn exclusions(&self, bytes: usize, limit: usize, too_large: usize) {
        let set = |gauge: &Gauge, value| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.exclusion_bytes, bytes);
        set(&self.exclusion_bytes_limit, limit);
        set(&self.exclusion_lists_too_large, too_large);
    }

    /// Says how many rings stand in policies of a kind.
    pub fn placed_rings(&self, kind: &'static str, rings: usize) {
        let rings = i64::try_from(rings).unwrap_or(i64::MAX);
        self.placed_rings.get_or_create(&KindLabels { kind }).set(rings);
    }

    /// Says of how many namespaces the label names no ring.
    pub fn unknown_rings(&self, namespaces: usize) {
        self.unknown_ring_namespaces.set(i64::try_from(namespaces).unwrap_or(i64::MAX));
    }

    /// Says what the guard is.
    pub fn guard(&self, state: &'static str) {
        for other in Guard::STATES {
            let labels = StateLabels { state: other };
            self.guard_state.get_or_create(&labels).set(i64::from(other == state));
        }
    }

    /// Records what a policy's gate said. `asked` is in seconds since 1970.
    pub fn gate_answered(&self, policy: &str, state: State, asked: i64, took: Duration) {
        self.gate_says(policy, state);
        let labels = PolicyLabels { policy: policy.to_owned() };
        self.gate_asked.get_or_create(&labels).set(asked);
        self.gate_latency.get_or_create(&labels).set(took.as_secs_f64());
    }

    /// Says of a policy that was not asked what is true of all that are asked in the same
    /// way.
    pub fn gate_says(&self, policy: &str, state: State) {
        for other in State::ALL {
            let labels = GateLabels { policy: policy.to_owned(), state: other.as_str() };
            self.gate_state.get_or_create(&labels).set(i64::from(other == state));
        }
    }

    /// Says how soon it shows that one policy, or Kyverno as a whole, does not answer.
    pub fn gate_bounds(&self, policy: Duration, cluster: Duration) {
        self.gate_policy_bound.set(policy.as_secs_f64());
        self.gate_cluster_bound.set(cluster.as_secs_f64());
    }

    /// Says how soon each ring is looked at although nothing changed.
    pub fn recheck_bound(&self, bound: Duration) {
        self.recheck_bound.set(bound.as_secs_f64());
    }

    /// Takes out the series of a policy that is gone.
    pub fn gate_gone(&self, policy: &str) {
        for state in State::ALL.map(State::as_str) {
            self.gate_state.remove(&GateLabels { policy: policy.to_owned(), state });
        }
        let labels = PolicyLabels { policy: policy.to_owned() };
        self.gate_asked.remove(&labels);
        self.gate_latency.remove(&labels);
    }

    /// The metrics in the OpenMetrics text format, of a replica that leads or stands by.
    #[must_use]
    pub fn text(&self, is_leader: bool) -> String {
        self.leader.set(i64::from(is_leader));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
