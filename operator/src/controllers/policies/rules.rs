//! Which rules a policy is to hold: of each ring the one that its ledger calls
//! for, or the one that stands there.

use std::{borrow::Cow, collections::BTreeMap};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::Value;
use signingkeyring_core::{
    high_water::{self, HighWater},
    ledger::Ledger,
    names,
    render::KeptRule,
    snapshot::Revoked,
};

use crate::{
    cache::{LedgerRow, WrittenPolicy},
    context::Context,
    keys::fingerprint_of,
    observe::{marks, ring, witness},
};

/// The ledgers that speak for themselves. One that is older than what its
/// ring's object remembers is not to bring a revoked version back; and where a
/// ring is stalled, so that its ledger takes no revocation in, what its object
/// revokes is left out all the same.
pub(super) fn rendered_ledgers<'a>(
    context: &Context,
    placed: &'a [(String, LedgerRow)],
    kept: &BTreeMap<String, KeptRule>,
) -> BTreeMap<&'a str, Cow<'a, Ledger>> {
    placed
        .iter()
        .filter(|(ring, _)| !kept.contains_key(ring))
        .filter_map(|(ring, row)| Some((ring.as_str(), row, row.table()?)))
        .filter(|(_, _, ledger)| !ledger.removed)
        .map(|(ring, row, ledger)| {
            let mut remembered = HighWater::default();
            if let Some(Ok(object)) = context.cache.ring(ring).as_deref().map(|ring| &ring.0) {
                for witness in witness::of_ring(object) {
                    remembered.raise(&witness.high_water);
                }
            }
            if row.ledger.is_ok() && ledger.knows(&remembered) {
                return (ring, Cow::Borrowed(ledger));
            }
            let revoked = revoked(context, ring);
            let named = ledger.versions.iter().filter(|v| revoked.iter().any(|r| r.names(v)));
            remembered.revoked.extend(named.map(|v| high_water::short(&v.fingerprint)));
            (ring, Cow::Owned(ledger.without(&remembered.revoked)))
        })
        .collect()
}

/// The rules that stay word for word, but for keys that the ring's object
/// revokes: those of rings whose ledger is gone or damaged, and those that a
/// newer state of a ledger than ours has written.
/// What this process last wrote stands in for a policy that was edited or
/// deleted.
pub(super) fn kept(
    context: &Context,
    found: Option<&DynamicObject>,
    written: Option<&WrittenPolicy>,
) -> BTreeMap<String, KeptRule> {
    let mut kept = BTreeMap::new();
    let sources = [found, written.map(|written| &written.stored)];
    for source in sources.into_iter().flatten() {
        for (ring, rule) in found_rules(source) {
            let row = context.cache.ledgers.get(&ring);
            let ledger = row.as_ref().and_then(LedgerRow::table);
            if ledger.is_none_or(|ledger| ledger.rule.sequence < rule.mark.sequence) {
                let revoked = revoked(context, &ring);
                let accepts = |key: &str| !revoked.iter().any(|r| names_key(r, key, ledger));
                kept.insert(ring, rule.narrowed(accepts));
            }
        }
    }
    kept
}

/// What a ring's object revokes.
fn revoked(context: &Context, ring: &str) -> Vec<Revoked> {
    let found = context.cache.ring(ring);
    let object = found.as_deref().and_then(|ring| ring.0.as_ref().ok());
    object.map(|object| ring::revoked(&object.spec)).unwrap_or_default()
}

/// Whether a revocation means a public key. By number it needs the table.
fn names_key(revoked: &Revoked, key: &str, table: Option<&Ledger>) -> bool {
    let mut rows = table.into_iter().flat_map(|table| &table.versions);
    match revoked {
        Revoked::Fingerprint(named) => fingerprint_of(key).is_ok_and(|real| real == *named),
        Revoked::Version(_) => rows.any(|row| row.public_key == key && revoked.names(row)),
    }
}

/// The rules of rings as they stand in a policy.
pub(super) fn found_rules(policy: &DynamicObject) -> BTreeMap<String, KeptRule> {
    let annotation = policy.annotations().get(names::ANNOTATION_HIGH_WATER);
    let rules = marks(policy).0.into_iter().filter_map(|(ring, mark)| {
        let rule = rule_of(&policy.data["spec"], &ring)?.clone();
        let high_water = witness::recorded(annotation, &ring).unwrap_or_default();
        Some((ring, KeptRule { mark, high_water, rule }))
    });
    rules.collect()
}

/// A ring's rule in a policy's spec.
pub(super) fn rule_of<'a>(spec: &'a Value, ring: &str) -> Option<&'a Value> {
    spec["rules"].as_array()?.iter().find(|rule| rule["name"] == *ring)
}
