//! What differs from one ImageValidatingPolicy to the next, and where it stands in
//! the object: the rings, the keys of each, and what is excluded.
//!
//! The maps are JSON inside CEL, which is CEL too, so that what stands in an object
//! is read back by a JSON parser and never by taking CEL apart.

use std::collections::{BTreeMap, BTreeSet};

use base16ct::lower::encode_string as hex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::names::is_secret_name;

/// What comes before the exclusions in the expression that uses them.
const BIND: &str = "cel.bind(excluded, ";

/// What comes behind the keys of each ring.
const OF_RING: &str = "[?variables.ring].orValue([])";

/// The name of the exclusions that count for all rings.
const ALL_RINGS: &str = "";

/// What excludes all images.
pub(super) const ALL_IMAGES: &str = "*";

/// The data of a policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data {
    /// What the exclusion lists exclude.
    pub(super) lists: Vec<String>,
    /// The Secrets with which registries are asked, for all rings.
    pub(super) credentials: BTreeSet<String>,
    /// The rings.
    pub(super) rings: BTreeMap<String, RingData>,
}

/// What a policy holds for a ring.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RingData {
    /// Its own exclusions.
    pub(super) exclude: Vec<String>,
    /// Its keys, newest first.
    pub(super) keys: Vec<KeyData>,
}

/// A key that a ring accepts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyData {
    /// The name under which the ring accepts it.
    pub(super) name: String,
    /// The key, if there is one under that name.
    public_key: Option<String>,
}

impl KeyData {
    /// Of a public key. The name is a hash of it: two rings that accept one key share
    /// what stands under its name, and nobody else's key has that name.
    pub(super) fn new(public_key: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(public_key).into();
        let name: String = format!("k{}", hex(&hash)).chars().take(33).collect();
        Self { name, public_key: Some(public_key.to_owned()) }
    }

    /// What stands under a name is believed to be a key and no more: it is written
    /// back under that key's own name, with all that belongs to it.
    fn found(name: String, public_key: Option<&str>) -> Self {
        public_key.map_or(Self { name, public_key: None }, Self::new)
    }

    /// The public key.
    pub(super) fn public_key(&self) -> Option<&str> {
        self.public_key.as_deref()
    }

    /// What stands in the policy under its name, and that of its twin.
    pub(super) fn attestors(&self) -> Vec<Value> {
        let Self { name, public_key: Some(public_key) } = self else { return Vec::new() };
        let key = json!({"data": public_key});
        // Without both, Kyverno fetches Sigstore's public trust root.
        let ctlog = json!({"insecureIgnoreTlog": true, "insecureIgnoreSCT": true});
        vec![
            json!({"name": name, "cosign": {"key": key, "ctlog": ctlog}}),
            // Kyverno compares what cosign calls annotations of a signature, and of
            // one in a bundle there is none.
            json!({"name": format!("{name}b"), "cosign": {
                "key": key,
                "ctlog": ctlog,
                "annotations": {"dev.cosignproject.cosign/signature": ""},
            }}),
        ]
    }

    /// All that stands under its name.
    pub(super) fn entry(&self) -> Value {
        json!([self.name, self.attestors()])
    }
}

impl Data {
    /// An expression with the exclusions bound to a name.
    pub(super) fn bind_excluded(&self, expression: &str) -> String {
        self.bind_rest(&format!(", {expression})"))
    }

    /// The same, given what follows the exclusions.
    pub(super) fn bind_rest(&self, rest: &str) -> String {
        let lists = (ALL_RINGS, &self.lists);
        let rings = self.rings.iter().map(|(ring, data)| (ring.as_str(), &data.exclude));
        let rings = rings.filter(|(_, exclude)| !exclude.is_empty());
        let excluded: BTreeMap<_, _> = rings.chain([lists]).collect();
        format!("{BIND}{}{rest}", json!(excluded))
    }

    /// What follows the exclusions in an expression to which they are bound.
    pub(super) fn behind_excluded(expression: &str) -> Option<&str> {
        let text = expression.strip_prefix(BIND)?;
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        stream.next()?.ok()?;
        text.get(stream.byte_offset()..)
    }

