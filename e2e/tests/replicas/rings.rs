//! Rings that are rotated, revoked and born, and what has become of that, as the observer
//! sees them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use signingkeyring_e2e_observer::{
    checks::{self, Expected},
    history::{Event, Id, Kind},
    ledger::{ANNOTATION, Ledger},
    observer::Observer,
};
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};
use tokio::time::Instant;

use crate::NAMESPACE;

/// The soak of all rings here.
pub const SOAK: Duration = Duration::from_secs(2);

/// All is one view.
const VIEW: &str = "all";

/// What is there.
pub type Objects = BTreeMap<Id, Value>;

/// The rings, and who watches them.
pub struct Rings<'a> {
    world: &'a World,
    observer: Arc<Observer>,
    /// How many versions were asked for, and which are revoked, by ring.
    rings: BTreeMap<String, Asked>,
}

#[derive(Clone, Debug, Default)]
struct Asked {
    versions: usize,
    revoked: Vec<u32>,
    /// More lines of its spec.
    more: String,
}

/// Something that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new version, by this value of the annotation.
    Rotation(String, String),
    /// That a version is not accepted any more.
    Revocation(String, u32),
    /// A ring of that name.
    Birth(String),
}

impl<'a> Rings<'a> {
    /// None yet.
    ///
    /// # Errors
    /// If the cluster cannot be observed.
    pub async fn new(world: &'a World) -> Result<Self> {
        let client = world.client().await?;
        let observer = Observer::start(&client, |_, _| Some(VIEW.to_owned())).await?;
        Ok(Self { world, observer, rings: BTreeMap::new() })
    }

    /// These, each born within this time.
    ///
    /// # Errors
    /// If one is not.
    pub async fn born(world: &'a World, rings: &[&str], patience: Duration) -> Result<Self> {
        let mut born = Self::new(world).await?;
        for ring in rings {
            let birth = born.birth(ring);
            born.ask(&birth).await?;
            born.done(&birth, patience).await?;
        }
        Ok(born)
    }

    /// What is there now.
    pub fn now(&self) -> Objects {
        self.observer.now(VIEW)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// If the API server does not take it.
    pub async fn ask(&self, request: &Request) -> Result<()> {
        match request {
            Request::Rotation(ring, token) => self.world.ask_for_rotation(ring, token).await,
            Request::Revocation(ring, _) => self.world.apply(&self.manifest(ring)).await.map(drop),
            Request::Birth(ring) => {
                self.world.apply(&namespaces(ring)).await?;
                self.world.apply(&self.manifest(ring)).await.map(drop)
            }
        }
    }

    /// What its owner applies by now.
    pub fn manifest(&self, ring: &str) -> String {
        let asked = self.rings.get(ring).cloned().unwrap_or_default();
        let revoked = asked.revoked.iter();
        let revoked = revoked.map(|version| format!("{{version: {version}, reason: test}}"));
        let revoked: Vec<String> = revoked.collect();
        let more = format!("  revoked: [{}]\n{}", revoked.join(", "), asked.more);
        manifest(ring, &more).replace("soak: 1s", &format!("soak: {}s", SOAK.as_secs()))
    }

    /// A birth that will be asked for.
    pub fn birth(&mut self, ring: &str) -> Request {
        self.birth_with(ring, "")
    }

    /// The same of a ring with more lines in its spec.
    pub fn birth_with(&mut self, ring: &str, more: &str) -> Request {
        let asked = Asked { versions: 1, revoked: Vec::new(), more: more.to_owned() };
        self.rings.insert(ring.to_owned(), asked);
        Request::Birth(ring.to_owned())
    }

    /// Other lines that a ring's spec is to have.
    pub fn change(&mut self, ring: &str, more: &str) {
        self.rings.entry(ring.to_owned()).or_default().more = more.to_owned();
    }

    /// A rotation that will be asked for.
    pub fn rotation(&mut self, ring: &str, token: &str) -> Request {
        self.rings.entry(ring.to_owned()).or_default().versions += 1;
        Request::Rotation(ring.to_owned(), token.to_owned())
    }

    /// A revocation of the version that signs, which another one is to replace.
    pub fn revocation(&mut self, ring: &str) -> Option<Request> {
        let current = ledger(&self.now(), ring)?.current()?.number;
        let asked = self.rings.entry(ring.to_owned()).or_default();
        asked.versions += 1;
        asked.revoked.push(current);
        Some(Request::Revocation(ring.to_owned(), current))
    }

    /// Waits until what was asked for is done.
    ///
    /// # Errors
    /// If it is not in time: it was lost.
    pub async fn done(&self, request: &Request, patience: Duration) -> Result<()> {
        let what = format!("{request:?}");
        self.observer.until(VIEW, &what, patience, |now| is_done(now, request)).await
    }

    /// What was seen of the ledger of a ring, and when.
    ///
    /// # Errors
    /// If something was missed.
    pub fn ledgers(&self, ring: &str) -> Result<Vec<(Instant, Value)>> {
        let name = format!("ring-{ring}");
        let seen = self.observer.seen(VIEW)?;
        let is_its = |event: &&Event| {
            event.id.kind == Kind::Secret
                && event.id.namespace == NAMESPACE
                && event.id.name == name
        };
        let states = seen.history.iter().filter(is_its);
        Ok(states.filter_map(|event| Some((event.at, json(event.object.as_ref()?)?))).collect())
    }

    /// Waits until every ring has come to rest, and looks at every state that was seen of it.
    ///
    /// # Errors
    /// If a key was minted twice, a request lost, or another promise broken.
    pub async fn judge(&self) -> Result<()> {
        let mut violations = Vec::new();
        let rest = wait_until("all rings are as they should be", async || {
            violations = self.violations()?;
            Ok(violations.is_empty())
        });
        let rested = rest.await;
        rested.with_context(|| format!("{violations:#?}"))
    }

    fn violations(&self) -> Result<Vec<String>> {
        let seen = self.observer.seen(VIEW)?;
        let mut violations = Vec::new();
        for (ring, asked) in &self.rings {
            let expected = Expected { ring, minted: asked.versions, foreign: &[] };
            let found = checks::check(&seen.history, &expected);
            violations.extend(found.into_iter().map(|text| format!("{ring}: {text}")));
        }
        Ok(violations)
    }

    /// How many versions were minted in all.
    pub fn minted(&self) -> usize {
        self.rings.values().map(|ring| ring.versions).sum()
    }
}

/// A ring's ledger.
pub fn ledger(now: &Objects, ring: &str) -> Option<Ledger> {
    let (kind, namespace) = (Kind::Secret, NAMESPACE.to_owned());
    let id = Id { kind, namespace, name: format!("ring-{ring}") };
    Ledger::of_secret(now.get(&id)?).ok()
}

fn json(secret: &Value) -> Option<Value> {
    let text = secret["metadata"]["annotations"][ANNOTATION].as_str()?;
    let mut envelope: Value = serde_json::from_str(text).ok()?;
    Some(envelope["ledger"].take())
}

fn object<'a>(now: &'a Objects, ring: &str) -> Option<&'a Value> {
    now.get(&Id { kind: Kind::Ring, namespace: String::new(), name: ring.to_owned() })
}

