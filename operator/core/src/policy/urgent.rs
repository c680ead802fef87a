//! Taking revoked keys out of a policy before anything else: `urgent-first`.

use std::collections::BTreeMap;

use super::{
    content::{Backend, Content, ContentRule, Source},
    known::Known,
    narrow::narrowed,
    snapshot::{PolicySnapshot, RulePart},
};
use crate::marks::Short;

/// What stands in the policy less the keys that are revoked, if any of them
/// stands there. It is smaller than what stands there, and is not held up by
/// whatever else is to change: a size, a list, another ring's rule. A rule that
/// stands there unmarked does not leave by it.
pub(super) fn without_revoked(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    wanted: &BTreeMap<String, ContentRule>,
) -> Option<Content> {
    let found = snapshot.ours()?;
    let mut urgent = false;
    let rules = found.rules.iter().map(|(name, stands)| {
        let mut rule = backend.stays(stands.clone(), found);
        if let Some(ring) = snapshot.rings.get(name)
            && let known = Known::of(ring, stands)
            && stands.keys().any(|key| known.revokes(key))
        {
            urgent = true;
            rule = narrowed(rule, name, backend, |key| known.accepts(key));
            // Who knows no newer ledger than the one that the rule was made
            // from is not to put the key back.
            let table = ring.table.as_ref().map_or(0, |table| table.rule.sequence);
            rule.mark.state.sequence = rule.mark.state.sequence.max(table);
            // That state's keys are there, the rest of its rule may not be.
            if wanted.get(name).is_none_or(|wanted| wanted.rule.body() != rule.body()) {
                rule.mark.rule = Short::default();
            }
        }
        (name.clone(), ContentRule { source: Source::Found, rule })
    });
    let mut rules: BTreeMap<_, _> = rules.collect();
    let is_unmarked = |name: &str| found.unmarked.contains(RulePart::owner(name));
    let unmarked = wanted.iter().filter(|(name, new)| {
        !found.rules.contains_key(*name) && new.rule.parts.iter().any(|p| is_unmarked(&p.name))
    });
    rules.extend(unmarked.map(|(name, rule)| (name.clone(), rule.clone())));
    urgent.then(|| Content::of(backend, rules))
}
