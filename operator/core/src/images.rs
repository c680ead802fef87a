//! Image patterns: from what people write to a normal form, and from that to
//! the globs that Kyverno compares.
//!
//! Kyverno compares a pod's image as `registry/path:tag` or
//! `registry/path@digest`, with `docker.io` in front of short names and
//! `latest` behind those without a tag. It folds neither `index.docker.io`
//! into `docker.io` nor `library/x` into `x`, and its `*` crosses slashes. A
//! pattern rendered as it was written would therefore miss spellings of the
//! same image, or match images of somebody else.

use std::fmt;

mod cover;
mod image;

pub use cover::{Cover, minimal};
pub use image::{Excluded, Image};

/// The longest pattern, in bytes.
pub const MAX_LENGTH: usize = 255;

const HUB: &str = "docker.io";
const HUB_ALIAS: &str = "index.docker.io";

/// A pattern in its normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The registry; Docker Hub is always `docker.io`.
    host: String,
    /// The repository; of Docker Hub's official images with `library/`. For a
    /// tree, the path above it, which may be empty.
    path: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Every repository below the path.
    Tree,
    /// Every tag and digest of the repository.
    Repository,
    /// One tag.
    Tag(String),
    /// Every tag that begins so.
    TagPrefix(String),
    /// One digest.
    Digest(String),
}

/// A pattern that cannot be used; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty or over [`MAX_LENGTH`].
    #[error("image pattern is empty or longer than {MAX_LENGTH} characters")]
    Length,
    /// A `*` or `?` where it would match images of somebody else.
    #[error(
        "image {0:?}: a wildcard stands only at the end, after a slash (quay.io/org/*) or in the \
         tag (quay.io/org/app:*), never in the host"
    )]
    Wildcard(String),
    /// Not an image reference.
    #[error(
        "image {0:?} is no image reference: write HOST/PATH:TAG in lower case, for example \
         quay.io/org/app:*"
    )]
    Reference(String),
    /// Names of official images are short: no prefix covers them.
    #[error(
        "image {0:?}: pods name official images without library/, so name each of them, for \
         example docker.io/library/redis:*"
    )]
    OfficialTree(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it is not an image reference with at most one `*`, at its end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(PatternError::Length);
        }
        Self::of_any_length(text)
    }

    fn of_any_length(text: &str) -> Result<Self, PatternError> {
        let wildcard = || PatternError::Wildcard(text.to_owned());
        let reference = || PatternError::Reference(text.to_owned());
        let body = text.strip_suffix('*').unwrap_or(text);
        if body.contains(['*', '?']) {
            return Err(wildcard());
        }
        if body.len() != text.len()
            && !body.ends_with('/')
            && tag_of(body).is_none_or(|t| t.1.is_none())
        {
            return Err(wildcard());
        }
        let starred = body.len() != text.len();
        if starred && let Some(tree) = body.strip_suffix('/') {
            return Self::tree(text, tree);
        }
        let (name, tag, digest) = split(body).ok_or_else(reference)?;
        let what = match (tag, digest) {
            (None | Some(_), Some(_)) if starred => return Err(wildcard()),
            (None, Some(digest)) => What::Digest(digest.to_owned()),
            // Kyverno drops a tag where there is a digest: so does this.
            (Some(tag), Some(digest)) if is_tag(tag) => What::Digest(digest.to_owned()),
            (Some(""), None) if starred => What::Repository,
            (Some(tag), None) if starred && is_tag(tag) => What::TagPrefix(tag.to_owned()),
            (Some(tag), None) if is_tag(tag) => What::Tag(tag.to_owned()),
            (None, None) => What::Repository,
            _ => return Err(reference()),
        };
        let (host, path) = host_and_path(name);
        let mut path = path.to_owned();
        if host == HUB && !path.contains('/') {
            path = format!("library/{path}");
        }
        if !is_host(host) || !is_path(&path) {
            return Err(reference());
        }
        Ok(Self { host: host.to_owned(), path, what })
    }

    fn tree(text: &str, tree: &str) -> Result<Self, PatternError> {
        let reference = || PatternError::Reference(text.to_owned());
        let whole_registry = !tree.contains('/') && looks_like_host(tree);
        let (host, path) = if whole_registry { (fold(tree), "") } else { host_and_path(tree) };
        if !is_host(host) || !(whole_registry || is_path(path)) {
            return Err(reference());
        }
        if host == HUB && path == "library" {
            return Err(PatternError::OfficialTree(text.to_owned()));
        }
        Ok(Self { host: host.to_owned(), path: path.to_owned(), what: What::Tree })
    }

    /// The globs that match every spelling of the images in a ClusterPolicy's
    /// `skipImageReferences`, and nothing else. A Kyverno configured with
    /// `enableDefaultRegistryMutation: false` compares short names as they are
    /// written, so it does not exclude those and they need a signature.
    #[must_use]
    pub fn spellings(&self) -> Vec<String> {
        let suffixes: Vec<String> = match &self.what {
            What::Tree => vec![if self.path.is_empty() { "*" } else { "/*" }.to_owned()],
            What::Repository => vec![":*".to_owned(), "@*".to_owned()],
            What::Tag(tag) => vec![format!(":{tag}")],
            What::TagPrefix(tag) => vec![format!(":{tag}*")],
            What::Digest(digest) => vec![format!("@{digest}")],
        };
        let bases = self.bases();
        bases
            .iter()
            .flat_map(|base| suffixes.iter().map(move |suffix| format!("{base}{suffix}")))
            .collect()
    }

    /// The pattern as an ImageValidatingPolicy compares it with a reference that Kyverno
    /// has resolved: with the name of Docker Hub's registry and `library/`. A tree ends
    /// in a slash, the beginning of a tag in an asterisk.
    #[must_use]
    pub fn resolved(&self) -> String {
        let host = if self.host == HUB { HUB_ALIAS } else { &self.host };
        let name = format!("{host}/{}", self.path);
        match &self.what {
            What::Tree if self.path.is_empty() => name,
            What::Tree => format!("{name}/"),
            What::Repository => name,
            What::Tag(tag) => format!("{name}:{tag}"),
            What::TagPrefix(tag) => format!("{name}:{tag}*"),
            What::Digest(digest) => format!("{name}@{digest}"),
        }
    }

    /// Reads what [`Self::resolved`] has written: what that adds may make it longer than
    /// a pattern that people write.
    #[must_use]
    pub fn of_resolved(text: &str) -> Option<Self> {
        let tree = text.ends_with('/').then(|| format!("{text}*"));
        let pattern = Self::of_any_length(tree.as_deref().unwrap_or(text)).ok()?;
        (pattern.resolved() == text).then_some(pattern)
    }

    /// If the pattern excludes by tag: the globs that match every spelling of
    /// such an image with a digest behind its tag, as a Pod has it whose images
    /// were pinned. Kyverno drops a tag beside a digest, so [`Self::spellings`]
    /// do not match it. Unlike there, what is compared is the image as the Pod
    /// has it, with no registry put in front.
    #[must_use]
    pub fn pinned_spellings(&self) -> Vec<String> {
        let tag = match &self.what {
            What::Tag(tag) => tag.clone(),
            What::TagPrefix(tag) => format!("{tag}*"),
            What::Tree | What::Repository | What::Digest(_) => return Vec::new(),
        };
        let mut bases = self.bases();
        if self.host == HUB {
            let without = |base: &String| base.strip_prefix("docker.io/").map(str::to_owned);
            let short: Vec<String> = bases.iter().filter_map(without).collect();
            bases.extend(short);
        }
        bases.into_iter().map(|base| format!("{base}:{tag}@sha256:*")).collect()
    }

    /// Every spelling of the host and the path.
    fn bases(&self) -> Vec<String> {
        let mut bases = vec![format!("{}/{}", self.host, self.path)];
        if self.host == HUB {
            bases.push(format!("{HUB_ALIAS}/{}", self.path));
            // Only official images have a short name: library/x is x, but
            // library/x/y is not x/y.
            let short = self.path.strip_prefix("library/").filter(|short| !short.contains('/'));
            if let Some(short) = short.filter(|_| self.what != What::Tree) {
                bases.push(format!("{HUB}/{short}"));
                bases.push(format!("{HUB_ALIAS}/{short}"));
            }
        }
        bases
    }

    /// Whether every image of `other` is one of this pattern's too.
    fn covers(&self, other: &Self) -> bool {
        if self.host != other.host {
            return false;
        }
        match &self.what {
            What::Tree => {
                let below = other.path.strip_prefix(self.path.as_str());
                self.path.is_empty()
                    || below.is_some_and(|rest| {
                        rest.starts_with('/') || (rest.is_empty() && other.what == What::Tree)
                    })
            }
            What::Repository => self.path == other.path && other.what != What::Tree,
            What::TagPrefix(prefix) => {
                self.path == other.path
                    && matches!(&other.what, What::Tag(tag) | What::TagPrefix(tag) if tag.starts_with(prefix.as_str()))
            }
            What::Tag(_) | What::Digest(_) => self == other,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, path, what } = self;
        match what {
            What::Tree if path.is_empty() => write!(f, "{host}/*"),
            What::Tree => write!(f, "{host}/{path}/*"),
            What::Repository => write!(f, "{host}/{path}:*"),
            What::Tag(tag) => write!(f, "{host}/{path}:{tag}"),
            What::TagPrefix(tag) => write!(f, "{host}/{path}:{tag}*"),
            What::Digest(digest) => write!(f, "{host}/{path}@{digest}"),
        }
    }
}

