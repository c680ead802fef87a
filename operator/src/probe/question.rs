//! The question to a policy's gate, and what its answer means.

use signingkeyring_core::policy_ref::{PolicyKind, PolicyRef};
use tokio::time::{Instant, timeout};

use super::webhooks::Webhooks;
use crate::{
    context::Context,
    error::brief,
    gate::{PATIENCE, Response},
};

mod cluster_policy;
mod image_validating;

/// What the API server says before the name of a webhook that it cannot reach.
const FAILED_CALLING: &str = "failed calling webhook \"";

/// Asks a policy's gate, as its kind is asked.
pub(super) async fn ask(context: &Context, webhooks: &Webhooks, policy: PolicyRef) -> Response {
    let asked = Instant::now();
    let answer = async {
        match policy.kind() {
            PolicyKind::ClusterPolicy => cluster_policy::ask(context, policy).await,
            PolicyKind::ImageValidatingPolicy => image_validating::ask(context, policy).await,
        }
    };
    match timeout(PATIENCE, answer).await {
        Err(_) => Response::Unreadable(format!("no answer within {}s", PATIENCE.as_secs())),
        Ok(Some(response)) => response,
        Ok(None) => webhooks.explain_silence(context, policy, asked).await,
    }
}

/// What the API server says of a webhook that did not answer in its time, however far it
/// had come.
const TOO_LONG: [&str; 3] = ["deadline exceeded", "Timeout exceeded", "i/o timeout"];

/// What a failed dry run says. Only when Kyverno's own webhook fails is the gate
/// unreachable, or slow; what anybody else says is nothing about Kyverno.
fn read_error(error: &kube::Error, is_kyvernos: impl Fn(&str) -> bool) -> Response {
    let text = brief(error);
    let webhook = text.split_once(FAILED_CALLING).and_then(|(_, rest)| rest.split_once('"'));
    let why = webhook.filter(|(name, _)| is_kyvernos(name)).map(|(_, why)| why);
    let text = without_volatile_words(&text);
    match why {
        Some(why) if TOO_LONG.iter().any(|words| why.contains(words)) => Response::Slow(text),
        Some(_) => Response::Unreachable(text),
        None => Response::Unreadable(text),
    }
}

/// The text without what differs from one call to the next (source ports), so
/// that the same fault is told once.
fn without_volatile_words(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains("->") { "..." } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(500).collect()
}
