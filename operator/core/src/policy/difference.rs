//! What pods meet while a policy cannot be written: how what stands there
//! differs from what should, ring by ring.

use std::collections::BTreeMap;

use super::{
    content::{Backend, Content, ContentRule, Source},
    plan::Write,
    snapshot::{KeySeen, PolicySeen, PolicySnapshot},
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
            Some(rule) if !untouched || rule.body != wanted.rule.body => Some(Difference::Other),
            Some(rule) => {
                let entries = |keys: &[KeySeen]| keys.iter().map(|key| key.entry).collect();
                let [stands, should]: [Vec<_>; 2] =
                    [entries(&rule.keys), entries(&wanted.rule.keys)];
                (stands != should).then_some(Difference::Keys)
            }
        };
        let rules = self.content.rules.iter();
        rules.filter_map(|(ring, rule)| Some((ring.clone(), difference(ring, rule)?))).collect()
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
