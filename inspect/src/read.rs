//! What is read of one image.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding as _};
use futures::{StreamExt as _, stream};
use reqwest::StatusCode;

use crate::{
    bundle, digest,
    inspection::{Bundle, Part, Signature},
    manifest::{Descriptor, IMAGES, INDEX, INDEXES, Index, Manifest},
    payload,
    registry::{Answer, Repository},
    unreadable::Unreadable,
};

/// The annotation of a layer that has its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The annotation of one that has a certificate.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";

/// What is fetched at once of one image.
const AT_ONCE: usize = 8;

fn images_and_indexes() -> Vec<&'static str> {
    IMAGES.into_iter().chain(INDEXES).collect()
}

/// The digest behind a tag.
pub(crate) async fn tag(repository: &Repository<'_>, tag: &str) -> Result<String, Unreadable> {
    let found = repository.manifest(tag, &images_and_indexes()).await?;
    let found = found.ok_or_else(|| repository.not_found(&format!(":{tag}")))?;
    Ok(digest::text(&digest::of(&found.body)))
}

/// Whether an image runs where Kyverno looks.
pub(crate) async fn has_platform(
    repository: &Repository<'_>,
    image: &str,
) -> Result<bool, Unreadable> {
    let found = repository.manifest_of(image, &images_and_indexes()).await?;
    let found = found.ok_or_else(|| repository.not_found(&format!("@{image}")))?;
    if !INDEXES.contains(&found.media_type.as_str()) {
        return Ok(true);
    }
    let index: Index = parse(repository, &format!("{}@{image}", repository.name()), &found)?;
    Ok(index.has_platform())
}

/// The signatures in the `.sig` tag of an image.
pub(crate) async fn signatures(repository: &Repository<'_>, image: &str) -> Part<Signature> {
    match layers(repository, image).await {
        Ok(layers) => {
            let payloads = payloads(repository, &layers).await;
            let read = |layer| signature(repository, layer, image, &payloads);
            layers.iter().filter_map(read).collect()
        }
        Err(why) => Part::unread(why),
    }
}

async fn layers(repository: &Repository<'_>, image: &str) -> Result<Vec<Descriptor>, Unreadable> {
    let tag = format!("{}.sig", image.replace(':', "-"));
    let Some(found) = repository.manifest(&tag, &images_and_indexes()).await? else {
        return Ok(Vec::new());
    };
    let what = format!("{}:{tag}", repository.name());
    if INDEXES.contains(&found.media_type.as_str()) {
        return Err(repository.malformed(&what, "it is an index"));
    }
    let layers = parse::<Manifest>(repository, &what, &found)?.layers;
    let limit = repository.limits().signatures;
    if layers.len() > limit {
        return Err(repository.too_large(&what, &format!("{limit} signatures")));
    }
    Ok(layers)
}

/// What was signed, by its digest: many signatures are of one payload.
async fn payloads(
    repository: &Repository<'_>,
    layers: &[Descriptor],
) -> BTreeMap<String, Result<Option<Answer>, Unreadable>> {
    let is_sound = |digest: &&str| digest::parse(digest).is_some();
    let digests: BTreeSet<&str> = layers.iter().map(|l| &*l.digest).filter(is_sound).collect();
    let read = |digest: &str| {
        let digest = digest.to_owned();
        async move {
            let payload = repository.blob(&digest).await;
            (digest, payload)
        }
    };
    stream::iter(digests).map(read).buffer_unordered(AT_ONCE).collect().await
}

/// The signature of a layer. Nothing if it has none, or nothing that was signed.
fn signature(
    repository: &Repository<'_>,
    layer: &Descriptor,
    image: &str,
    payloads: &BTreeMap<String, Result<Option<Answer>, Unreadable>>,
) -> Option<Result<Signature, Unreadable>> {
    let annotations = layer.annotations.as_ref()?;
    let signature = annotations.get(SIGNATURE)?.replace(['\r', '\n'], "");
    let signature = Base64::decode_vec(&signature).ok()?;
    if annotations.get(CERTIFICATE).is_some_and(|certificate| !certificate.is_empty()) {
        // Kyverno goes by its dates, too.
        let what = format!("a signature of {}@{image}", repository.name());
        return Some(Err(repository.malformed(&what, "it comes with a certificate")));
    }
    let payload = match payloads.get(&layer.digest)? {
        Ok(payload) => payload.as_ref()?,
        Err(why) => return Some(Err(why.clone())),
    };
    Some(Ok(Signature {
        names_image: payload::names(&payload.body, image),
        payload: digest::parse(&layer.digest)?,
        signature,
    }))
}

/// The bundles that refer to an image.
pub(crate) async fn bundles(repository: &Repository<'_>, image: &str) -> Part<Bundle> {
    match referrers(repository, image).await {
        Ok(referrers) => {
            let read = |referrer| referred(repository, referrer, image);
            let read = stream::iter(referrers).map(read).buffered(AT_ONCE);
            read.filter_map(|bundle| async { bundle.transpose() })
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .collect()
        }
        Err(why) => Part::unread(why),
    }
}

/// What refers to an image: by the registry's list, or where it keeps none, by the tag in
/// which who pushes keeps it.
async fn referrers(
    repository: &Repository<'_>,
    image: &str,
) -> Result<Vec<Descriptor>, Unreadable> {
    let what = format!("the referrers of {}@{image}", repository.name());
    let limit = repository.limits().manifest_bytes;
    let answer = repository.get(&format!("referrers/{image}"), &[INDEX], limit, &what).await?;
    let has_none = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::NOT_ACCEPTABLE];
    let list = match answer.status {
        StatusCode::OK if answer.media_type == INDEX => Some(answer),
        status if status == StatusCode::OK || has_none.contains(&status) => {
            repository.manifest(&image.replace(':', "-"), &[INDEX]).await?
        }
        status => return Err(repository.failed(&what, status)),
    };
    let Some(list) = list else { return Ok(Vec::new()) };
    let referrers = parse::<Index>(repository, &what, &list)?.manifests;
    let limit = repository.limits().referrers;
    if referrers.len() > limit {
        return Err(repository.too_large(&what, &format!("{limit} of them")));
    }
    Ok(referrers)
}

/// The bundle in what refers to an image. Nothing if it is something else, or gone.
async fn referred(
    repository: &Repository<'_>,
    referrer: Descriptor,
    image: &str,
) -> Result<Option<Bundle>, Unreadable> {
    if digest::parse(&referrer.digest).is_none() {
        return Ok(None);
    }
    let found = repository.manifest_of(&referrer.digest, &images_and_indexes()).await?;
    let found = found.filter(|found| !INDEXES.contains(&found.media_type.as_str()));
    let manifest = found.and_then(|found| serde_json::from_slice::<Manifest>(&found.body).ok());
    let Some(Manifest { layers }) = manifest else { return Ok(None) };
    let [layer] = layers.as_slice() else { return Ok(None) };
    if !layer.media_type.starts_with(bundle::MEDIA_TYPE) || digest::parse(&layer.digest).is_none() {
        return Ok(None);
    }
    let text = repository.blob(&layer.digest).await?;
    Ok(text.and_then(|text| bundle::parse(&text.body, image)))
}

fn parse<T: for<'de> serde::Deserialize<'de>>(
    repository: &Repository<'_>,
    what: &str,
    found: &Answer,
) -> Result<T, Unreadable> {
    let parsed = serde_json::from_slice(&found.body);
    parsed.map_err(|error| repository.malformed(what, &error.to_string()))
}
