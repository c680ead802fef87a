//! What becomes of images in a ring's namespaces, by who signed them and what is excluded.

mod exclusions;
mod gather;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams, core::DeserializeGuard};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use signingkeyring_inspect::{
    Excluded, Image, Inspection, Inspector, Key, Limits, Outcome, PolicyKind, Refusal, Signer,
    State, Unreadable,
};

use crate::{
    cluster::{Cluster, list},
    error::Error,
    ring::policy_kind,
    screen::{Screen, is_dumb},
};

use gather::Lists;

pub use exclusions::Exclusions;
pub use said::{refusal, signed_by};

/// The tags that are looked up at once.
const TAGS_AT_ONCE: usize = 16;

/// What is known for judging the images of one ring.
pub struct Judge {
    /// The ring.
    pub ring: String,
    /// The kind of its policy.
    pub kind: PolicyKind,
    /// Every key of every ring that is known.
    pub keys: Vec<Key>,
    /// What is excluded.
    pub exclusions: Exclusions,
    /// What could not be read, of which more would be known with it.
    notes: Vec<String>,
    /// The lists that could not be read, and so may exclude anything.
    unread_lists: Vec<String>,
    inspector: Inspector,
}

/// What was found of an image, as a pod names it.
#[derive(Clone)]
pub enum Found {
    /// No reference that all who read it take for the same one.
    NoReference,
    /// It needs no signature, by this exclusion.
    Excluded(String),
    /// It is excluded as far as its tag goes, and that cannot be looked up.
    Unresolved(String),
    /// What the registry has of it.
    Inspected(Arc<Inspection>),
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It starts: it is excluded.
    Excluded(String),
    /// It starts: an accepted key signed it.
    Admitted(Vec<Signer>),
    /// It does not.
    Refused(Option<Refusal>, Vec<Signer>),
    /// That cannot be told from here.
    Unknown(String, Vec<Signer>),
}

impl Fate {
    /// Whether it would start.
    pub const fn starts(&self) -> bool {
        matches!(self, Self::Excluded(_) | Self::Admitted(_))
    }

    /// Whether it would surely not.
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(..))
    }

    /// Who signed it, of the keys that are known.
    pub fn signers(&self) -> &[Signer] {
        match self {
            Self::Excluded(_) => &[],
            Self::Admitted(signers) | Self::Refused(_, signers) | Self::Unknown(_, signers) => {
                signers
            }
        }
    }
}

impl Judge {
    /// Gathers it.
    ///
    /// # Errors
    /// If the rings or the lists cannot be read.
    pub async fn of(
        cluster: &Cluster,
        ring: &SigningKeyRing,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let rings = match cluster.rings().await {
            // Who may see one ring knows no keys of others.
            Err(error) if error.is_code(403) => vec![DeserializeGuard(Ok(ring.clone()))],
            found => found?,
        };
        let api: Api<DeserializeGuard<ImageExclusionList>> = Api::all(cluster.client.clone());
        let found = list(&api, ListParams::default(), "exclusion lists").await?;
        let mut notes = gather::unreadable_rings(&rings);
        let Lists { lists, unread, notes: of_lists } = Lists::read(&found);
        notes.extend(of_lists);
        let exclusions = match gather::in_force(cluster, ring).await {
            Ok(globs) => Exclusions::new(lists, ring, now, globs),
            Err(error) => {
                let exclusions = Exclusions::new(lists, ring, now, None);
                if let Some(doubt) = exclusions.doubt() {
                    notes.push(format!(
                        "{doubt}, and which of them are in force cannot be seen: {error}"
                    ));
                }
                exclusions
            }
        };
        let inspector = Inspector::new(Limits::default())
            .map_err(|error| Error::Failed(format!("no registry can be asked: {error}")))?;
        Ok(Self {
            ring: ring.name_any(),
            kind: policy_kind(ring),
            keys: gather::keys(&rings),
            exclusions,
            notes,
            unread_lists: unread,
            inspector,
        })
    }

    /// Says what could not be read, beside what is shown.
    pub fn complain(&self, screen: &mut Screen) {
        self.notes.iter().for_each(|note| screen.complain(note));
    }

    /// How many images were looked at in their registries.
    pub fn inspections(&self) -> usize {
        self.inspector.inspections()
    }

