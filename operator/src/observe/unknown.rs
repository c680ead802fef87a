//! The policies for namespaces whose label names no ring: what they are to
//! cover, what stands there, and what Kyverno has loaded of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;
use serde_json::Value;
use signingkeyring_core::{
    ledger::Exclusion,
    names,
    policy::{
        Inputs, Metadata, Renderer,
        exclusions::Selection,
        unknown::{CoverHeld, CoverObject, CoverWritten, Naming, UnknownSnapshot},
    },
    policy_ref::PolicyRef,
    snapshot::{Answer, CoverAnswer, CoverFound, CoverSeen, Covered},
};

use super::{exclusions, policies::is_ahead};
use crate::{
    cache::Outline,
    context::Context,
    kyverno::{Object, is_ours},
};

/// What a pass over such a policy has observed.
#[derive(Debug)]
pub struct ObservedUnknown {
    /// What the planner sees.
    pub snapshot: UnknownSnapshot,
    /// The object, whoever it belongs to.
    pub object: Option<Arc<Object>>,
    /// What counts of the exclusion lists, and what does not.
    pub exclusions: Selection,
    questions: Option<String>,
    lists: Option<String>,
}

/// Observes everything that bears on such a policy.
#[must_use]
pub fn observe_unknown(context: &Context, policy: PolicyRef) -> ObservedUnknown {
    let now = context.clock.now();
    let exclusions = exclusions::select(context, now);
    let mut excluded: Vec<Exclusion> =
        exclusions.counting.iter().map(|(_, exclusion)| exclusion.clone()).collect();
    excluded.sort();
    excluded.dedup();
    let asked = context.asked_unknown_policy();
    let object = context.cache.policy(policy);
    let found = match object.as_deref() {
        None => CoverObject::Absent,
        Some(object) if is_ours(object) => CoverObject::Ours(held(policy, object)),
        Some(_) => CoverObject::Foreign,
    };
    let questions = context.cache.questions.uid();
    let lists = context.cache.lost_lists.crd();
    let covered = covered(context);
    let snapshot = UnknownSnapshot {
        policy,
        asked,
        served: context.cache.policies.of(policy.kind()).is_served(),
        executed: context.cache.policies.of(policy.kind()).is_executed(),
        can_be_asked: questions.is_some() || !policy.kind().has_question_kind(),
        written: context.cache.written.get(policy).map(|written| CoverWritten {
            sent: written.sent,
            stored: held(policy, &written.stored),
            is_ahead: is_ahead(context, policy, &written, object.as_deref()),
        }),
        found,
        values: values(context, &covered),
        covered,
        replacement: asked.and_then(|other| loaded(context, other)),
        excluded,
        now,
    };
    ObservedUnknown { snapshot, object, exclusions, questions, lists }
}

impl ObservedUnknown {
    /// The kind that renders this policy.
    #[must_use]
    pub fn backend<'a>(&'a self, context: &'a Context) -> Renderer<'a> {
        let inputs = Inputs {
            excluded: &self.snapshot.excluded,
            operator_namespace: &context.settings.namespace,
            probe_namespace: &context.settings.probe_namespace,
            enrolment_label: &context.settings.enrolment_label,
            questions: self.questions.as_deref(),
            lists: self.lists.as_deref(),
            now: self.snapshot.now,
        };
        Renderer::new(self.snapshot.policy, inputs)
    }

    /// The namespaces whose label names no ring, each with that label's value.
    #[must_use]
    pub fn unknown(&self, context: &Context) -> Vec<(String, String)> {
        let nobody = |(_, naming): &&(String, Naming)| *naming == Naming::Nobody;
        let values = self.snapshot.values.iter().filter(nobody);
        let pairs = values.flat_map(|(value, _)| {
            let namespaces = context.cache.namespaces.enrolled(value);
            let others = namespaces.into_iter().filter(|n| !is_own(context, n, value));
            others.map(|namespace| (namespace, value.clone()))
        });
        pairs.collect()
    }
}

fn held(policy: PolicyRef, object: &Object) -> CoverHeld {
    let metadata = Metadata { annotations: object.annotations(), labels: object.labels() };
    policy.kind().read_cover(metadata, object.spec().as_deref().unwrap_or(&Value::Null))
}

/// Whether a namespace is not to be covered whatever it is labelled: the operator's own,
/// and the one where it asks.
fn is_own(context: &Context, namespace: &str, value: &str) -> bool {
    let settings = &context.settings;
    namespace == settings.namespace
        || (namespace == settings.probe_namespace && value == names::PROBE)
}

