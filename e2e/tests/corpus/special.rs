//! Images with which somebody did what cosign does not.

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use serde_json::json;
use signingkeyring_e2e_testbed::kind::Kind;

use crate::{
    attach::{Bed, How::*},
    cases::{Case, Making},
    keys::By::*,
    raw::{parts, tag},
};

/// How many signatures are many.
const MANY: usize = 60;

pub fn all<'a>(bed: &'a Bed<'_>) -> Vec<Making<'a>> {
    vec![
        many(bed).boxed_local(),
        many_bundles(bed).boxed_local(),
        changed(bed).boxed_local(),
        copied(bed).boxed_local(),
        deleted(bed).boxed_local(),
        indexes(bed).boxed_local(),
        tags(bed).boxed_local(),
        beside(bed).boxed_local(),
        registries(bed).boxed_local(),
        missing(bed).boxed_local(),
    ]
}

async fn many(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let image = bed.push("many").await?;
    for number in 1..MANY {
        // Otherwise cosign finds that it has signed already.
        let annotation = format!("--annotations=number={number}");
        bed.attach(Sig26, Unknown, &image, &[&annotation]).await?;
    }
    bed.attach(Sig, Current, &image, &[]).await?;
    let (repository, digest) = parts(&image)?;
    let manifest = bed.raw.read(repository, &tag(digest, ".sig")).await?;
    ensure!(manifest["layers"].as_array().is_some_and(|all| all.len() == MANY), "{manifest}");
    Ok(vec![Case::new("60 `.sig` signatures, the last of the current version", image)])
}

/// A tag of the image's repository.
fn at(image: &str, tag: &str) -> Result<String> {
    let (name, _) = image.split_once('@').context("no digest")?;
    Ok(format!("{name}:{tag}"))
}

async fn many_bundles(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let image = bed.push("many-bundles").await?;
    for number in 1..12 {
        let annotation = format!("--annotations=number={number}");
        bed.attach(Bundle, Unknown, &image, &[&annotation]).await?;
    }
    bed.attach(Bundle, Accepted, &image, &[]).await?;
    let (repository, digest) = parts(&image)?;
    let list = bed.raw.read(repository, &tag(digest, "")).await?;
    ensure!(list["manifests"].as_array().is_some_and(|all| all.len() == 12), "{list}");
    Ok(vec![Case::new("12 bundles, the last of an accepted version", image)])
}