    /// Looks at images, each once and many at a time. On a terminal it says how far it is.
    pub async fn find(&self, images: &BTreeSet<String>) -> BTreeMap<String, Found> {
        let mut found = BTreeMap::new();
        let mut to_inspect: BTreeMap<Image, Vec<&String>> = BTreeMap::new();
        let mut to_resolve = Vec::new();
        for text in images {
            let Some(image) = Image::parse(text) else {
                found.insert(text.clone(), Found::NoReference);
                continue;
            };
            match self.exclusions.find(self.kind, &image) {
                Some((Excluded::Yes, by)) if !self.is_pinned(&image) => {
                    found.insert(text.clone(), Found::Excluded(by));
                }
                Some((Excluded::Yes | Excluded::WhileTagStands, by)) => {
                    to_resolve.push((text, image, by));
                }
                Some((Excluded::No, _)) | None => to_inspect.entry(image).or_default().push(text),
            }
        }
        let resolve = |(text, image, by)| async move {
            let digest = self.inspector.digest_behind_tag(&image).await;
            (text, by_tag(&image, digest, by), image)
        };
        let mut resolved = stream::iter(to_resolve).map(resolve).buffer_unordered(TAGS_AT_ONCE);
        while let Some((text, known, image)) = resolved.next().await {
            match known {
                Some(known) => {
                    found.insert(text.clone(), known);
                }
                None => to_inspect.entry(image).or_default().push(text),
            }
        }
        let all = to_inspect.len();
        let progress = Progress::of(all);
        let wanted: Vec<Image> = to_inspect.keys().cloned().collect();
        let mut stream = std::pin::pin!(self.inspector.inspect_all(wanted));
        let mut done = 0;
        while let Some(inspection) = stream.next().await {
            done += 1;
            progress.say(done, all);
            for text in to_inspect.get(&inspection.image).into_iter().flatten() {
                found.insert((*text).clone(), Found::Inspected(Arc::clone(&inspection)));
            }
        }
        progress.end();
        found
    }

    /// Whether the registry is asked for the digest behind an image's tag although it is
    /// excluded: a ClusterPolicy has all tags pinned, and refuses those that it cannot pin.
    fn is_pinned(&self, image: &Image) -> bool {
        self.kind == PolicyKind::ClusterPolicy && image.digest().is_none()
    }

    /// Why an exclusion that is about an image does not count, if there is one.
    pub fn void(&self, image: &str) -> Option<String> {
        self.exclusions.void(self.kind, &Image::parse(image)?)
    }

    /// What becomes of an image by these keys.
    pub fn fate(&self, found: Option<&Found>, keys: &[Key]) -> Fate {
        match found {
            None => Fate::Unknown("it was not looked at".to_owned(), Vec::new()),
            Some(Found::NoReference) => Fate::Refused(None, Vec::new()),
            Some(Found::Excluded(by)) => Fate::Excluded(by.clone()),
            Some(Found::Unresolved(why)) => Fate::Unknown(why.clone(), Vec::new()),
            Some(Found::Inspected(inspection)) => {
                let verdict = inspection.judge(self.kind, &self.ring, keys);
                match verdict.outcome {
                    Outcome::Admitted => Fate::Admitted(verdict.signers),
                    Outcome::Refused(why) => match self.unread_lists.first() {
                        None => Fate::Refused(Some(why), verdict.signers),
                        Some(list) => Fate::Unknown(
                            format!("list {list} cannot be read, and may exclude it"),
                            verdict.signers,
                        ),
                    },
                    Outcome::Unknown(why) => Fate::Unknown(why.to_string(), verdict.signers),
                }
            }
        }
    }

    /// The keys as they would be if these versions of the ring were not accepted, one of
    /// them because it is revoked.
    pub fn keys_without(&self, ended: &[u32], revoked: Option<u32>) -> Vec<Key> {
        let mut keys = self.keys.clone();
        for key in &mut keys {
            if key.ring == self.ring && ended.contains(&key.version) {
                let is_revoked = revoked == Some(key.version);
                key.state = if is_revoked { State::Revoked } else { State::Retired };
            }
        }
        keys
    }
}

/// What becomes of an excluded image by its tag; nothing if it is excluded only while that
/// points to its digest, and it does not.
fn by_tag(image: &Image, digest: Result<String, Unreadable>, by: String) -> Option<Found> {
    Some(match (image.digest(), digest) {
        (None, Ok(_)) => Found::Excluded(by),
        (Some(named), Ok(digest)) if named == digest => Found::Excluded(by),
        (Some(_), Ok(_)) => return None,
        (None, Err(why)) => Found::Unresolved(format!(
            "excluded by {by}, but a ClusterPolicy has its tag pinned to a digest: {why}"
        )),
        (Some(_), Err(why)) => {
            Found::Unresolved(format!("excluded by {by} while its tag points to its digest: {why}"))
        }
    })
}

/// How far it is, for who waits at a terminal.
struct Progress(bool);

impl Progress {
    /// Few are not worth a word.
    fn of(all: usize) -> Self {
        Self(all > 3 && std::io::stderr().is_terminal() && !is_dumb())
    }

    fn say(&self, done: usize, all: usize) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[Klooking at images: {done} of {all}");
        }
    }

    fn end(&self) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excluded_tag_counts_as_far_as_its_digest_is_known() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let by = || "redis:7 of list a".to_owned();
        let (tag, pinned) = ("redis:7".to_owned(), format!("redis:7@{}", digest("1")));
        let unread = || {
            Err(Unreadable::NotFound { registry: "docker.io".to_owned(), what: "redis".to_owned() })
        };
        let of = |image: &str, digest| by_tag(&Image::parse(image).unwrap(), digest, by());
        let excluded = |found| matches!(found, Some(Found::Excluded(_)));
        assert!(excluded(of(&tag, Ok(digest("1")))));
        assert!(excluded(of(&pinned, Ok(digest("1")))));
        assert!(of(&pinned, Ok(digest("2"))).is_none(), "the tag has moved");
        for image in [&tag, &pinned] {
            assert!(matches!(of(image, unread()), Some(Found::Unresolved(_))), "{image}");
        }
    }
}
