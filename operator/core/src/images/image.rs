//! The images that Pods name, and whether a pattern excludes one.

use std::fmt;

use super::{HUB, Pattern, What, host_and_path, is_digest, is_name, is_path, is_tag, split};
use crate::policy_ref::PolicyKind;

/// An image as a Pod names it, in a normal form: two spellings of one image are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// The registry; Docker Hub is always `docker.io`.
    host: String,
    /// The repository; of Docker Hub's official images with `library/`.
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Whether an image needs no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Excluded {
    /// It needs one.
    No,
    /// It needs none while its tag points to its digest, which the registry knows.
    WhileTagStands,
    /// It needs none.
    Yes,
}

impl Image {
    /// Reads an image. Nothing if not everybody reads the same in it: a Pod with such
    /// an image is refused, whatever is excluded.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, tag, digest) = split(text)?;
        let (host, path) = host_and_path(name);
        let official = host == HUB && !path.contains('/');
        let path = format!("{}{path}", if official { "library/" } else { "" });
        let is_sound = is_host(host)
            && is_path(&path)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        let owned = |part: Option<&str>| part.map(str::to_owned);
        is_sound.then(|| Self {
            host: host.to_owned(),
            path,
            tag: owned(tag),
            digest: owned(digest),
        })
    }

    /// The registry's name, `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.host
    }

    /// The repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.path
    }

    /// The tag, if it names one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if it names one: `sha256:` and 64 digits.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The image by its tag alone.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The image of this repository that has a digest, and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: &str) -> Option<Self> {
        let image = Self { tag: None, digest: Some(digest.to_owned()), ..self.clone() };
        is_digest(digest).then_some(image)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Pattern {
    /// Whether a policy of a kind that holds this pattern excludes an image, as it does
    /// by what is rendered of the pattern: [`Self::spellings`] and
    /// [`Self::pinned_spellings`], or [`Self::resolved`].
    #[must_use]
    pub fn excludes(&self, kind: PolicyKind, image: &Image) -> Excluded {
        if self.host != image.host {
            return Excluded::No;
        }
        let is_repository = self.path == image.path;
        let is = |yes| if yes { Excluded::Yes } else { Excluded::No };
        match &self.what {
            What::Tree => {
                let below = image.path.strip_prefix(self.path.as_str());
                is(self.path.is_empty() || below.is_some_and(|rest| rest.starts_with('/')))
            }
            What::Repository => is(is_repository),
            What::Digest(digest) => is(is_repository && image.digest.as_ref() == Some(digest)),
            What::Tag(tag) => self.by_tag(kind, image, |of_image| of_image == tag),
            What::TagPrefix(tag) => self.by_tag(kind, image, |of_image| of_image.starts_with(tag)),
        }
    }

    /// Both kinds drop a tag beside a digest. A ClusterPolicy's rule for tags takes the
    /// digest off again while the tag points to it.
    fn by_tag(&self, kind: PolicyKind, image: &Image, fits: impl Fn(&str) -> bool) -> Excluded {
        let named = image.tag.as_deref();
        match image.digest {
            _ if self.path != image.path => Excluded::No,
            None if fits(named.unwrap_or("latest")) => Excluded::Yes,
            Some(_) if kind == PolicyKind::ClusterPolicy && named.is_some_and(fits) => {
                Excluded::WhileTagStands
            }
            None | Some(_) => Excluded::No,
        }
    }
}

/// What a Pod may name as a registry is more than what a pattern may.
fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    is_name(name) && (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
}
