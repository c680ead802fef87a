//! How many bytes Kyverno's webhook configurations and the operator's policies have.

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use http::{Request, header::ACCEPT};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Serialize;
use serde_json::Value;
use signingkeyring_e2e_testbed::kind::Kind;

/// The bytes of the largest request that etcd takes: 1.5 MiB.
pub const LARGEST_REQUEST: usize = 1_572_864;

/// Kyverno's configurations for what is not its own.
const CONFIGURATIONS: [&str; 2] = [
    "validatingwebhookconfigurations/kyverno-resource-validating-webhook-cfg",
    "mutatingwebhookconfigurations/kyverno-resource-mutating-webhook-cfg",
];

/// Kyverno's webhook configurations, in bytes as etcd holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Configurations {
    /// The validating one.
    pub validating: usize,
    /// The mutating one.
    pub mutating: usize,
    /// The webhooks of the validating one that are for a single policy.
    pub own: usize,
    /// The CA's certificate, which each webhook repeats.
    pub ca: usize,
}

/// Looks at Kyverno's webhook configurations.
///
/// # Errors
/// If one cannot be read.
pub async fn configurations(client: &Client) -> Result<Configurations> {
    let [validating, mutating] =
        CONFIGURATIONS.map(|name| format!("/apis/admissionregistration.k8s.io/v1/{name}"));
    let object: Value =
        serde_json::from_slice(&get(client, &validating, "application/json").await?)?;
    let webhooks = object["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    let is_own = |webhook: &&Value| {
        webhook["name"].as_str().is_some_and(|name| name.contains("-finegrained-"))
    };
    let ca = webhooks.first().and_then(|webhook| webhook["clientConfig"]["caBundle"].as_str());
    // What etcd holds of a kind of Kubernetes' own.
    let stored = "application/vnd.kubernetes.protobuf";
    Ok(Configurations {
        validating: get(client, &validating, stored).await?.len(),
        mutating: get(client, &mutating, stored).await?.len(),
        own: webhooks.iter().filter(is_own).count(),
        ca: ca.map(Base64::decode_vec).transpose()?.map_or(0, |ca| ca.len()),
    })
}

/// The bytes of the operator's first policy of a kind, and of what goes with it.
///
/// # Errors
/// If it cannot be read.
pub async fn policy(client: &Client, kind: Kind) -> Result<usize> {
    let group = kind.group();
    let own = format!("/apis/{group}/v1/{}/{}", kind.plural(), kind.enforce(1));
    let own = get(client, &own, "application/json").await?.len();
    Ok(match kind {
        Kind::ClusterPolicy => own,
        Kind::ImageValidatingPolicy => {
            let pin = format!("/apis/{group}/v1/mutatingpolicies/signing.pin-0001");
            own + get(client, &pin, "application/json").await?.len()
        }
    })
}

async fn get(client: &Client, path: &str, format: &str) -> Result<Vec<u8>> {
    let request = Request::get(path).header(ACCEPT, format).body(Body::empty())?;
    let answer = client.send(request).await.with_context(|| path.to_owned())?;
    anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
    Ok(answer.into_body().collect().await?.to_bytes().into())
}
