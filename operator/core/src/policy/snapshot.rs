//! All that the planner may see of a policy and of the rings whose rules it
//! holds or should hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::digest::{Digest, Part};
use crate::{
    fingerprint::Fingerprint,
    high_water::HighWater,
    ledger::{Exclusion, Ledger},
    marks::Mark,
    policy_ref::PolicyRef,
    snapshot::Revoked,
};

/// What a pass over one policy has observed.
#[derive(Clone, Debug)]
pub struct PolicySnapshot {
    /// Which policy.
    pub policy: PolicyRef,
    /// Whether the cluster's API serves its kind.
    pub served: bool,
    /// Whether its Kyverno is not too old for it.
    pub executed: bool,
    /// Whether it serves the kind by which Kyverno is asked about a policy: one
    /// that Kyverno loads before that can never be asked.
    pub can_be_asked: bool,
    /// The object.
    pub found: ObjectSeen,
    /// What this process last wrote of it.
    pub written: Option<WrittenSeen>,
    /// The rings whose ledgers are placed here, and those whose rules were
    /// found here or written by this process.
    pub rings: BTreeMap<String, RingSeen>,
    /// The rules that Kyverno refused, by ring.
    pub refused: BTreeMap<String, Refused>,
    /// What the cluster's exclusion lists hold, with the list of each.
    pub listed: Vec<(String, Exclusion)>,
    /// The time of this pass.
    pub now: Timestamp,
}

/// A policy object as found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a pass has one, which is nearly always ours")]
pub enum ObjectSeen {
    /// It does not exist.
    Absent,
    /// Not ours; it is left alone.
    Foreign,
    /// Ours.
    Ours(PolicySeen),
}

/// What one of the operator's policies holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySeen {
    /// Its whole `spec`.
    pub spec: Digest,
    /// Those of its labels and annotations that this operator writes.
    pub own_metadata: Digest,
    /// All its labels and annotations.
    pub metadata: Digest,
    /// The rules of the rings that its marks name.
    pub rules: BTreeMap<String, RuleSeen>,
    /// What the names of rules begin with that no mark names, see
    /// [`RulePart::owner`].
    pub unmarked: BTreeSet<String>,
    /// The image globs that its rules skip.
    pub skipped: BTreeSet<String>,
    /// What stands around all rings' rules, where their marks tell that, too, and it is
    /// what this operator writes.
    pub frame: Option<Part>,
}

/// What this process wrote of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenSeen {
    /// The `spec` that was sent.
    pub sent: Digest,
    /// What the API server made of it.
    pub stored: PolicySeen,
    /// Whether the watch has yet to bring it.
    pub is_ahead: bool,
}

/// What a policy holds for a ring. Whether two are the same is told by
/// [`Self::whole`]: of a rendered one nobody computes the keys' fingerprints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSeen {
    /// What the policy says of it.
    pub mark: Mark,
    /// What the policy remembers of it.
    pub high_water: HighWater,
    /// The registry credentials that it asks for, where a policy has one set for all of
    /// its rings; of one that was found, those of that policy.
    pub credentials: BTreeSet<String>,
    /// The rules of the kind that it is made of, in order.
    pub parts: Vec<RulePart>,
}

/// One rule of those that a policy holds for a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePart {
    /// Its name, which says what it verifies with.
    pub name: String,
    /// The rule without its name and its key entries.
    pub body: Part,
    /// Its key entries, in order.
    pub keys: Vec<KeySeen>,
}

/// A key entry of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySeen {
    /// The public key as PEM, if the entry has one.
    pub public_key: Option<String>,
    /// Its fingerprint, if it is a key that can be read.
    pub fingerprint: Option<Fingerprint>,
    /// The entry as a whole.
    pub entry: Part,
}

/// A ring as the policies' planner sees it.
#[derive(Clone, Debug)]
pub struct RingSeen {
    /// What its ledger says, if that can be read.
    pub table: Option<Arc<Ledger>>,
    /// Whether its private keys can be relied on too.
    pub sound: bool,
    /// Whether its last ledger was seen to say that the ring was removed.
    pub was_removed: bool,
    /// Whether its object exists.
    pub exists: bool,
    /// What its object revokes.
    pub revoked: Vec<Revoked>,
    /// What its object remembers.
    pub remembered: HighWater,
    /// The public keys that its object's status calls accepted.
    pub reported: BTreeSet<String>,
    /// Whether ledger and object were read anew after the policy was seen, so
    /// that who wrote the policy knew nothing that they do not.
    pub read_anew: bool,
}

/// A rule that Kyverno refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub rule: Digest,
    /// How long ago.
    pub age: Duration,
}

/// Where an exclusion stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the exclusion list of this name.
    List(String),
    /// In the ring of this name.
    Ring(String),
}

impl PolicySnapshot {
    /// The object, if it is ours.
    #[must_use]
    pub fn ours(&self) -> Option<&PolicySeen> {
        match &self.found {
            ObjectSeen::Ours(found) => Some(found),
            ObjectSeen::Absent | ObjectSeen::Foreign => None,
        }
    }

    /// The rings whose ledgers are placed here.
    pub fn placed(&self) -> impl Iterator<Item = (&str, &RingSeen, &Arc<Ledger>)> {
        self.rings.iter().filter_map(|(name, ring)| {
            let table = ring.table.as_ref()?;
            let here = table.rule.settings.policies().any(|policy| policy == self.policy);
            here.then_some((name.as_str(), ring, table))
        })
    }
}

impl RuleSeen {
    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Part {
        Part::list(self.parts.iter().map(RulePart::whole).chain(self.shared()))
    }

    /// All of it but names and keys.
    #[must_use]
    pub fn body(&self) -> Part {
        Part::list(self.parts.iter().map(|part| part.body).chain(self.shared()))
    }

    /// What it asks for of what stands around all rings' rules, if it does.
    fn shared(&self) -> Option<Part> {
        let text = || Part::of(&json!(self.credentials));
        (!self.credentials.is_empty()).then(text)
    }

    /// The key entries of all its rules; most stand in several of them.
    pub fn keys(&self) -> impl Iterator<Item = &KeySeen> {
        self.parts.iter().flat_map(|part| &part.keys)
    }

    /// The public keys that it accepts, each once.
    pub fn public_keys(&self) -> impl Iterator<Item = &str> {
        let mut seen = BTreeSet::new();
        let keys = self.keys().filter_map(|key| key.public_key.as_deref());
        keys.filter(move |key| seen.insert(*key))
    }
}

impl RulePart {
    /// What names of rules begin with that belong to the same ring.
    #[must_use]
    pub fn owner(name: &str) -> &str {
        name.split_once('.').map_or(name, |(owner, _)| owner)
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Part {
        let name = Part::of(&Value::from(self.name.as_str()));
        Part::with(self.body, [name].into_iter().chain(self.keys.iter().map(|key| key.entry)))
    }
}

impl KeySeen {
    /// What names it: its fingerprint, or the text of what is no key.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.fingerprint.as_ref().map(Fingerprint::as_str).or(self.public_key.as_deref())
    }
}
