//! A ring's rules with fewer keys.

use super::{
    content::Backend,
    snapshot::{KeySeen, RuleSeen},
};
use crate::marks::key_set;

/// Rules with none but the keys that `accepts` takes: what cannot be rendered anew
/// keeps no revoked key. Their mark changes with their keys, so that Kyverno's
/// answer tells whether it has loaded them, and so do their names.
pub(super) fn narrowed(
    mut rule: RuleSeen,
    ring: &str,
    backend: &impl Backend,
    accepts: impl Fn(&KeySeen) -> bool,
) -> RuleSeen {
    let nobody = backend.nobody();
    let stays = |key: &KeySeen| key.public_key == nobody.public_key || accepts(key);
    if rule.keys().all(stays) {
        return rule;
    }
    let left = rule.keys().filter(|key| accepts(key)).filter_map(KeySeen::name);
    rule.mark.state.key_set = key_set(left);
    for part in rule.parts.iter_mut().filter(|part| !part.keys.is_empty()) {
        part.keys.retain(&accepts);
        if part.keys.is_empty() {
            part.keys.push(nobody.clone());
        }
    }
    backend.name(ring, &mut rule);
    rule
}
