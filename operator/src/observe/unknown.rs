//! The policies for namespaces whose label names no ring: what they are to
//! cover, what stands there, and what Kyverno has loaded of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::Value;
use signingkeyring_core::{
    ledger::Exclusion,
    policy::{
        cluster_policy::{self, ClusterPolicy, Metadata, read_cover},
        exclusions::Selection,
        unknown::{CoverHeld, CoverObject, CoverWritten, Naming, UnknownSnapshot},
    },
    policy_ref::PolicyRef,
    snapshot::{Answer, CoverAnswer, CoverFound, CoverSeen, Covered},
};

use super::exclusions;
use crate::{
    cache::{LedgerRow, WrittenPolicy, is_newer},
    context::Context,
    kyverno::{is_ours, marks},
};

/// What a pass over such a policy has observed.
#[derive(Debug)]
pub struct ObservedUnknown {
    /// What the planner sees.
    pub snapshot: UnknownSnapshot,
    /// The object, whoever it belongs to.
    pub object: Option<Arc<DynamicObject>>,
    /// What does not count of the exclusion lists; what does is in the snapshot.
    pub exclusions: Selection,
    questions: Option<String>,
    lists: Option<String>,
}

/// Observes everything that bears on such a policy.
#[must_use]
pub fn observe_unknown(context: &Context, policy: PolicyRef) -> ObservedUnknown {
    let now = context.clock.now();
    let mut exclusions = exclusions::select(context, now);
    let listed = std::mem::take(&mut exclusions.counting);
    let mut excluded: Vec<Exclusion> = listed.into_iter().map(|(_, e)| e).collect();
    excluded.sort();
    excluded.dedup();
    let asked = context.settings.unknown_rings.action();
    let object = context.cache.policy(policy);
    let found = match object.as_deref() {
        None => CoverObject::Absent,
        Some(object) if is_ours(object) => CoverObject::Ours(held(object)),
        Some(_) => CoverObject::Foreign,
    };
    let questions = context.cache.questions.uid();
    let lists = context.cache.lost_lists.crd();
    let snapshot = UnknownSnapshot {
        policy,
        asked,
        served: context.cache.kyverno_served(),
        can_be_asked: questions.is_some(),
        written: context.cache.written.get(policy).map(|w| written(&w, object.as_deref())),
        found,
        values: values(context),
        covered: covered(context),
        replacement: asked.map(PolicyRef::unknown).and_then(|other| loaded(context, other)),
        excluded,
        now,
    };
    ObservedUnknown { snapshot, object, exclusions, questions, lists }
}

impl ObservedUnknown {
    /// The kind that renders this policy.
    #[must_use]
    pub fn backend<'a>(&'a self, context: &'a Context) -> ClusterPolicy<'a> {
        ClusterPolicy {
            policy: self.snapshot.policy,
            excluded: &self.snapshot.excluded,
            operator_namespace: &context.settings.namespace,
            enrolment_label: &context.settings.enrolment_label,
            questions: self.questions.as_deref(),
            lists: self.lists.as_deref(),
            now: self.snapshot.now,
        }
    }

    /// The namespaces whose label names no ring, each with that label's value.
    #[must_use]
    pub fn unknown(&self, context: &Context) -> Vec<(String, String)> {
        let nobody = |(_, naming): &&(String, Naming)| *naming == Naming::Nobody;
        let values = self.snapshot.values.iter().filter(nobody);
        let pairs = values.flat_map(|(value, _)| {
            let namespaces = context.cache.namespaces.enrolled(value);
            let others = namespaces.into_iter().filter(|n| *n != context.settings.namespace);
            others.map(|namespace| (namespace, value.clone()))
        });
        pairs.collect()
    }
}

fn held(object: &DynamicObject) -> CoverHeld {
    let metadata = Metadata { annotations: object.annotations(), labels: object.labels() };
    read_cover(metadata, object.data.get("spec").unwrap_or(&Value::Null))
}

fn written(written: &WrittenPolicy, found: Option<&DynamicObject>) -> CoverWritten {
    let version = |object: &DynamicObject| object.resource_version().unwrap_or_default();
    let is_ahead = found.is_some_and(|found| is_newer(&version(&written.stored), &version(found)));
    CoverWritten { sent: written.sent, stored: held(&written.stored), is_ahead }
}

