//! From what the watches have brought to a [`PolicySnapshot`] for the planner.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{
    ResourceExt,
    core::{DeserializeGuard, DynamicObject},
};
use serde_json::Value;
use signingkeyring_core::{
    high_water::HighWater,
    ledger::Exclusion,
    policy::{
        Source,
        cluster_policy::{self, ClusterPolicy, Metadata, rules_of},
        exclusions::Selection,
        snapshot::{ObjectSeen, PolicySeen, PolicySnapshot, RingSeen, WrittenSeen},
    },
    policy_ref::PolicyRef,
};

use signingkeyring_crds::SigningKeyRing;

use super::{exclusions, ring, witness};
use crate::{
    cache::{LedgerRow, WrittenPolicy, is_newer},
    context::Context,
    keys::fingerprint_of,
    kyverno::is_ours,
};

/// What a pass over one policy has observed.
#[derive(Debug)]
pub struct ObservedPolicy {
    /// What the planner sees.
    pub snapshot: PolicySnapshot,
    /// The object, whoever it belongs to.
    pub object: Option<Arc<DynamicObject>>,
    /// What does not count of the exclusion lists; what does is in the snapshot.
    pub exclusions: Selection,
    written: Option<WrittenPolicy>,
    excluded: Vec<Exclusion>,
    questions: Option<String>,
    lists: Option<String>,
}

/// The objects of rings that were read anew, after their ledgers were.
pub type ReadAnew = HashMap<String, Option<DeserializeGuard<SigningKeyRing>>>;

/// Observes everything that bears on one policy. `anew` are the rings that were
/// read anew since it was seen.
#[must_use]
pub fn observe_policy(context: &Context, policy: PolicyRef, anew: &ReadAnew) -> ObservedPolicy {
    let object = context.cache.policy(policy);
    let written = context.cache.written.get(policy);
    let found = match object.as_deref() {
        None => ObjectSeen::Absent,
        Some(object) if is_ours(object) => ObjectSeen::Ours(seen(object)),
        Some(_) => ObjectSeen::Foreign,
    };
    let now = context.clock.now();
    let mut exclusions = exclusions::select(context, now);
    let listed = std::mem::take(&mut exclusions.counting);
    let mut excluded: Vec<Exclusion> = listed.iter().map(|(_, e)| e.clone()).collect();
    excluded.sort();
    excluded.dedup();
    let questions = context.cache.questions.uid();
    let lists = context.cache.lost_lists.crd();
    let mut snapshot = PolicySnapshot {
        policy,
        served: context.cache.kyverno_served(),
        can_be_asked: questions.is_some(),
        found,
        written: written.as_ref().map(|written| WrittenSeen {
            sent: written.sent,
            stored: seen(&written.stored),
            is_ahead: object
                .as_deref()
                .is_some_and(|found| is_newer(&version(&written.stored), &version(found))),
        }),
        rings: BTreeMap::new(),
        refused: context.cache.written.refused(policy),
        listed,
        now,
    };
    snapshot.rings = rings(context, &snapshot, anew);
    ObservedPolicy { snapshot, object, exclusions, written, excluded, questions, lists }
}

impl ObservedPolicy {
    /// The kind that renders this policy.
    #[must_use]
    pub fn backend<'a>(&'a self, context: &'a Context) -> ClusterPolicy<'a> {
        ClusterPolicy {
            policy: self.snapshot.policy,
            excluded: &self.excluded,
            operator_namespace: &context.settings.namespace,
            enrolment_label: &context.settings.enrolment_label,
            questions: self.questions.as_deref(),
            lists: self.lists.as_deref(),
            now: self.snapshot.now,
        }
    }

    /// The JSON of a ring's rules that stay as they were seen.
    #[must_use]
    pub fn rules(&self, source: &Source, ring: &str) -> Vec<&Value> {
        let object = match source {
            Source::Found => self.object.as_deref(),
            Source::Written => self.written.as_ref().map(|written| &*written.stored),
            Source::Ledger(_) | Source::AllButKeys(_) => None,
        };
        let spec = object.and_then(|object| object.data.get("spec"));
        spec.map(|spec| rules_of(spec, ring)).unwrap_or_default()
    }

    /// Looks again which rules were refused.
    pub fn observe_refusals(&mut self, context: &Context) {
        self.snapshot.refused = context.cache.written.refused(self.snapshot.policy);
    }
}

fn version(policy: &DynamicObject) -> String {
    policy.resource_version().unwrap_or_default()
}

/// What a policy holds, as much of it as decisions need.
pub(super) fn seen(policy: &DynamicObject) -> PolicySeen {
    let metadata = Metadata { annotations: policy.annotations(), labels: policy.labels() };
    let spec = policy.data.get("spec").unwrap_or(&Value::Null);
    cluster_policy::read(metadata, spec, |key| fingerprint_of(key).ok())
}

/// The rings whose ledgers are placed in a policy, and those whose rules stand
/// there or were written there.
fn rings(
    context: &Context,
    snapshot: &PolicySnapshot,
    anew: &ReadAnew,
) -> BTreeMap<String, RingSeen> {
    let placed = context.cache.ledgers.placed_in(snapshot.policy).into_iter();
    let placed = placed.map(|(ring, _)| ring.to_string());
    let found = snapshot.ours().into_iter().flat_map(|found| found.rules.keys());
    let written = snapshot.written.iter().flat_map(|written| written.stored.rules.keys());
    let names: BTreeSet<String> = placed.chain(found.chain(written).cloned()).collect();
    let seen = |name: String| {
        let stored = snapshot.written.iter().map(|written| &written.stored);
        let rules = snapshot.ours().into_iter().chain(stored);
        let marks = rules.filter_map(|policy| policy.rules.get(&name)).map(|rule| &rule.mark);
        let newest = marks.map(|mark| mark.state.sequence).max();
        let ring = ring_seen(context, &name, newest, anew.get(&name));
        (name, ring)
    };
    names.into_iter().map(seen).collect()
}

/// What is seen of a ring. `newest` is the highest sequence that a rule of it has.
fn ring_seen(
    context: &Context,
    name: &str,
    newest: Option<u64>,
    anew: Option<&Option<DeserializeGuard<SigningKeyRing>>>,
) -> RingSeen {
    let row = context.cache.ledgers.get(name);
    let cached = context.cache.ring(name);
    let guarded = anew.map_or(cached.as_deref(), Option::as_ref);
    let object = guarded.and_then(|ring| ring.0.as_ref().ok());
    let status = object.and_then(|object| object.status.as_ref());
    let table = row.as_ref().and_then(LedgerRow::shared_table);
    // Reading the keys of a status costs, and mostly the ledger says all.
    let is_behind = newest > table.as_ref().map(|table| table.rule.sequence);
    let reported = status.filter(|_| is_behind).map(witness::versions).unwrap_or_default();
    let reported = reported.into_iter().filter(|version| version.state.is_accepted());
    let mut remembered = HighWater::default();
    for witness in object.map(witness::of_ring).unwrap_or_default() {
        remembered.raise(&witness.high_water);
    }
    RingSeen {
        table,
        // One that has yet to be looked at is not in doubt for that: its next
        // commit is as near as its check.
        sound: row.is_some_and(|row| row.ledger.is_ok() || row.unchecked().is_some()),
        was_removed: context.cache.ledgers.was_removed(name),
        exists: guarded.is_some(),
        revoked: object.map(|object| ring::revoked(&object.spec)).unwrap_or_default(),
        remembered,
        reported: reported.map(|version| version.public_key).collect(),
        read_anew: anew.is_some(),
    }
}
