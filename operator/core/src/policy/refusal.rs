//! Rules that Kyverno refuses: which they are, and that they hold up nobody else's.

use std::{collections::BTreeMap, time::Duration};

use super::{
    content::{Backend, Content, ContentRule, Source},
    narrow::narrowed,
    snapshot::{KeySeen, PolicySnapshot, RuleSeen},
};

/// How long a refused rule is left alone before it is tried again as it is:
/// what refused it may have changed.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Puts what the policy holds in the place of rules that were refused a short
/// while ago, without the keys that are not accepted any more. A ring of which
/// it holds nothing is left out. Returns whether there was such a rule.
pub(super) fn hold_back(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    rules: &mut BTreeMap<String, ContentRule>,
    outdated_refusals: &mut Vec<String>,
) -> bool {
    let mut held_back = false;
    for (name, refused) in &snapshot.refused {
        let Some(ContentRule { source, rule }) = rules.get(name) else { continue };
        if !is_rendered(source) {
            continue;
        }
        if rule.whole().digest != refused.rule || refused.age >= REFUSED_FOR {
            outdated_refusals.push(name.clone());
            continue;
        }
        held_back = true;
        let accepts = |key: &KeySeen| {
            let mut accepted = rule.public_keys();
            key.public_key.as_deref().is_some_and(|key| accepted.any(|a| a == key))
        };
        // What somebody has made of it meanwhile is not what was accepted last.
        let found = snapshot.ours().and_then(|found| found.rules.get(name));
        let written = snapshot.written.as_ref();
        let written = written.and_then(|written| written.stored.rules.get(name));
        let edited = found.zip(written).is_some_and(|(found, written)| {
            found.body() != written.body() || !is_named(name, backend, found)
        });
        let last = if edited { (Source::Written, written) } else { (Source::Found, found) };
        match last.1.map(|rule| narrowed(rule.clone(), name, backend, accepts)) {
            Some(rule) => {
                rules.insert(name.clone(), ContentRule { source: last.0, rule });
            }
            None => {
                rules.remove(name);
            }
        }
    }
    held_back
}

/// Whether a rule's names are those that the kind gives it: under another, what
/// passed by other keys would count.
pub(super) fn is_named(ring: &str, backend: &impl Backend, rule: &RuleSeen) -> bool {
    let mut named = rule.clone();
    backend.name(ring, &mut named);
    named == *rule
}

fn is_rendered(source: &Source) -> bool {
    match source {
        Source::Ledger(_) | Source::AllButKeys(_) => true,
        Source::Found | Source::Written => false,
    }
}

/// A changed rule among the others as they stand, to be tried by a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whose rule it is.
    pub ring: String,
    /// What the policy would hold.
    pub content: Content,
}

/// Which rules may be why a write was refused: those that it changes. Kyverno
/// refusing one ring's rule must not hold up the other rings of its policy.
#[must_use]
pub fn suspects(
    snapshot: &PolicySnapshot,
    backend: &impl Backend,
    refused: &Content,
) -> Vec<Trial> {
    let found = snapshot.ours().map(|found| found.rules.clone()).unwrap_or_default();
    let is_changed = |(ring, new): &(&String, &ContentRule)| {
        let before = found.get(*ring).map(RuleSeen::whole);
        is_rendered(&new.source) && before != Some(new.rule.whole())
    };
    refused
        .rules
        .iter()
        .filter(is_changed)
        .map(|(ring, new)| {
            let others = found.iter().filter(|(other, _)| *other != ring).map(|(other, rule)| {
                let rule = ContentRule { source: Source::Found, rule: rule.clone() };
                (other.clone(), rule)
            });
            let rules = others.chain([(ring.clone(), new.clone())]).collect();
            Trial { ring: ring.clone(), content: Content::of(backend, rules) }
        })
        .collect()
}
