//! From what the watches have brought to a [`PolicySnapshot`] for the planner.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{ResourceExt, core::DeserializeGuard};
use serde_json::Value;
use signingkeyring_core::{
    high_water::HighWater,
    ledger::Exclusion,
    policy::{
        Digest, Inputs, Metadata, Rendered, Renderer, Source,
        exclusions::Selection,
        image_validating::pin,
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
    kyverno::{Object, is_marked, is_ours},
};

/// What a pass over one policy has observed.
#[derive(Debug)]
pub struct ObservedPolicy {
    /// What the planner sees.
    pub snapshot: PolicySnapshot,
    /// The object, whoever it belongs to.
    pub object: Option<Arc<Object>>,
    /// What counts of the exclusion lists, and what does not.
    pub exclusions: Selection,
    specs: Specs,
    excluded: Vec<Exclusion>,
    questions: Option<String>,
    lists: Option<String>,
}

/// What the rules are that stay as they were seen.
#[derive(Debug)]
struct Specs {
    found: Option<Arc<Value>>,
    written: Option<Arc<Value>>,
}

/// The objects of rings that were read anew, after their ledgers were.
pub type ReadAnew = HashMap<String, Option<DeserializeGuard<SigningKeyRing>>>;

/// Observes everything that bears on one policy. `anew` are the rings that were
/// read anew since it was seen.
#[must_use]
pub fn observe_policy(context: &Context, policy: PolicyRef, anew: &ReadAnew) -> ObservedPolicy {
    let object = context.cache.policy(policy);
    let written = context.cache.written.get(policy);
    let found_spec = object.as_ref().and_then(|object| object.spec());
    let found = match object.as_deref() {
        None => ObjectSeen::Absent,
        Some(object) if is_ours(object) => {
            ObjectSeen::Ours(seen(policy, object, found_spec.as_deref()))
        }
        Some(_) => ObjectSeen::Foreign,
    };
    // Mostly what was written is what is there.
    let same = object.as_ref().zip(written.as_ref());
    let same = same.is_some_and(|(found, written)| Arc::ptr_eq(found, &written.stored));
    let written_spec = match (&written, same) {
        (_, true) => found_spec.clone(),
        (Some(written), false) => written.stored.spec(),
        (None, false) => None,
    };
    let stored = written.as_ref().map(|written| match &found {
        ObjectSeen::Ours(found) if same => found.clone(),
        _ => seen(policy, &written.stored, written_spec.as_deref()),
    });
    let now = context.clock.now();
    let exclusions = exclusions::select(context, now);
    let listed = exclusions.counting.clone();
    let mut excluded: Vec<Exclusion> = listed.iter().map(|(_, e)| e.clone()).collect();
    excluded.sort();
    excluded.dedup();
    let questions = context.cache.questions.uid();
    let lists = context.cache.lost_lists.crd();
    let mut snapshot = PolicySnapshot {
        policy,
        served: context.cache.policies.of(policy.kind()).is_served(),
        executed: context.cache.policies.of(policy.kind()).is_executed(),
        can_be_asked: questions.is_some() || !policy.kind().has_question_kind(),
        found,
        written: written.as_ref().zip(stored).map(|(written, stored)| WrittenSeen {
            sent: written.sent,
            stored,
            is_ahead: is_ahead(context, policy, written, object.as_deref()),
        }),
        rings: BTreeMap::new(),
        refused: context.cache.written.refused(policy),
        listed,
        now,
    };
    snapshot.rings = rings(context, &snapshot, anew);
    let specs = Specs { found: found_spec, written: written_spec };
    ObservedPolicy { snapshot, object, exclusions, specs, excluded, questions, lists }
}

/// Whether the watch has yet to bring what this process has written.
pub(super) fn is_ahead(
    context: &Context,
    policy: PolicyRef,
    written: &WrittenPolicy,
    found: Option<&Object>,
) -> bool {
    let stored = version(&written.stored);
    match found {
        Some(found) => is_newer(&stored, &version(found)),
        None => {
            context.cache.written.is_recent(policy)
                && context.cache.policies.of(policy.kind()).is_behind(&stored)
        }
    }
}

/// The object that goes with a policy, compared with what it should be.
#[derive(Debug)]
pub enum Companion {
    /// It is what it should be: mostly there is none.
    AsItShouldBe,
    /// An object of this name is not ours; it is left alone.
    Foreign(String),
    /// It is not needed any more.
    Leaves(Arc<Object>),
    /// It is to be created or replaced.
    Differs {
        /// The policy with which it goes.
        policy: PolicyRef,
        /// Its name.
        name: String,
        /// The object, if there is one.
        found: Option<Arc<Object>>,
        /// What it should be.
        wanted: Rendered,
    },
}

impl ObservedPolicy {
    /// What goes with the policy as it was found.
    #[must_use]
    pub fn companion(&self, context: &Context) -> Companion {
        let ours = self.snapshot.ours().is_some();
        let spec = self.spec(&Source::Found).filter(|_| ours);
        self.compare_companion(context, self.backend(context).companion(spec, None))
    }

    /// What goes with the policy as it will be, and as it is until then.
    #[must_use]
    pub fn companion_before(&self, context: &Context, next: &Value) -> Companion {
        let ours = self.snapshot.ours().is_some();
        let spec = self.spec(&Source::Found).filter(|_| ours);
        self.compare_companion(context, self.backend(context).companion(Some(next), spec))
    }

    fn compare_companion(&self, context: &Context, wanted: Option<Rendered>) -> Companion {
        let policy = self.snapshot.policy;
        let Some(name) = pin::name(policy) else { return Companion::AsItShouldBe };
        let found = context.cache.policies.companions().get(&name);
        match (found, wanted) {
            (None, None) => Companion::AsItShouldBe,
            (Some(found), None) if is_marked(&found) => Companion::Leaves(found),
            (Some(_), None) => Companion::AsItShouldBe,
            (Some(found), Some(_)) if !is_marked(&found) => Companion::Foreign(name),
            (Some(found), Some(wanted)) if is_companion(context, policy, &found, &wanted) => {
                Companion::AsItShouldBe
            }
            (found, Some(wanted)) => Companion::Differs { policy, name, found, wanted },
        }
    }

    /// The kind that renders this policy.
    #[must_use]
    pub fn backend<'a>(&'a self, context: &'a Context) -> Renderer<'a> {
        let inputs = Inputs {
            excluded: &self.excluded,
            operator_namespace: &context.settings.namespace,
            probe_namespace: &context.settings.probe_namespace,
            enrolment_label: &context.settings.enrolment_label,
            questions: self.questions.as_deref(),
            lists: self.lists.as_deref(),
            now: self.snapshot.now,
        };
        Renderer::new(self.snapshot.policy, inputs)
    }

    /// The `spec` of the object with rules that stay as they were seen.
    #[must_use]
    pub fn spec(&self, source: &Source) -> Option<&Value> {
        match source {
            Source::Found => self.specs.found.as_deref(),
            Source::Written => self.specs.written.as_deref(),
            Source::Ledger(_) | Source::AllButKeys(_) => None,
        }
    }

    /// Looks again which rules were refused.
    pub fn observe_refusals(&mut self, context: &Context) {
        self.snapshot.refused = context.cache.written.refused(self.snapshot.policy);
    }
}

/// Whether an object is what was wanted, or what the API server made of just that.
fn is_companion(context: &Context, policy: PolicyRef, found: &Object, wanted: &Rendered) -> bool {
    let spec = found.spec();
    let spec = spec.as_deref().unwrap_or(&Value::Null);
    let metadata = Metadata { annotations: found.annotations(), labels: found.labels() };
    let (spec, own) = pin::digest(metadata, spec);
    let of_wanted = Metadata { annotations: &wanted.annotations, labels: &wanted.labels };
    let (sent, own_wanted) = pin::digest(of_wanted, &wanted.spec);
    (spec == sent || context.cache.written.companion(policy) == Some((sent, spec)))
        && own == own_wanted
}

fn version(policy: &Object) -> String {
    policy.resource_version().unwrap_or_default()
}

/// What a policy's `spec` is told by.
#[must_use]
pub fn spec_digest(policy: PolicyRef, object: &Object) -> Digest {
    seen(policy, object, object.spec().as_deref()).spec
}

/// What a policy holds, as much of it as decisions need.
pub(super) fn seen(policy: PolicyRef, object: &Object, spec: Option<&Value>) -> PolicySeen {
    let metadata = Metadata { annotations: object.annotations(), labels: object.labels() };
    let spec = spec.unwrap_or(&Value::Null);
    policy.kind().read(metadata, spec, |key| fingerprint_of(key).ok())
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
