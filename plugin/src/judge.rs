//! What becomes of images in a ring's namespaces, by who signed them and what is excluded.

mod exclusions;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write},
    sync::Arc,
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams, core::DeserializeGuard};
use signingkeyring_convert::state;
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use signingkeyring_inspect::{
    Excluded, Image, Inspection, Inspector, Key, Limits, Outcome, PolicyKind, Refusal, Signer,
    State, Unreadable,
};

use crate::{
    cluster::{Cluster, FoundRing, list},
    error::Error,
    ring::{policy_kind, versions},
};

pub use exclusions::Exclusions;
pub use said::{refusal, signed_by};

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
    inspector: Inspector,
}

/// What was found of an image, as a pod names it.
#[derive(Clone)]
pub enum Found {
    /// No reference that all who read it take for the same one.
    NoReference,
    /// It needs no signature, by this exclusion.
    Excluded(String),
    /// Whether it is excluded, or who signed it, cannot be read.
    Unreadable(Unreadable),
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
        let lists: Api<DeserializeGuard<ImageExclusionList>> = Api::all(cluster.client.clone());
        let lists = list(&lists, ListParams::default(), "exclusion lists").await?;
        let lists = lists.into_iter().filter_map(|list| list.0.ok()).collect();
        let inspector = Inspector::new(Limits::default())
            .map_err(|error| Error::Failed(format!("no registry can be asked: {error}")))?;
        Ok(Self {
            ring: ring.name_any(),
            kind: policy_kind(ring),
            keys: keys(&rings),
            exclusions: Exclusions::new(lists, ring, now),
            inspector,
        })
    }

    /// Looks at images, each once and many at a time. On a terminal it says how far it is.
    pub async fn find(&self, images: &BTreeSet<String>) -> BTreeMap<String, Found> {
        let mut found = BTreeMap::new();
        let mut to_inspect: BTreeMap<Image, Vec<&String>> = BTreeMap::new();
        for text in images {
            let Some(image) = Image::parse(text) else {
                found.insert(text.clone(), Found::NoReference);
                continue;
            };
            match self.exclusions.find(self.kind, &image) {
                Some((Excluded::Yes, by)) => {
                    found.insert(text.clone(), Found::Excluded(by));
                    continue;
                }
                Some((Excluded::WhileTagStands, by)) => {
                    match self.inspector.tag_stands(&image).await {
                        Ok(true) => {
                            found.insert(text.clone(), Found::Excluded(by));
                            continue;
                        }
                        Ok(false) => {}
                        Err(why) => {
                            found.insert(text.clone(), Found::Unreadable(why));
                            continue;
                        }
                    }
                }
                Some((Excluded::No, _)) | None => {}
            }
            to_inspect.entry(image).or_default().push(text);
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

    /// What becomes of an image by these keys.
    pub fn fate(&self, found: Option<&Found>, keys: &[Key]) -> Fate {
        match found {
            None => Fate::Unknown("it was not looked at".to_owned(), Vec::new()),
            Some(Found::NoReference) => Fate::Refused(None, Vec::new()),
            Some(Found::Excluded(by)) => Fate::Excluded(by.clone()),
            Some(Found::Unreadable(why)) => Fate::Unknown(why.to_string(), Vec::new()),
            Some(Found::Inspected(inspection)) => {
                let verdict = inspection.judge(self.kind, &self.ring, keys);
                match verdict.outcome {
                    Outcome::Admitted => Fate::Admitted(verdict.signers),
                    Outcome::Refused(why) => Fate::Refused(Some(why), verdict.signers),
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

/// The keys of all rings. What is no key signs nothing.
fn keys(rings: &[FoundRing]) -> Vec<Key> {
    let readable = rings.iter().filter_map(|found| found.0.as_ref().ok());
    readable
        .flat_map(|ring| {
            let name = ring.name_any();
            versions(ring)
                .iter()
                .filter_map(|v| Key::new(&name, v.version, state(v.state), &v.public_key).ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// How far it is, for who waits at a terminal.
struct Progress(bool);

impl Progress {
    /// Few are not worth a word.
    fn of(all: usize) -> Self {
        Self(all > 3 && std::io::stderr().is_terminal())
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
