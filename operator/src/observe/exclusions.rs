//! What the cluster's exclusion lists say, and how much of it counts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use signingkeyring_core::{
    ledger::Exclusion,
    policy::{
        cluster_policy,
        exclusions::{self, List, Selection},
    },
};
use signingkeyring_crds::ImageExclusionListSpec;
use tracing::warn;

use super::exclusion;
use crate::context::Context;

/// Reads every list. An entry that cannot be read does not count, and what is
/// too much neither: the gate stays closed for it.
pub(super) fn select(context: &Context, now: Timestamp) -> Selection {
    let lists = context.cache.lists.state();
    let lists = lists.iter().map(|list| {
        let name = list.name_any();
        let exclusions = match &list.0 {
            Ok(list) => entries(context, &name, &list.spec),
            Err(invalid) => {
                if context.announced.first_time(&format!("{name} {}", invalid.error)) {
                    warn!(list = name, error = invalid.error, "exclusion list cannot be read");
                }
                Vec::new()
            }
        };
        let created = list.creation_timestamp().map(|created| created.0);
        List { name, created, exclusions }
    });
    let limit = context.settings.policy_limit().bytes_for_exclusions();
    exclusions::select(lists.collect(), limit, now, || in_force(context))
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
    let policies = context.cache.our_policies();
    let specs =
        policies.filter_map(|(_, policy)| Some(cluster_policy::skipped(policy.data.get("spec")?)));
    specs.flatten().collect()
}
