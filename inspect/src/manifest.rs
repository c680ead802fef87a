//! Manifests and indexes, read as leniently as Kyverno's library reads them: what is
//! missing is empty.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The media types of images.
pub(crate) const IMAGES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The media type of OCI's indexes, by which lists of referrers come, too.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media types of indexes.
pub(crate) const INDEXES: [&str; 2] =
    [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];

/// An image's manifest.
#[derive(Deserialize)]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// An index, or a list of referrers.
#[derive(Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a manifest or an index names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

impl Index {
    /// Whether it has an image for linux/amd64, which is what Kyverno takes whatever it
    /// runs on. What names no platform is for that one.
    pub(crate) fn has_platform(&self) -> bool {
        self.manifests.iter().any(|child| {
            let platform = child.platform.as_ref();
            platform.is_none_or(|p| p.os == "linux" && p.architecture == "amd64")
        })
    }
}
