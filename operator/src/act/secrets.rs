//! Secrets with private keys: written so that the API server answers with their
//! metadata alone, and wiped from our own memory afterwards.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::PostParams,
    core::{PartialObjectMeta, Request},
};
use signingkeyring_core::names;
use zeroize::{Zeroize, Zeroizing};

/// What asks the API server for the metadata of what it has stored.
const METADATA: http::HeaderValue =
    http::HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// A Secret whose data are wiped when it is dropped.
pub(super) struct Wiped(pub(super) Secret);

impl Wiped {
    /// Takes an entry out of the data.
    pub(super) fn take(&mut self, entry: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.0.data.as_mut()?.remove(entry).map(|bytes| Zeroizing::new(bytes.0))
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        for bytes in self.0.data.iter_mut().flat_map(|data| data.values_mut()) {
            bytes.0.zeroize();
        }
    }
}

/// Creates a Secret.
pub(super) async fn create(
    client: &Client,
    api: &Api<Secret>,
    secret: &Wiped,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let body = serde_json::to_vec(&secret.0).map_err(kube::Error::SerdeError)?;
    send(client, Request::new(api.resource_url()).create(&params(), body)).await
}

/// Replaces a Secret, if it still has the resourceVersion that this one says.
pub(super) async fn replace(
    client: &Client,
    api: &Api<Secret>,
    name: &str,
    secret: &Wiped,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let body = serde_json::to_vec(&secret.0).map_err(kube::Error::SerdeError)?;
    send(client, Request::new(api.resource_url()).replace(name, &params(), body)).await
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::MANAGER.to_owned()) }
}

async fn send(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    request.headers_mut().insert(http::header::ACCEPT, METADATA);
    client.request(request).await
}
