//! What can be wrong with a pass over a policy: how it is planned, and how it
//! is composed.

use std::sync::Arc;

use signingkeyring_core::{
    ledger::{Ledger, Life, Past, Signed, Version},
    policy::{
        Content, ContentRule, NOBODYS_KEY, PolicyPlan, PolicySnapshot, Rendered, Renderer, Source,
        Step, plan_policy,
        snapshot::{ObjectSeen, RingSeen},
    },
    public_key::PublicKey,
};

use crate::{
    facts::{STRANGER, key},
    view::RINGS,
};

/// The JSON of a policy with rules that stay.
type Seen<'a, 'v> = &'a dyn Fn(&Source) -> Option<&'v serde_json::Value>;

fn with(snapshot: &PolicySnapshot, change: impl FnOnce(&mut PolicySnapshot)) -> PolicySnapshot {
    let mut changed = snapshot.clone();
    change(&mut changed);
    changed
}

fn edit(ring: &mut RingSeen, change: impl FnOnce(&mut Ledger)) {
    if let Some(table) = &mut ring.table {
        change(Arc::make_mut(table));
    }
}

/// Believes that a key is the ring's because it comes with its second version.
pub fn adopts(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let snapshot = with(snapshot, |seen| {
        for ring in seen.rings.values_mut() {
            edit(ring, |ledger| {
                if let Some(second) = ledger.versions.get(1).cloned() {
                    let pair = key(STRANGER);
                    let public_key = PublicKey::from(&*pair.public_key);
                    let fingerprint = pair.fingerprint;
                    let activated_at = second.created_at;
                    let signed = Signed { acknowledged_at: None, activated_at, spare: false };
                    let life = Life::Accepted { signed, key_digest: None };
                    ledger.versions.push(Version { public_key, fingerprint, life, ..second });
                }
            });
        }
    });
    plan_policy(&snapshot, kind)
}

/// Takes every key that stands in a policy for its ring's.
pub fn believes(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let snapshot = with(snapshot, |seen| {
        let found = seen.ours().map(|found| found.rules.clone()).unwrap_or_default();
        for (name, ring) in &mut seen.rings {
            let keys = found.get(name).into_iter().flat_map(|rule| rule.public_keys());
            ring.reported.extend(keys.map(str::to_owned));
        }
    });
    plan_policy(&snapshot, kind)
}

/// Takes every rule for older than what its ledger says.
pub fn overwrites(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let snapshot = with(snapshot, |seen| {
        if let ObjectSeen::Ours(found) = &mut seen.found {
            found.rules.values_mut().for_each(|rule| rule.mark.state.sequence = 0);
        }
        if let Some(written) = &mut seen.written {
            written.stored.rules.values_mut().for_each(|rule| rule.mark.state.sequence = 0);
        }
    });
    plan_policy(&snapshot, kind)
}

/// Is content with a policy as soon as it has a rule of each ring.
pub fn counts_rules(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let mut plan = plan_policy(snapshot, kind);
    if let Step::Write(write) = &plan.step
        && let ObjectSeen::Ours(found) = &snapshot.found
        && found.rules.keys().eq(write.content.rules.keys())
    {
        plan.step = Step::UpToDate(write.content.clone());
    }
    plan
}

/// Forgets a ring's removal once its rule has left.
pub fn forgets_removal(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let snapshot = with(snapshot, |seen| {
        let found = seen.ours().map(|found| found.rules.clone()).unwrap_or_default();
        for (name, ring) in &mut seen.rings {
            if !found.contains_key(name) {
                edit(ring, |ledger| ledger.removed = false);
            }
        }
    });
    plan_policy(&snapshot, kind)
}

/// Renders the ring under test alone.
pub fn forgets_others(snapshot: &PolicySnapshot, kind: &Renderer<'_>) -> PolicyPlan {
    let alone = with(snapshot, |seen| {
        seen.rings.retain(|name, _| name == RINGS[0]);
        if let ObjectSeen::Ours(found) = &mut seen.found {
            found.rules.retain(|name, _| name == RINGS[0]);
        }
    });
    plan_policy(&alone, kind)
}

/// Forgets a revocation as soon as there is a newer version.
pub fn reaccepts(kind: &Renderer<'_>, content: &Content, seen: Seen<'_, '_>) -> Option<Rendered> {
    let mut forgetful = content.clone();
    for ContentRule { source, .. } in forgetful.rules.values_mut() {
        let Source::Ledger(ledger) = source else { continue };
        let ledger = Arc::make_mut(ledger);
        let newest = ledger.newest().map_or(0, |row| row.number);
        for row in ledger.versions.iter_mut().filter(|row| row.number < newest) {
            if let Life::Revoked(Past::Signed(signed)) = row.life {
                row.life = Life::Accepted { signed, key_digest: None };
            }
        }
    }
    kind.compose(&forgetful, seen)
}

/// Leaves out the key that nobody has.
pub fn renders_nothing(
    kind: &Renderer<'_>,
    content: &Content,
    seen: Seen<'_, '_>,
) -> Option<Rendered> {
    let mut rendered = kind.compose(content, seen)?;
    for rule in rendered.spec.get_mut("rules")?.as_array_mut()? {
        let entries = rule.pointer_mut("/verifyImages/0/attestors/0/entries");
        if let Some(entries) = entries.and_then(|entries| entries.as_array_mut()) {
            entries.retain(|entry| {
                let public_key = entry.pointer("/keys/publicKeys").and_then(|key| key.as_str());
                public_key != Some(NOBODYS_KEY)
            });
        }
    }
    Some(rendered)
}