/// What the labels of namespaces say, and whom each names, where that matters: mostly they
/// name rings and are not covered.
fn values(context: &Context, covered: &BTreeSet<String>) -> Vec<(String, Naming)> {
    let is_own = |namespace: &str, value: &str| is_own(context, namespace, value);
    let values = context.cache.namespaces.values_but_of(is_own).into_iter();
    let named = values.filter_map(|value| {
        let naming = naming(context, &value, covered.contains(&value))?;
        Some((value, naming))
    });
    named.collect()
}

/// Whom a value names; nothing of one that names a ring and is not covered.
fn naming(context: &Context, value: &str, is_covered: bool) -> Option<Naming> {
    let cache = &context.cache;
    let rules = || cache.policies_naming(value).filter(|policy| policy.holds_rings());
    // A ring that cannot be read does not get a rule.
    let names_a_ring = cache.rings.has_readable(value)
        || cache.ledgers.get(value).is_some()
        || rules().next().is_some();
    match (names_a_ring, is_covered) {
        (false, _) => return Some(Naming::Nobody),
        (true, false) => return None,
        (true, true) => {}
    }
    let is_loaded = |policy: PolicyRef| {
        let answer = context.gate.answer(policy, value);
        cache.policies.of(policy.kind()).is_executed()
            && matches!(answer, Answer::Answered { mark: Some(_), .. })
    };
    Some(if rules().any(is_loaded) { Naming::Ruled } else { Naming::Arriving })
}

/// The values that are covered, or that this process wrote to be.
fn covered(context: &Context) -> BTreeSet<String> {
    let held_by = |policy: PolicyRef| {
        let found = ours(context, policy).map(|object| held(policy, &object).values);
        let written = context.cache.written.get(policy).map(|w| held(policy, &w.stored).values);
        found.into_iter().chain(written).flatten()
    };
    PolicyRef::UNKNOWN.into_iter().flat_map(held_by).collect()
}

fn ours(context: &Context, policy: PolicyRef) -> Option<Arc<Object>> {
    context.cache.policy(policy).filter(|object| is_ours(object))
}

/// What a policy covers, if Kyverno answers with it.
fn loaded(context: &Context, policy: PolicyRef) -> Option<BTreeSet<String>> {
    let object = ours(context, policy)?;
    let answer = context.gate.cover(policy, Some(object.marks()));
    (answer == CoverAnswer::AsFound).then(|| held(policy, &object).values)
}

/// The policies for namespaces whose label names no ring, as they bear on a ring.
pub(super) fn covers(context: &Context, ring: &str) -> BTreeMap<PolicyRef, CoverSeen> {
    let look = |policy| {
        let object = ours(context, policy);
        if object.is_none() && !is_written(context, policy) {
            // Nothing of the kind is written or asked.
            return None;
        }
        let names = |object: &Arc<Object>| {
            object.spec().is_some_and(|spec| policy.kind().covers(&spec, ring))
        };
        let found = match &object {
            None => CoverFound::Absent,
            Some(object) if names(object) => CoverFound::Names,
            Some(_) => CoverFound::Others,
        };
        // Nobody is asked about it, and what does not stand there is not enforced.
        let executed = context.cache.policies.of(policy.kind()).is_executed();
        if !executed && found != CoverFound::Names {
            return None;
        }
        let stands = object.as_deref().map(Object::marks);
        let answer = context.gate.cover(policy, stands);
        Some((policy, CoverSeen { found, answer }))
    };
    PolicyRef::UNKNOWN.into_iter().filter_map(look).collect()
}

/// Whether the namespaces of a ring are covered by such a policy, if that is
/// certain. One that signs was let go of before.
#[must_use]
pub fn is_covered(context: &Context, ring: &str, ledger: &Outline) -> Option<bool> {
    let covers = covers(context, ring);
    let covered: Vec<Covered> = covers.values().filter_map(|seen| seen.covers()).collect();
    match &covered[..] {
        [] => Some(false),
        covered if covered.contains(&Covered::Named) => Some(true),
        _ => ledger.signs.then_some(false),
    }
}

/// Whether such policies are written.
fn is_written(context: &Context, policy: PolicyRef) -> bool {
    let asked = context.asked_unknown_policy();
    asked.is_some_and(|asked| asked.kind() == policy.kind())
}

/// Whether it is yet to be heard that Kyverno has loaded such a policy as it is,
/// or let go of one that is gone.
#[must_use]
pub fn unsettled_cover(context: &Context, policy: PolicyRef) -> bool {
    match ours(context, policy) {
        Some(object) => context.gate.cover(policy, Some(object.marks())) != CoverAnswer::AsFound,
        None => {
            is_written(context, policy) && context.gate.cover(policy, None) != CoverAnswer::Open
        }
    }
}