/// What the labels of namespaces say, and whom each names.
fn values(context: &Context) -> Vec<(String, Naming)> {
    let policies = context.cache.our_policies().filter(|(policy, _)| policy.holds_rings());
    let mut rules: BTreeMap<String, bool> = BTreeMap::new();
    for (policy, object) in policies {
        for ring in marks(&object).0.into_keys() {
            let answer = context.gate.answer(policy, &ring);
            let loaded = matches!(answer, Answer::Answered { mark: Some(_), .. });
            *rules.entry(ring).or_default() |= loaded;
        }
    }
    let naming = |value: &str| match rules.get(value) {
        Some(true) => Naming::Ruled,
        Some(false) => Naming::Arriving,
        None if context.cache.ledgers.get(value).is_some() => Naming::Arriving,
        // One that cannot be read does not get a rule.
        None if context.cache.ring(value).is_some_and(|ring| ring.0.is_ok()) => Naming::Arriving,
        None => Naming::Nobody,
    };
    // The operator's own namespace is never covered.
    let values = context.cache.namespaces.values_but_of(&context.settings.namespace).into_iter();
    values.map(|value| (value.clone(), naming(&value))).collect()
}

/// The values that are covered, or that this process wrote to be.
fn covered(context: &Context) -> BTreeSet<String> {
    let held_by = |policy: PolicyRef| {
        let found = ours(context, policy).map(|object| held(&object).values);
        let written = context.cache.written.get(policy).map(|w| held(&w.stored).values);
        found.into_iter().chain(written).flatten()
    };
    PolicyRef::UNKNOWN.into_iter().flat_map(held_by).collect()
}

fn ours(context: &Context, policy: PolicyRef) -> Option<Arc<DynamicObject>> {
    context.cache.policy(policy).filter(|object| is_ours(object))
}

/// What a policy covers, if Kyverno answers with it.
fn loaded(context: &Context, policy: PolicyRef) -> Option<BTreeSet<String>> {
    let object = ours(context, policy)?;
    let answer = context.gate.cover(policy, Some(&marks(&object)));
    (answer == CoverAnswer::AsFound).then(|| held(&object).values)
}

/// The policies for namespaces whose label names no ring, as they bear on a ring.
pub(super) fn covers(context: &Context, ring: &str) -> BTreeMap<PolicyRef, CoverSeen> {
    let look = |policy| {
        let object = ours(context, policy);
        if object.is_none() && context.settings.unknown_rings.action().is_none() {
            // Nothing of the kind is written or asked.
            return None;
        }
        let names = |object: &Arc<DynamicObject>| {
            object.data.get("spec").is_some_and(|spec| cluster_policy::covers(spec, ring))
        };
        let found = match &object {
            None => CoverFound::Absent,
            Some(object) if names(object) => CoverFound::Names,
            Some(_) => CoverFound::Others,
        };
        let stands = object.as_deref().map(marks);
        let answer = context.gate.cover(policy, stands.as_ref());
        Some((policy, CoverSeen { found, answer }))
    };
    PolicyRef::UNKNOWN.into_iter().filter_map(look).collect()
}

/// Whether the namespaces of a ring are covered by such a policy, if that is
/// certain. One that signs was let go of before.
#[must_use]
pub fn is_covered(context: &Context, ring: &str, row: &LedgerRow) -> Option<bool> {
    let signs = row.table().is_some_and(|table| table.current().is_some());
    let covers = covers(context, ring);
    let covered: Vec<Covered> = covers.values().filter_map(|seen| seen.covers()).collect();
    match &covered[..] {
        [] => Some(false),
        covered if covered.contains(&Covered::Named) => Some(true),
        _ => signs.then_some(false),
    }
}

/// Whether it is yet to be heard that Kyverno has loaded such a policy as it is,
/// or let go of one that is gone.
#[must_use]
pub fn unsettled_cover(context: &Context, policy: PolicyRef) -> bool {
    match ours(context, policy) {
        Some(object) => context.gate.cover(policy, Some(&marks(&object))) != CoverAnswer::AsFound,
        None => {
            context.settings.unknown_rings.action().is_some()
                && context.gate.cover(policy, None) != CoverAnswer::Open
        }
    }
}