fn is_true(ring: &Value, kind: &str) -> bool {
    let conditions = ring["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let is_current = ring["status"]["observedGeneration"] == ring["metadata"]["generation"];
    is_current && conditions.any(|c| c["type"] == kind && c["status"] == "True")
}

fn is_done(now: &Objects, request: &Request) -> bool {
    match request {
        Request::Rotation(ring, token) => {
            object(now, ring).is_some_and(|found| found["status"]["observedRotation"] == **token)
        }
        Request::Revocation(ring, version) => {
            let is_replaced = ledger(now, ring).is_some_and(|ledger| {
                let is_out = ledger.version(*version).is_none_or(|v| v.state == "Revoked");
                is_out && ledger.current().is_some_and(|current| current.number > *version)
            });
            let said = |found| is_true(found, "RevocationsApplied") && is_true(found, "Ready");
            is_replaced && object(now, ring).is_some_and(said)
        }
        Request::Birth(ring) => object(now, ring).is_some_and(|found| is_true(found, "Ready")),
    }
}

/// How far something has come, in a word.
pub fn stage(now: &Objects, request: &Request) -> &'static str {
    let newest = |ring: &str| {
        let ledger = ledger(now, ring)?;
        let newest = ledger.versions.into_iter().max_by_key(|version| version.number)?;
        Some((newest.number, newest.state))
    };
    match request {
        _ if is_done(now, request) => "done",
        Request::Rotation(ring, _) => match newest(ring) {
            Some((_, state)) if state == "Pending" => "minted",
            _ => "asked",
        },
        Request::Revocation(ring, version) => match newest(ring) {
            Some((number, state)) if number > *version && state == "Pending" => "minted",
            Some((number, _)) if number > *version => "signs",
            Some((_, state)) if state == "Revoked" => "revoked",
            _ => "asked",
        },
        Request::Birth(ring) => match newest(ring) {
            None if ledger(now, ring).is_none() => "asked",
            None => "unborn",
            Some((_, state)) if state == "Pending" => "minted",
            Some(_) => "signs",
        },
    }
}
