//! What pods meet while a policy cannot be written: how what stands there
//! differs from what should, ring by ring.

use std::collections::BTreeMap;

use super::{
    content::{Backend, Content, ContentRule, Source},
    plan::Write,
    refusal::is_named,
    snapshot::{PolicySeen, PolicySnapshot, RuleSeen},
};
use crate::snapshot::Difference;

impl Write {
    /// The rings for which the policy as found is not what this write would
    /// make of it.
    #[must_use]
    pub fn differences(
        &self,
        snapshot: &PolicySnapshot,
        backend: &impl Backend,
    ) -> BTreeMap<String, Difference> {
        let Some(found) = snapshot.ours() else { return BTreeMap::new() };
        let untouched = !self.drifted && is_framed(snapshot, backend, found);
        let difference = |ring: &str, wanted: &ContentRule| match found.rules.get(ring) {
            None => Some(Difference::NoRule),
            Some(rule)
                if !untouched
                    || rule.body() != wanted.rule.body()
                    // Of a kind whose rules share what stands around them.
                    || rule.mark.rule != wanted.rule.mark.rule
                    || !is_named(ring, backend, rule) =>
            {
                Some(Difference::Other)
            }
            Some(rule) => {
                let same = rule.whole() == wanted.rule.whole();
                (!same).then_some(Difference::Keys)
            }
        };
        let rules = self.urgent_for.as_ref().unwrap_or(&self.content.rules).iter();
        rules.filter_map(|(ring, rule)| Some((ring.clone(), difference(ring, rule)?))).collect()
    }
}

impl PolicySnapshot {
    /// The rings whose rules are not known to be right as long as nobody can
    /// look further: all that are not as this process wrote them.
    #[must_use]
    pub fn unvouched(&self) -> BTreeMap<String, Difference> {
        let Some(found) = self.ours() else { return BTreeMap::new() };
        let written = self.written.as_ref().map(|written| &written.stored);
        let is_known = |ring: &str, rule: &RuleSeen| {
            written.is_some_and(|written| {
                written.spec == found.spec && written.rules.get(ring) == Some(rule)
            })
        };
        let unknown = found.rules.iter().filter(|(ring, rule)| !is_known(ring, rule));
        unknown.map(|(ring, _)| (ring.clone(), Difference::Other)).collect()
    }
}

/// Whether all that stands around the rings' rules is what this operator writes
/// around such rules.
fn is_framed(snapshot: &PolicySnapshot, backend: &impl Backend, found: &PolicySeen) -> bool {
    let rules = found.rules.iter().map(|(ring, rule)| {
        (ring.clone(), ContentRule { source: Source::Found, rule: rule.clone() })
    });
    let whole = Content::of(backend, rules.collect()).whole;
    let stored = snapshot.written.as_ref().map(|written| written.stored.spec);
    (found.spec == whole.spec.digest || stored == Some(found.spec))
        && found.own_metadata == whole.own_metadata
}
