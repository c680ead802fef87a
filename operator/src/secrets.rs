//! Secrets with private keys: written so that the API server answers with their
//! metadata alone, compared by digests, and wiped from our own memory afterwards.

use std::{collections::BTreeMap, fmt, sync::OnceLock};

use base16ct::lower::encode_string as hex;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::{PartialObjectMeta, Request},
};
use sha2::{Digest, Sha256};
use signingkeyring_core::{ledger::Version, names, snapshot::Layout};
use zeroize::{Zeroize, Zeroizing};

use crate::keys;

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
    /// [`digest_of`](keys::digest_of): one for each layout of which it
    /// has both. There are two of these for each ring, so they are kept as bytes.
    digests: Box<[[u8; 32]]>,
    /// Which entries it has that belong to a layout.
    pub(crate) layout: Option<Layout>,
    /// The names of those that it has besides.
    others: Box<[String]>,
    /// The SHA-256 of its public key.
    public_key: Option<[u8; 32]>,
    /// Whether nobody can change it into what this operator writes.
    pub(crate) fixed: bool,
    /// The public keys of its private keys, once the boxes were opened; of one
    /// that its password does not open there is none.
    pub(crate) opened: OnceLock<Box<[String]>>,
}

impl Content {
    /// Reads a Secret's data.
    pub(crate) fn of(secret: &Wiped) -> Self {
        let other_type = secret.0.type_.as_deref().is_some_and(|type_| type_ != TYPE);
        let fixed = secret.0.immutable == Some(true) || other_type;
        let Some(data) = &secret.0.data else { return Self { fixed, ..Self::default() } };
        let digest = |layout: &Layout| {
            let [private, password, _] = entries(*layout);
            Some(keys::digest(&data.get(private)?.0, &data.get(password)?.0))
        };
        let layout = Layout::ALL.iter().copied().find(|layout| digest(layout).is_some());
        let public_key = layout.and_then(|layout| {
            let [_, _, public] = entries(layout);
            str::from_utf8(&data.get(public)?.0).ok()
        });
        Self {
            digests: Layout::ALL.iter().filter_map(digest).collect(),
            layout,
            others: data.keys().filter(|name| !is_of(layout, name)).cloned().collect(),
            public_key: public_key.map(|text| Sha256::digest(text).into()),
            fixed,
            opened: OnceLock::new(),
        }
    }

    /// The digests of its private keys, as ledgers have them.
    pub(crate) fn digests(&self) -> impl Iterator<Item = String> {
        self.digests.iter().map(|digest| hex(digest))
    }

    /// The names of the entries that have to go where it is to have this layout.
    pub(crate) fn but_of(&self, layout: Layout) -> impl Iterator<Item = &str> {
        let own = self.layout.filter(|own| *own != layout);
        let own: Vec<&str> = own.into_iter().flat_map(entries).collect();
        let others = self.others.iter().map(String::as_str);
        others.filter(move |name| !is_of(Some(layout), name)).chain(own)
    }

    /// Whether a Secret of this layout for this version has these data and no
    /// others.
    pub(crate) fn is_exactly(&self, layout: Layout, version: &Version) -> bool {
        self.others.is_empty()
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

fn is_of(layout: Option<Layout>, entry: &str) -> bool {
    layout.is_some_and(|layout| entries(layout).contains(&entry))
}

/// Creates a Secret.
pub(crate) async fn create(
    client: &Client,
    api: &Api<Secret>,
    secret: &Wiped,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let body = serde_json::to_vec(&secret.0).map_err(kube::Error::SerdeError)?;
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER.to_owned()) };
    let request = Request::new(api.resource_url()).create(&params, body);
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    request.headers_mut().insert(http::header::ACCEPT, METADATA);
    client.request(request).await
}

/// Changes what of a Secret is a pipeline's, if it still has the resourceVersion that this
/// one says. What others have put on it (labels of their tools) stays; of its entries those
/// that are to go are named.
pub(crate) async fn change<'a>(
    api: &Api<Secret>,
    secret: &'a Wiped,
    dropped: impl Iterator<Item = &'a str>,
) -> kube::Result<PartialObjectMeta<Secret>> {
    let name = secret.0.metadata.name.as_deref().unwrap_or_default();
    let params =
        PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(MergePatch::of(secret, dropped));
    api.patch_metadata(name, &params, &patch).await
}

/// A Secret's metadata and entries, and nothing for those that are to go.
#[derive(serde::Serialize)]
struct MergePatch<'a> {
    metadata: &'a ObjectMeta,
    data: BTreeMap<&'a str, Option<&'a ByteString>>,
}

impl<'a> MergePatch<'a> {
    fn of(secret: &'a Wiped, dropped: impl Iterator<Item = &'a str>) -> Self {
        let entries = secret.0.data.iter().flatten();
        let entries = entries.map(|(name, value)| (name.as_str(), Some(value)));
        let data = dropped.map(|name| (name, None)).chain(entries).collect();
        Self { metadata: &secret.0.metadata, data }
    }
}

/// Without the keys: the client library may print what it sends.
impl fmt::Debug for MergePatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergePatch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use signingkeyring_core::ledger::{Life, Past, Record};

    use super::*;
    use crate::keys::digest_of;

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
        assert!(content.digests().eq([digest_of(b"sealed", b"word")]));
        assert!(content.is_exactly(Layout::Cosign, &version()));
        assert!(!content.is_exactly(Layout::Environment, &version()));

        let mut wrong = OURS;
        wrong[1].1 = "another";
        assert_ne!(Content::of(&secret(&wrong)).digests, content.digests);
        let mut public = OURS;
        public[2].1 = "another";
        assert!(!Content::of(&secret(&public)).is_exactly(Layout::Cosign, &version()));
        let more = Content::of(&secret(&[&OURS[..], &[("more", "x")]].concat()));
        assert!(!more.is_exactly(Layout::Cosign, &version()));
        assert_eq!(more.but_of(Layout::Cosign).collect::<Vec<_>>(), ["more"]);
        let but: Vec<_> = more.but_of(Layout::Environment).collect();
        assert_eq!(but, ["more", "cosign.key", "cosign.password", "cosign.pub"]);
        let less = Content::of(&secret(&OURS[..2]));
        assert!(!less.is_exactly(Layout::Cosign, &version()));
        assert!(Content::of(&secret(&OURS[1..])).digests.is_empty());
        assert!(Content::of(&Wiped(Secret::default())).digests.is_empty());
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
    #[test]
    fn a_change_names_what_goes_and_is_not_printed() {
        let mut given = secret(&OURS[..1]);
        given.0.metadata.resource_version = Some("7".to_owned());
        let patch = MergePatch::of(&given, ["COSIGN_PASSWORD", "more"].into_iter());
        assert_eq!(format!("{patch:?}"), "MergePatch { .. }");
        let patch = serde_json::to_value(patch).unwrap();
        let data =
            serde_json::json!({"cosign.key": "c2VhbGVk", "COSIGN_PASSWORD": null, "more": null});
        let wanted = serde_json::json!({"metadata": {"resourceVersion": "7"}, "data": data});
        assert_eq!(patch, wanted);
    }
}
