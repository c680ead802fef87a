//! What was found of an image, reduced to what verdicts depend on.

use signingkeyring_core::images::Image;

use crate::unreadable::Unreadable;

/// What was found of an image.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The image as it was asked for.
    pub image: Image,
    /// Its digest: its own, or that behind its tag.
    pub digest: Result<String, Unreadable>,
    /// Whether it runs on the platform for which Kyverno looks at images, which is
    /// linux/amd64 whatever nodes there are: an index without it has nothing to be
    /// verified.
    pub has_platform: Result<bool, Unreadable>,
    /// The signatures in the `.sig` tag.
    pub signatures: Part<Signature>,
    /// The bundles that refer to the image.
    pub bundles: Part<Bundle>,
}

/// What is there of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// What was read.
    pub found: Vec<T>,
    /// Why there may be more: the first reason of several.
    pub unread: Option<Unreadable>,
}

/// A signature in a `.sig` tag (cosign 2; `--new-bundle-format=false`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whether what was signed names this image's digest.
    pub names_image: bool,
    /// SHA-256 of what was signed.
    pub(crate) payload: [u8; 32],
    pub(crate) signature: Vec<u8>,
}

/// A bundle that refers to an image (cosign 3's default).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What it says of its key, in base64 of SHA-256 over the SubjectPublicKeyInfo:
    /// its signer's own word. Nothing of a certificate.
    pub hint: Option<String>,
    /// What it holds.
    pub content: Content,
}

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A signed statement of a type, by a key.
    Statement {
        /// Its predicate type; cosign's signatures have one of their own.
        predicate: String,
        /// Whether its subjects name this image's digest.
        names_image: bool,
        /// SHA-256 of what was signed.
        signed: [u8; 32],
        /// The signature.
        signature: Vec<u8>,
    },
    /// What no key is compared with: a certificate, a message, or a statement that
    /// cannot be read.
    Other,
}

impl<T> Part<T> {
    pub(crate) fn unread(why: Unreadable) -> Self {
        Self { found: Vec::new(), unread: Some(why) }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { found: Vec::new(), unread: None }
    }
}

impl<T> FromIterator<Result<T, Unreadable>> for Part<T> {
    fn from_iter<I: IntoIterator<Item = Result<T, Unreadable>>>(items: I) -> Self {
        let mut part = Self::default();
        for item in items {
            match item {
                Ok(found) => part.found.push(found),
                Err(why) => part.unread = part.unread.or(Some(why)),
            }
        }
        part
    }
}

impl Inspection {
    /// Of an image of which nothing is known.
    pub(crate) fn unreadable(image: Image, why: &Unreadable) -> Self {
        Self {
            digest: image.digest().map(str::to_owned).ok_or_else(|| why.clone()),
            image,
            has_platform: Err(why.clone()),
            signatures: Part::unread(why.clone()),
            bundles: Part::unread(why.clone()),
        }
    }
}

impl Content {
    /// The type of the statements in which cosign puts signatures.
    pub(crate) const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

    pub(crate) fn is_signature(&self) -> bool {
        matches!(self, Self::Statement { predicate, .. } if predicate == Self::SIGNATURE)
    }
}
