//! What Kyverno leaves out of a ring's check, as far as it is seen.

use signingkeyring_core::{
    omissions::{self, Concerned, Omission},
    policy::cluster_policy,
    policy_ref::PolicyRef,
    snapshot::{LedgerFound, Ring},
};

use crate::context::Context;

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
    let rules = |policy: &PolicyRef| {
        let spec = context.cache.policy(*policy)?.spec().unwrap_or_default();
        Some((*policy, cluster_policy::rule_names(&spec, name)))
    };
    let concerned = Concerned {
        policy: ledger.table().map_or_else(
            || PolicyRef::new(ring.action, 1).of_kind(ring.kind),
            |ledger| ledger.rule.settings.policy,
        ),
        enrolment_label: context.settings.enrolment_label.clone(),
        namespaces: context.cache.namespaces.labels_of(name),
        // Most of the time nobody asks for them.
        rules: policies.filter(|_| seen.has_exceptions()).filter_map(rules).collect(),
    };
    Some(omissions::of_ring(&seen, kyverno.accepted(), &concerned))
}
