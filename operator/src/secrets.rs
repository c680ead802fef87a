//! Secrets with private keys: written so that the API server answers with their
//! metadata alone, compared by digests, and wiped from our own memory afterwards.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::PostParams,
    core::{PartialObjectMeta, Request},
};
use sha2::{Digest, Sha256};
use signingkeyring_core::{ledger::Version, names, snapshot::Layout};
use tokio::sync::OnceCell;
use zeroize::{Zeroize, Zeroizing};

use crate::keys::digest_of;

/// The type of the pipelines' Secrets, which the API server never changes.
pub(crate) const TYPE: &str = "Opaque";

/// What asks the API server for the metadata of what it has stored.
const METADATA: http::HeaderValue =
    http::HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// A Secret whose data are wiped when it is dropped.
pub(crate) struct Wiped(pub(crate) Secret);

impl Wiped {
    /// Takes an entry out of the data.
    pub(crate) fn take(&mut self, entry: &str) -> Option<Zeroizing<Vec<u8>>> {
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

/// What a pipeline's Secret holds: nothing that is worth keeping secret.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The digests of its private keys with their passwords, see
    /// [`digest_of`](crate::keys::digest_of): one for each layout of which it
    /// has both.
    pub(crate) digests: Vec<String>,
    /// Which entries it has that belong to a layout.
    layout: Option<Layout>,
    /// Whether it has no others.
    exact: bool,
    /// The SHA-256 of its public key.
    public_key: Option<[u8; 32]>,
    /// Whether nobody can change it into what this operator writes.
    pub(crate) fixed: bool,
    /// The public keys of its private keys, once the boxes were opened; of one
    /// that its password does not open there is none.
    pub(crate) opened: OnceCell<Vec<String>>,
}

impl Content {
    /// Reads a Secret's data.
    pub(crate) fn of(secret: &Wiped) -> Self {
        let other_type = secret.0.type_.as_deref().is_some_and(|type_| type_ != TYPE);
        let fixed = secret.0.immutable == Some(true) || other_type;
        let Some(data) = &secret.0.data else { return Self { fixed, ..Self::default() } };
        let digest = |layout: &Layout| {
            let [private, password, _] = entries(*layout);
            Some(digest_of(&data.get(private)?.0, &data.get(password)?.0))
        };
        let layout = Layout::ALL.iter().copied().find(|layout| digest(layout).is_some());
        let public_key = layout.and_then(|layout| {
            let [_, _, public] = entries(layout);
            str::from_utf8(&data.get(public)?.0).ok()
        });
        Self {
            digests: Layout::ALL.iter().filter_map(digest).collect(),
            layout,
            exact: layout.is_some_and(|layout| data.len() == entries(layout).len()),
            public_key: public_key.map(|text| Sha256::digest(text).into()),
            fixed,
            opened: OnceCell::new(),
        }
    }

    /// Whether a Secret of this layout for this version has these data and no
    /// others.
    pub(crate) fn is_exactly(&self, layout: Layout, version: &Version) -> bool {
        self.exact
            && self.layout == Some(layout)
            && self.public_key == Some(Sha256::digest(&*version.public_key.text()).into())
    }
}

/// The names of a layout's entries: private key, password, public key.
#[must_use]
pub(crate) fn entries(layout: Layout) -> [&'static str; 3] {
    match layout {
        Layout::Cosign => ["cosign.key", "cosign.password", "cosign.pub"],
        Layout::Environment => ["COSIGN_PRIVATE_KEY", "COSIGN_PASSWORD", "COSIGN_PUBLIC_KEY"],
    }
}

/// Creates a Secret.
pub(crate) async fn create(
    client: &Client,
    api: &Api<Secret>,
    secret: &Wiped,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let body = serde_json::to_vec(&secret.0).map_err(kube::Error::SerdeError)?;
    send(client, Request::new(api.resource_url()).create(&params(), body)).await
}

/// Replaces a Secret, if it still has the resourceVersion that this one says.
pub(crate) async fn replace(
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use signingkeyring_core::ledger::{Life, Past, Record};

    use super::*;

    fn secret(data: &[(&str, &str)]) -> Wiped {
        let data = data
            .iter()
            .map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        Wiped(Secret { data: Some(data.collect::<BTreeMap<_, _>>()), ..Secret::default() })
    }

    fn version() -> Version {
        let past = Past::Unsigned { acknowledged_at: None, spare: false };
        Version {
            number: 1,
            algorithm: "ECDSA-P256".into(),
            public_key: "public".into(),
            fingerprint: "SHA256:1".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            life: Life::Retired(past),
            record: Record::default(),
        }
    }

    const OURS: [(&str, &str); 3] =
        [("cosign.key", "sealed"), ("cosign.password", "word"), ("cosign.pub", "public")];

    #[test]
    fn what_a_secret_holds_is_told_by_its_data() {
        let content = Content::of(&secret(&OURS));
        assert_eq!(content.digests, [digest_of(b"sealed", b"word")]);
        assert!(content.is_exactly(Layout::Cosign, &version()));
        assert!(!content.is_exactly(Layout::Environment, &version()));

        let mut wrong = OURS;
        wrong[1].1 = "another";
        assert_ne!(Content::of(&secret(&wrong)).digests, content.digests);
        let mut public = OURS;
        public[2].1 = "another";
        assert!(!Content::of(&secret(&public)).is_exactly(Layout::Cosign, &version()));
        let more = [&OURS[..], &[("more", "x")]].concat();
        assert!(!Content::of(&secret(&more)).is_exactly(Layout::Cosign, &version()));
        assert_eq!(Content::of(&secret(&OURS[1..])).digests, [""; 0]);
        assert_eq!(Content::of(&Wiped(Secret::default())).digests, [""; 0]);
        // Who cannot be changed is not written.
        let mut fixed = secret(&OURS);
        assert!(!Content::of(&fixed).fixed);
        fixed.0.type_ = Some("Opaque".to_owned());
        assert!(!Content::of(&fixed).fixed);
        fixed.0.immutable = Some(true);
        assert!(Content::of(&fixed).fixed);
        let of_type = Secret { type_: Some("theirs".to_owned()), ..Secret::default() };
        assert!(Content::of(&Wiped(of_type)).fixed);
        // A key beside another one's entries is not overlooked.
        let beside = [("COSIGN_PRIVATE_KEY", "sealed"), ("COSIGN_PASSWORD", "word")];
        let both = Content::of(&secret(&[&wrong[..], &beside].concat()));
        assert!(both.digests.contains(&content.digests[0]));
    }
}
