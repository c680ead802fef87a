//! Kyverno's webhook configurations: deleted and edited by hand.

use anyhow::Result;
use k8s_openapi::{
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};

const MUTATING: &str = "kyverno-resource-mutating-webhook-cfg";
const VALIDATING: &str = "kyverno-resource-validating-webhook-cfg";

/// Puts a namespaceSelector that nothing matches where it finds `$field`.
macro_rules! blind {
    ($api:expr, $name:expr) => {{
        let mut found = $api.get($name).await?;
        for webhook in found.webhooks.iter_mut().flatten() {
            webhook.namespace_selector = Some(nowhere());
        }
        $api.replace($name, &PostParams::default(), &found).await?;
    }};
}

macro_rules! is_whole {
    ($api:expr, $name:expr) => {
        $api.get_opt($name).await?.is_some_and(|found| {
            let webhooks = found.webhooks.unwrap_or_default();
            !webhooks.is_empty()
                && webhooks.iter().all(|w| w.namespace_selector.as_ref() != Some(&nowhere()))
        })
    };
}

/// Deletes every webhook configuration of Kyverno.
///
/// # Errors
/// If the API server refuses.
pub async fn delete(client: &Client) -> Result<()> {
    let kyvernos = ListParams::default().labels("webhook.kyverno.io/managed-by=kyverno");
    let now = DeleteParams::default();
    mutating(client).delete_collection(&now, &kyvernos).await?;
    validating(client).delete_collection(&now, &kyvernos).await?;
    Ok(())
}

/// Makes the configurations of what Kyverno verifies apply nowhere.
///
/// # Errors
/// If the API server refuses.
pub async fn edit(client: &Client) -> Result<()> {
    blind!(mutating(client), MUTATING);
    blind!(validating(client), VALIDATING);
    Ok(())
}

/// Whether both configurations are there and apply.
///
/// # Errors
/// If they cannot be read.
pub async fn are_whole(client: &Client) -> Result<bool> {
    Ok(is_whole!(mutating(client), MUTATING) && is_whole!(validating(client), VALIDATING))
}

fn mutating(client: &Client) -> Api<MutatingWebhookConfiguration> {
    Api::all(client.clone())
}

fn validating(client: &Client) -> Api<ValidatingWebhookConfiguration> {
    Api::all(client.clone())
}

/// Matches no namespace.
fn nowhere() -> LabelSelector {
    let label = ("chaos".to_owned(), "nowhere".to_owned());
    LabelSelector { match_labels: Some([label].into()), ..LabelSelector::default() }
}
