//! Rules for which no ledger calls, and what of a ledger counts where the ring's
//! object says more: `closed-not-open` and `known-keys-only`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    content::{Backend, ContentRule, Source},
    known::{Known, speaks},
    narrow::narrowed,
    snapshot::{KeySeen, PolicySnapshot, RingSeen, RuleSeen},
};
use crate::{
    high_water,
    ledger::{Ledger, Version},
};

/// The rules that are not rendered, because their ring's ledger is gone, cannot
/// be read, or is older than the one that wrote them. They stay, less the keys
/// that neither the ring's ledger nor its status accepts; where neither says
/// anything, word for word. Of a rule that is newer than its ring's ledger no
/// more than the keys is believed: the rest is rendered.
///
/// What is not known yet may be a newer replica's, which has seen a newer
/// ledger: before it is taken out, ledger and status are read anew.
pub(super) fn kept(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    doubtful: &mut BTreeSet<String>,
) -> BTreeMap<String, ContentRule> {
    let mut kept = BTreeMap::new();
    let found = snapshot.ours().map(|found| (Source::Found, found));
    let written = snapshot.written.as_ref().map(|written| (Source::Written, &written.stored));
    for (source, policy) in found.into_iter().chain(written) {
        for (name, rule) in &policy.rules {
            let ring = snapshot.rings.get(name);
            let table = ring.and_then(|ring| ring.table.as_deref());
            if table.is_some_and(|table| table.rule.sequence >= rule.mark.state.sequence) {
                continue;
            }
            if source == Source::Written && ring.is_some_and(|ring| !needs_memory(ring, rule)) {
                continue;
            }
            let known = ring.map(|ring| Known::of(ring, rule));
            let accepts = |key: &KeySeen| match &known {
                Some(known) => known.accepts(key),
                None => key.public_key.is_some(),
            };
            let narrowed = narrowed(rule.clone(), name, backend, accepts);
            let placed = snapshot.placed().find(|(placed, ..)| placed == name);
            let new = match placed.filter(|(.., table)| !table.removed) {
                Some((_, ring, table)) => {
                    let ledger = holding_on(enforceable(snapshot, name, ring, table));
                    let rule = backend.rule_with_keys_of(name, &ledger, &narrowed);
                    ContentRule { source: Source::AllButKeys(ledger), rule }
                }
                None => {
                    let rule = backend.stays(narrowed, policy);
                    ContentRule { source: source.clone(), rule }
                }
            };
            let stands = snapshot.ours().and_then(|found| found.rules.get(name)).unwrap_or(rule);
            let stays =
                new.rule.whole() == stands.whole() && new.rule.mark.state == stands.mark.state;
            if !stays && ring.is_some_and(|ring| !ring.read_anew) {
                doubtful.insert(name.clone());
            }
            kept.insert(name.clone(), new);
        }
    }
    kept
}

/// The ledger of a ring whose rule is newer: how far its move has come by now is not
/// known, so none of its policies stops verifying on this word.
fn holding_on(mut ledger: Arc<Ledger>) -> Arc<Ledger> {
    let settings = ledger.rule.settings.holding_on();
    if ledger.rule.settings != settings {
        Arc::make_mut(&mut ledger).rule.settings = settings;
    }
    ledger
}

/// Whether what this process wrote of a ring's rule stands in for what somebody
/// has edited away: only where no ledger speaks for the ring that knows all that
/// witnesses do, and not once another replica has taken the ring down.
fn needs_memory(ring: &RingSeen, written: &RuleSeen) -> bool {
    let speaks =
        |table: &Arc<Ledger>| table.knows(&ring.remembered) && table.knows(&written.high_water);
    !ring.was_removed && !ring.table.as_ref().is_some_and(speaks)
}

/// The ledger without versions that its ring's object calls revoked. An older
/// ledger may not know of a revocation that the object remembers, and that of a
/// stalled ring is not changed when the object's spec revokes a version. A ledger
/// that goes on is about to take in what the spec says; until then, what has left
/// the policy already does not return.
pub(super) fn enforceable(
    snapshot: &PolicySnapshot,
    name: &str,
    ring: &RingSeen,
    table: &Arc<Ledger>,
) -> Arc<Ledger> {
    let speaks = speaks(ring);
    let found = snapshot.ours().and_then(|found| found.rules.get(name));
    let is_out = |version: &Version| {
        found.is_some_and(|rule| rule.public_keys().all(|key| version.public_key != *key))
    };
    let named = table.versions.iter().filter(|v| ring.revoked.iter().any(|r| r.names(v)));
    let named = named.filter(|v| v.state().is_accepted() && (!speaks || is_out(v)));
    let mut revoked: BTreeSet<String> =
        named.map(|v| high_water::short(v.fingerprint.as_str())).collect();
    if !speaks {
        revoked.extend(ring.remembered.revoked.iter().cloned());
    }
    if revoked.is_empty() { Arc::clone(table) } else { Arc::new(table.without(&revoked)) }
}