    /// The names of the keys that the namespace's ring accepts.
    pub(super) fn accepted(&self) -> String {
        let names = |data: &RingData| -> Vec<String> {
            data.keys.iter().map(|key| key.name.clone()).collect()
        };
        let accepted: BTreeMap<_, _> =
            self.rings.iter().map(|(ring, data)| (ring.as_str(), names(data))).collect();
        format!("{}{OF_RING}", json!(accepted))
    }

    /// The attestors, each once.
    pub(super) fn attestors(&self) -> Vec<Value> {
        let keys = self.rings.values().flat_map(|data| &data.keys);
        let mut seen = BTreeSet::new();
        keys.filter(|key| seen.insert(&key.name)).flat_map(KeyData::attestors).collect()
    }

    /// Reads what stands in a policy, as far as it makes sense: it is foreign data.
    pub(super) fn read(spec: &Value) -> Self {
        let excluded = texts(spec, "/images", "containers");
        let excluded = excluded.and_then(|text| leading_json(text.strip_prefix(BIND)?));
        let excluded: BTreeMap<String, Vec<String>> = excluded.unwrap_or_default();
        let accepted = texts(spec, "/variables", "accepted").and_then(leading_json);
        let accepted: BTreeMap<String, Vec<String>> = accepted.unwrap_or_default();
        let public_keys = public_keys(spec);
        let ring = |(ring, names): (String, Vec<String>)| {
            let exclude = excluded.get(&ring).cloned().unwrap_or_default();
            let mut seen = BTreeSet::new();
            let keys = names.into_iter().map(|name| {
                let public_key = public_keys.get(name.as_str()).copied();
                KeyData::found(name, public_key)
            });
            let keys = keys.filter(|key| seen.insert(key.name.clone())).collect();
            (ring, RingData { exclude, keys })
        };
        Self {
            lists: excluded.get(ALL_RINGS).cloned().unwrap_or_default(),
            credentials: credentials_of(spec),
            rings: accepted.into_iter().map(ring).collect(),
        }
    }
}

/// Where the credentials stand.
const CREDENTIALS: &str = "credentials";

impl Data {
    /// Puts the credentials into a spec, in the place of what stands there.
    pub(super) fn put_credentials(&self, spec: &mut Value) {
        let Some(spec) = spec.as_object_mut() else { return };
        if self.credentials.is_empty() {
            spec.remove(CREDENTIALS);
        } else {
            spec.insert(CREDENTIALS.to_owned(), json!({"secrets": self.credentials}));
        }
    }
}

/// The registry credentials that a spec asks with.
#[must_use]
pub fn credentials_of(spec: &Value) -> BTreeSet<String> {
    let secrets = spec.get(CREDENTIALS).and_then(|credentials| credentials.get("secrets"));
    let secrets = secrets.and_then(Value::as_array).into_iter().flatten();
    // Of another namespace this operator names none.
    let names = secrets.filter_map(Value::as_str).filter(|secret| is_secret_name(secret));
    names.map(str::to_owned).collect()
}

/// The keys that attestors have, by the attestors' names.
fn public_keys(spec: &Value) -> BTreeMap<&str, &str> {
    let attestors = spec.get("attestors").and_then(Value::as_array).into_iter().flatten();
    let named = attestors.filter_map(|attestor| {
        let name = attestor.get("name")?.as_str()?;
        Some((name, attestor.pointer("/cosign/key/data")?.as_str()?))
    });
    named.collect()
}

/// The expression of this name in a list of them.
fn texts<'a>(spec: &'a Value, list: &str, name: &str) -> Option<&'a str> {
    let entries = spec.pointer(list)?.as_array()?;
    let is_named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some(name);
    entries.iter().find(is_named)?.get("expression")?.as_str()
}

/// The JSON that a text begins with.
fn leading_json<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::Deserializer::from_str(text).into_iter::<T>().next()?.ok()
}
