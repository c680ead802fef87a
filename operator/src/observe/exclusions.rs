//! What the cluster's exclusion lists say, and how much of it counts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{ResourceExt, core::DeserializeGuard};
use signingkeyring_convert::exclusion;
use signingkeyring_core::{
    ledger::Exclusion,
    names,
    policy::{
        Metadata,
        exclusions::{self, List, Selection, remembered},
    },
    policy_ref::PolicyKind,
};
use signingkeyring_crds::{ImageExclusionList, ImageExclusionListSpec};
use tracing::warn;

use crate::context::Context;

/// Reads every list. An entry that cannot be read does not count, and what is
/// too much neither: the gate stays closed for it.
pub(super) fn select(context: &Context, now: Timestamp) -> Selection {
    let (lost, is_missing) = context.cache.lost_lists.lists();
    let known = context.cache.lists.state();
    let known = known.iter().map(|object| list(context, object, is_missing));
    let lost = lost.iter().map(|object| list(context, object, true));
    let lost_lists = &context.cache.lost_lists;
    let shown = lost_lists.shown_by_policies(|| crds(context), || from_policies(context));
    let room = context.settings.limit_for_lists().room_for_exclusions();
    let lists = known.chain(lost).chain(shown).collect();
    exclusions::select(lists, room, now, || in_force(context))
}

fn list(
    context: &Context,
    object: &DeserializeGuard<ImageExclusionList>,
    remembered: bool,
) -> List {
    let name = object.name_any();
    let exclusions = match &object.0 {
        Ok(list) => entries(context, &name, &list.spec),
        Err(invalid) => {
            if context.announced.first_time(&format!("{name} {}", invalid.error)) {
                warn!(list = name, error = invalid.error, "exclusion list cannot be read");
            }
            Vec::new()
        }
    };
    let created = object.creation_timestamp().map(|created| created.0);
    List { name, created, exclusions, remembered }
}

/// The CRDs of which the lists were that are in force, as the policies have it.
fn crds(context: &Context) -> BTreeSet<String> {
    let policies = context.cache.our_policies();
    let crds = policies
        .filter_map(|(_, policy)| policy.annotations().get(names::ANNOTATION_LISTS).cloned());
    crds.filter(|crd| !crd.is_empty()).collect()
}

/// What the policies show of lists that this process has never seen.
fn from_policies(context: &Context) -> List {
    let mut rules = Vec::new();
    for (name, policy) in context.cache.our_policies() {
        let metadata = Metadata { annotations: policy.annotations(), labels: policy.labels() };
        let Some(spec) = policy.spec() else { continue };
        let marks = policy.marks();
        for (ring, globs) in name.kind().skipped_by_rings(metadata, &spec) {
            // What a ring's own exclusions are only the ledger says from which its
            // rule was made: taken for a list's, they would count for all rings.
            let row = context.cache.ledgers.get(&ring);
            let made_from = marks.0.get(&ring).map(|mark| mark.state.sequence);
            let table = row.and_then(|row| row.shared_table());
            let table = table.filter(|table| Some(table.rule.sequence) == made_from);
            rules.extend(table.map(|table| (globs, table.rule.settings.exclude.clone())));
        }
    }
    remembered::from_policies(rules.iter().map(|(globs, own)| (globs.clone(), &own[..])))
}

fn entries(context: &Context, list: &str, spec: &ImageExclusionListSpec) -> Vec<Exclusion> {
    let mut entries = Vec::new();
    for entry in &spec.images {
        match exclusion(entry) {
            Ok(exclusion) => entries.push(exclusion),
            Err(problem) => {
                if context.announced.first_time(&format!("{list} {problem}")) {
                    warn!(list, problem, "exclusion does not count");
                }
            }
        }
    }
    entries
}

/// The globs that the rules of the operator's policies skip.
fn in_force(context: &Context) -> BTreeSet<String> {
    let of_kind = |kind: PolicyKind| context.cache.policies.of(kind).skipped();
    PolicyKind::ALL.into_iter().flat_map(of_kind).collect()
}
