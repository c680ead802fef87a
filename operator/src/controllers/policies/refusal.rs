//! Kyverno refusing one ring's rule must not hold up the other rings of its
//! policy: each changed rule is tried alone, and what is refused stays as it was.

use std::{collections::BTreeMap, time::Duration};

use kube::core::DynamicObject;
use serde_json::Value;
use signingkeyring_core::{
    render::{self, Input, KeptRule, Rendered},
    snapshot::WriteFailure,
};
use tracing::warn;

use super::rules::{found_rules, rule_of};
use crate::{
    act::policies as write,
    context::Context,
    error::{Error, brief, is_code},
};

/// How long a refused rule is left alone before it is tried again as it is:
/// what refused it may have changed.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// Kyverno's words, if it looked at a policy and refused it: its webhook did,
/// or the schema of its CRD.
pub(super) fn words(error: &Error) -> Option<String> {
    let Error::Api { source, .. } = error else { return None };
    let text = brief(source);
    let refused = text.contains("denied the request") || is_code(source, 422);
    refused.then(|| shorten(&text))
}

/// Writes as much of a refused policy as is accepted. Returns what was written,
/// if anything could be.
///
/// # Errors
/// If the policy changed since it was found, or the API server fails.
pub(super) async fn write_the_rest(
    context: &Context,
    found: Option<&DynamicObject>,
    input: &Input<'_>,
    refused: &Rendered,
    words: String,
) -> Result<Option<(Rendered, DynamicObject)>, Error> {
    let before = found.map(found_rules).unwrap_or_default();
    let changed: Vec<&str> = input
        .ledgers
        .keys()
        .copied()
        .filter(|ring| before.get(*ring).map(|kept| &kept.rule) != rule_of(&refused.spec, ring))
        .collect();
    let mut culprits = BTreeMap::new();
    if let [alone] = changed[..] {
        culprits.insert(alone, words);
    } else {
        for ring in changed {
            if let Some(words) = try_alone(context, found, input, &before, ring).await? {
                culprits.insert(ring, words);
            }
        }
    }
    if culprits.is_empty() {
        return Ok(None);
    }
    for (ring, message) in culprits {
        warn!(policy = input.policy, ring, message, "Kyverno refuses the ring's rule");
        let rule = rule_of(&refused.spec, ring).cloned().unwrap_or_default();
        let failure = WriteFailure { refused: true, message };
        context.cache.written.refused(input.policy, ring, rule, failure);
        context.rings.wake(ring);
    }
    let input = without_refused(context, input, &before, refused);
    let Some(rendered) = render::render(&input) else { return Ok(None) };
    let stored = write::write(context, input.policy, found, &rendered, false).await?;
    Ok(Some((rendered, stored)))
}

/// The input with the rules that were refused a short while ago as they stand
/// in the policy, less the keys that are not accepted any more, or left out if
/// they never did.
pub(super) fn without_refused<'a>(
    context: &Context,
    input: &Input<'a>,
    before: &'a BTreeMap<String, KeptRule>,
    rendered: &Rendered,
) -> Input<'a> {
    let mut input = input.clone();
    for ring in input.ledgers.keys().copied().collect::<Vec<_>>() {
        let rule = rule_of(&rendered.spec, ring).cloned().unwrap_or_default();
        if context.cache.written.is_refused(input.policy, ring, &rule, PAUSE) {
            let ledger = input.ledgers.remove(ring);
            if let (Some(kept), Some(ledger)) = (before.get(ring), ledger) {
                let accepts = |key: &str| ledger.accepted().any(|v| v.public_key == key);
                input.kept.insert(ring, kept.clone().narrowed(accepts));
            }
        }
    }
    input
}

/// Tries one ring's new rule among the others' old ones, by a dry run; returns
/// Kyverno's words if it refuses.
async fn try_alone(
    context: &Context,
    found: Option<&DynamicObject>,
    input: &Input<'_>,
    before: &BTreeMap<String, KeptRule>,
    ring: &str,
) -> Result<Option<String>, Error> {
    let mut alone = input.clone();
    alone.ledgers.retain(|other, _| *other == ring);
    let others = before.iter().filter(|(other, _)| *other != ring);
    alone.kept = others.map(|(other, kept)| (other.as_str(), kept.clone())).collect();
    let Some(rendered) = render::render(&alone) else { return Ok(None) };
    match write::write(context, input.policy, found, &rendered, true).await {
        Ok(_) => Ok(None),
        Err(error) => match words(&error) {
            Some(words) => Ok(Some(words)),
            None => Err(error),
        },
    }
}

/// Kyverno puts the refused rule first and the cause last: keeps both ends.
pub(super) fn shorten(message: &str) -> String {
    const END: usize = 500;
    let length = message.chars().count();
    if length <= 2 * END {
        return message.to_owned();
    }
    let start: String = message.chars().take(END / 2).collect();
    let end: String = message.chars().skip(length - END).collect();
    format!("{start} ... {end}")
}

/// The bytes of a policy's rules.
pub(super) fn size(spec: &Value) -> usize {
    spec.to_string().len()
}
