//! What Kyverno leaves out of a ring's check, as far as it is seen.

use serde_json::Value;
use signingkeyring_core::{
    omissions::{self, Concerned, Omission},
    policy::cluster_policy,
    policy_ref::PolicyRef,
    snapshot::{LedgerFound, Ring},
};

use crate::context::Context;

/// Who owns the rules of a policy that all of its rings stand by.
const SHARED: &str = "signing-gate";

/// Looks at what bears on a ring whose rule stands in these policies; nothing before all
/// has been looked at once.
pub(super) fn look<'a>(
    context: &Context,
    name: &str,
    ring: &Ring,
    ledger: &LedgerFound,
    policies: impl Iterator<Item = &'a PolicyRef>,
) -> Option<Vec<Omission>> {
    let kyverno = &context.cache.kyverno;
    let seen = kyverno.seen();
    if !seen.is_settled() {
        return None;
    }
    let has_exceptions = seen.exceptions.as_ref().is_ok_and(|found| !found.is_empty())
        || seen.other_exceptions.as_ref().is_ok_and(|found| !found.is_empty());
    let rules = |policy: &PolicyRef| {
        let spec = context.cache.policy(*policy)?.spec().unwrap_or_default();
        Some((*policy, [rule_names(&spec, name), rule_names(&spec, SHARED)].concat()))
    };
    let concerned = Concerned {
        policy: ledger.table().map_or_else(
            || PolicyRef::new(ring.action, 1).of_kind(ring.kind),
            |ledger| ledger.rule.settings.policy,
        ),
        enrolment_label: context.settings.enrolment_label.clone(),
        namespaces: context.cache.namespaces.labels_of(name),
        // Most of the time nobody asks for them.
        rules: policies.filter(|_| has_exceptions).filter_map(rules).collect(),
    };
    Some(omissions::of_ring(&seen, kyverno.accepted(), &concerned))
}

fn rule_names(spec: &Value, owner: &str) -> Vec<String> {
    let rules = cluster_policy::rules_of(spec, owner);
    let names = rules.into_iter().filter_map(|rule| rule.get("name")?.as_str());
    names.map(str::to_owned).collect()
}