/// Splits `name:tag@digest`.
fn split(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return None;
    }
    let (name, tag) = tag_of(rest)?;
    Some((name, tag, digest))
}

/// Splits `name:tag`; a colon before the last slash belongs to a port.
fn tag_of(text: &str) -> Option<(&str, Option<&str>)> {
    let last = text.rsplit_once('/').map_or(text, |(_, last)| last);
    match last.split_once(':') {
        Some((_, tag)) => Some((text.strip_suffix(tag)?.strip_suffix(':')?, Some(tag))),
        None => Some((text, None)),
    }
}

/// Splits registry and repository as Docker does: the first part is a
/// registry only if it looks like one.
fn host_and_path(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, path)) if looks_like_host(host) => (fold(host), path),
        _ => (HUB, name),
    }
}

fn looks_like_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

fn fold(host: &str) -> &str {
    if host == HUB_ALIAS { HUB } else { host }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    is_name(name)
        && port.is_none_or(|port| {
            // Without a sign or leading zeros: those would be another spelling.
            port.starts_with(|c: char| matches!(c, '1'..='9')) && port.parse::<u16>().is_ok()
        })
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.split('.').all(label)
}

/// The grammar of github.com/distribution/reference: lower-case words joined
/// by `.`, `_`, `__` or dashes.
fn is_path(path: &str) -> bool {
    path.split('/').all(is_segment)
}

fn is_segment(segment: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joins = segment.split(word).filter(|join| !join.is_empty());
    segment.starts_with(word)
        && segment.ends_with(word)
        && joins
            .into_iter()
            .all(|join| matches!(join, "." | "_" | "__") || join.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(first)
        && tag.chars().all(|c| first(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests;
