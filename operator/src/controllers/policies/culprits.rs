//! Whose rule it is that Kyverno refuses a policy for.

use signingkeyring_core::{
    policy::{Content, suspects},
    snapshot::WriteFailure,
};
use tracing::warn;

use crate::{
    act::policies as act,
    context::Context,
    error::{Error, brief, is_code},
    observe::ObservedPolicy,
};

/// Looks which rings' rules were refused, by a dry run of each changed one.
/// Returns whether there is any.
pub(super) async fn find_culprits(
    context: &Context,
    observed: &ObservedPolicy,
    refused: &Content,
    message: String,
) -> Result<bool, Error> {
    let policy = observed.snapshot.policy;
    let trials = suspects(&observed.snapshot, &observed.backend(context), refused);
    let mut culprits = Vec::new();
    if let [alone] = &trials[..] {
        culprits.push((alone.ring.clone(), message));
    } else {
        for trial in trials {
            match act::write(context, observed, &trial.content, true).await {
                Ok(_) => {}
                Err(error) => match refusal(&error) {
                    Some(message) => culprits.push((trial.ring, message)),
                    None => return Err(error),
                },
            }
        }
    }
    for (ring, message) in &culprits {
        warn!(%policy, ring, message, "Kyverno refuses the ring's rule");
        let Some(rule) = refused.rules.get(ring) else { continue };
        let failure = WriteFailure { refused: true, message: message.clone() };
        context.cache.written.record_refusal(policy, ring, rule.rule.whole().digest, failure);
        context.rings.wake(ring);
    }
    Ok(!culprits.is_empty())
}

/// Kyverno's message, if it looked at a policy and refused it: its webhook did,
/// or the schema of its CRD.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let Error::Api { source, .. } = error else { return None };
    let text = brief(source);
    let refused = text.contains("denied the request") || is_code(source, 422);
    refused.then(|| shorten(&text))
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