/// What was signed, or the signature, is not what it was.
async fn changed(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let payload = bed.signed("changed-payload", &[(Sig, Current)]).await?;
    let (repository, digest) = parts(&payload)?;
    let sig = tag(digest, ".sig");
    let mut manifest = bed.raw.read(repository, &sig).await?;
    let text = json!({
        "critical": {
            "identity": {"docker-reference": "changed"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let blob = bed.raw.blob(repository, text.to_string().as_bytes()).await?;
    manifest["layers"][0]["digest"] = blob["digest"].clone();
    manifest["layers"][0]["size"] = blob["size"].clone();
    bed.raw.write(repository, &sig, &manifest).await?;

    let signature = bed.signed("changed-signature", &[(Sig, Current)]).await?;
    let (repository, digest) = parts(&signature)?;
    let sig = tag(digest, ".sig");
    let mut manifest = bed.raw.read(repository, &sig).await?;
    let annotation = "dev.cosignproject.cosign/signature";
    manifest["layers"][0]["annotations"][annotation] = json!("bm8gc2lnbmF0dXJl");
    bed.raw.write(repository, &sig, &manifest).await?;

    let none = bed.signed("no-annotation", &[(Sig, Current)]).await?;
    let (repository, digest) = parts(&none)?;
    let sig = tag(digest, ".sig");
    let mut manifest = bed.raw.read(repository, &sig).await?;
    manifest["layers"][0]["annotations"] = json!({});
    bed.raw.write(repository, &sig, &manifest).await?;
    Ok(vec![
        Case::new("`.sig` whose payload was replaced by one of the same image", payload),
        Case::new("`.sig` whose signature was replaced", signature),
        Case::new("`.sig` whose signature was taken off", none),
    ])
}

/// What belongs to another image.
async fn copied(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (what, name, how, end) in [
        ("`.sig` of another image of the same repository", "sig-of-other", Sig, ".sig"),
        ("bundle of another image of the same repository", "bundle-of-other", Bundle, ""),
    ] {
        let signed = bed.signed(name, &[(how, Current)]).await?;
        let repository = format!("corpus/{name}");
        let image = bed.world.push(&repository, "v2").await?;
        let (_, from) = parts(&signed)?;
        let (_, to) = parts(&image)?;
        let manifest = bed.raw.read(&repository, &tag(from, end)).await?;
        bed.raw.write(&repository, &tag(to, end), &manifest).await?;
        cases.push(Case::new(what, image));
    }
    Ok(cases)
}

async fn deleted(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let sig = bed.signed("deleted-sig", &[(Sig, Current)]).await?;
    let (repository, digest) = parts(&sig)?;
    bed.raw.delete(repository, &tag(digest, ".sig")).await?;

    let list = bed.signed("deleted-list", &[(Bundle, Current)]).await?;
    let (repository, digest) = parts(&list)?;
    bed.raw.delete(repository, &tag(digest, "")).await?;

    let bundle = bed.signed("deleted-bundle", &[(Sig, Current), (Bundle, Unknown)]).await?;
    let (repository, digest) = parts(&bundle)?;
    let index = bed.raw.read(repository, &tag(digest, "")).await?;
    let gone = index["manifests"][0]["digest"].as_str().context("no bundle")?.to_owned();
    bed.raw.delete(repository, &gone).await?;
    Ok(vec![
        Case::new("`.sig` that was deleted", sig),
        Case::new("bundle that is not in the list any more", list),
        Case::new(
            "`.sig`, and an unknown key's bundle that was deleted and is in the list",
            bundle,
        ),
    ])
}

/// Images for several platforms: the index, and its image for linux/amd64.
async fn index(bed: &Bed<'_>, name: &str, platforms: &[&str]) -> Result<(String, String)> {
    let repository = format!("{}/corpus/{name}", bed.world.info.registry);
    let mut children = Vec::new();
    for platform in platforms {
        let pushed = bed.world.push(&format!("corpus/{name}"), platform).await?;
        let target = format!("{repository}:{platform}");
        let set = format!("--set-platform=linux/{platform}");
        let mutate = ["mutate", &set, &pushed, "-t", &target];
        let child = bed.world.run("crane", &mutate, &[], "").await?;
        children.push(child.trim().to_owned());
    }
    let target = format!("{repository}:index");
    let mut append = vec!["index", "append", "-t", &target];
    append.extend(children.iter().flat_map(|child| ["-m", child.as_str()]));
    let index = bed.world.run("crane", &append, &[], "").await?.trim().to_owned();
    Ok((index, children.first().context("no platform")?.clone()))
}

async fn indexes(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let both = ["amd64", "arm64"];
    let (by_index, its_child) = index(bed, "index-signed", &both).await?;
    bed.attach(Sig, Current, &by_index, &[]).await?;
    let (its_index, by_child) = index(bed, "platform-signed", &both).await?;
    bed.attach(Sig26, Current, &by_child, &[]).await?;
    let (recursive, each) = index(bed, "all-signed", &both).await?;
    bed.attach(Sig, Current, &recursive, &["--recursive"]).await?;
    let (bundled, child_of_bundled) = index(bed, "index-bundled", &both).await?;
    bed.attach(Bundle, Current, &bundled, &[]).await?;
    let (elsewhere, on_arm) = index(bed, "arm64-only", &["arm64"]).await?;
    bed.attach(Sig, Current, &elsewhere, &[]).await?;
    bed.attach(Sig, Current, &on_arm, &[]).await?;
    Ok(vec![
        Case::new("an index that is signed alone, by its digest", by_index),
        Case::new("the same by its platform's digest", its_child),
        Case::new("an index whose platform is signed alone, by its digest", its_index),
        Case::new("the same by its platform's signed digest", by_child),
        Case::new("an index that is signed with its platforms, by its digest", recursive),
        Case::new("the same by its platform's digest, signed with it", each),
        Case::new("an index that is signed alone in a bundle, by its digest", bundled),
        Case::new("the same by its platform's digest, without a bundle", child_of_bundled),
        Case::new("a signed index without linux/amd64", elsewhere),
        Case::new("its image for linux/arm64, signed", on_arm),
    ])
}

async fn tags(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let sig = at(&bed.signed("tagged", &[(Sig, Current)]).await?, "v1")?;
    let bundle = at(&bed.signed("tagged-bundle", &[(Bundle, Current)]).await?, "v1")?;
    let moved = at(&bed.signed("moved", &[(Sig, Current)]).await?, "v1")?;
    let unsigned = bed.push("tagged-none").await?;
    bed.world.run("crane", &["copy", &unsigned, &moved], &[], "").await?;
    let signed = bed.signed("both", &[(Sig, Current)]).await?.replace('@', ":v1@");
    Ok(vec![
        Case::new("a tag of an image with `.sig`", sig),
        Case::new("a tag of an image with a bundle", bundle),
        Case::new("a tag that was moved to an image without a signature", moved),
        Case::new("a tag beside the digest of an image with `.sig`", signed),
    ])
}

/// What refers to an image and is no bundle, or one that no key fits.
async fn beside(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let certified = json!({
        "mediaType": bundle,
        "verificationMaterial": {"certificate": {"rawBytes": "AAAA"}},
        "dsseEnvelope": {
            "payload": "e30=", "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "AAAA"}],
        },
    });
    let message = json!({
        "mediaType": bundle,
        "verificationMaterial": {"publicKey": {"hint": "AAAA"}},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": "AAAA"}, "signature": "AAAA",
        },
    });
    let mut unknown_field = message.clone();
    unknown_field["more"] = json!(1);
    let mut older = message.clone();
    older["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
    let rows = [
        ("an SBOM that refers to it", "sbom", "application/spdx+json", json!({})),
        ("a bundle with a certificate that nobody can read", "certified", bundle, certified),
        ("a bundle with a signature of a message", "message", bundle, message),
        ("a bundle with a field that bundles do not have", "field", bundle, unknown_field),
        ("a bundle of version 0.2", "older", bundle, older),
        ("a bundle that is no JSON object", "list", bundle, json!([])),
    ];
    let mut cases = Vec::new();
    for (what, name, media_type, content) in rows {
        let image = bed.signed(&format!("beside-{name}"), &[(Sig, Current)]).await?;
        bed.raw.refer(&image, media_type, content.to_string().as_bytes()).await?;
        cases.push(Case::new(&format!("`.sig`, and {what}"), image));
    }
    Ok(cases)
}

/// The same in registries that do otherwise.
async fn registries(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let there = |image: &str| bed.listing.of(image);
    let none = there(&bed.push("listed-none").await?)?;
    let sig = there(&bed.signed("listed-sig", &[(Sig, Current)]).await?)?;
    let bundle = there(&bed.signed("listed-bundle", &[(Bundle, Current)]).await?)?;
    let foreign = there(&bed.signed("listed-beside", &[(Sig, Current), (Bundle, Unknown)]).await?)?;
    let image = bed.signed("failing", &[(Sig, Current)]).await?;
    let failing = bed.failing.of(&image)?;
    let private = image.replace(&bed.world.info.registry, &bed.private.name);
    let newer = [Kind::ImageValidatingPolicy];
    Ok(vec![
        Case::new("no signature, where the registry lists referrers", none),
        Case::new("`.sig`, where the registry lists referrers", sig),
        Case::new("bundle, where the registry lists referrers", bundle),
        Case::new("`.sig`, and an unknown key's bundle that the registry lists", foreign),
        Case::new("`.sig`, where the registry fails to list referrers", failing).unknown(&newer),
        Case::new("`.sig`, where the registry asks for a password", private).unknown(&Kind::ALL),
    ])
}

/// What is not there.
async fn missing(bed: &Bed<'_>) -> Result<Vec<Case>> {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let registry = &bed.world.info.registry;
    bed.push("there").await?;
    let gone = bed.signed("gone", &[(Sig, Current)]).await?;
    let (repository, its_digest) = parts(&gone)?;
    bed.raw.delete(repository, its_digest).await?;
    bed.raw.delete(repository, "v1").await?;
    let newer = [Kind::ImageValidatingPolicy];
    let case = |what: &str, image: String| Case::new(what, image).missing();
    Ok(vec![
        case(
            "a digest that the repository does not have",
            format!("{registry}/corpus/there@{digest}"),
        )
        .unknown(&newer),
        case("a tag that the repository does not have", format!("{registry}/corpus/there:none"))
            .unknown(&Kind::ALL),
        case(
            "a repository that the registry does not have",
            format!("{registry}/nowhere@{digest}"),
        )
        .unknown(&newer),
        case("a registry at whose port nobody listens", format!("localhost:9/a@{digest}"))
            .unknown(&Kind::ALL),
        case("`.sig` of an image that was deleted", gone).unknown(&newer),
    ])
}
