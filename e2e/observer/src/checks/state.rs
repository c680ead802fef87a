//! What a history was so far, as the checks need it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    history::{Id, Kind},
    invariant::Invariant,
    parse,
};

/// What a run's history is held against.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The ring, one of those in the view.
    pub ring: &'a str,
    /// How many versions were asked for in all: version 1, and one a request.
    pub minted: usize,
    /// Objects that are not the operator's.
    pub foreign: &'a [Id],
}

/// What was seen of a ring so far.
pub(super) struct State<'a> {
    pub(super) expected: &'a Expected<'a>,
    pub(super) violations: Vec<String>,
    pub(super) now: BTreeMap<Id, Value>,
    /// Every version that a ledger ever named, and its key.
    pub(super) versions: BTreeMap<u32, String>,
    pub(super) numbers: BTreeMap<String, u32>,
    pub(super) signed: BTreeSet<u32>,
    pub(super) revoked: BTreeSet<String>,
    /// Revoked and since then absent from a policy.
    pub(super) dropped: BTreeSet<(String, String)>,
    pub(super) enforced: bool,
    /// It was deleted with the word that namespaces may stay enrolled.
    pub(super) released: bool,
    /// Its ledger said that it is removed.
    pub(super) removed: bool,
    /// The policies that its rule has left since then.
    pub(super) left: BTreeSet<String>,
}

impl<'a> State<'a> {
    pub(super) fn new(expected: &'a Expected<'a>) -> Self {
        Self {
            expected,
            violations: Vec::new(),
            now: BTreeMap::new(),
            versions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            signed: BTreeSet::new(),
            revoked: BTreeSet::new(),
            dropped: BTreeSet::new(),
            enforced: false,
            released: false,
            removed: false,
            left: BTreeSet::new(),
        }
    }

    pub(super) fn violated(&mut self, invariant: Invariant, version: u64, what: &str) {
        let text = format!("{invariant}: {what} (at resourceVersion {version})");
        if !self.violations.contains(&text) {
            self.violations.push(text);
        }
    }

    pub(super) fn is_its_ledger(&self, id: &Id) -> bool {
        id.kind == Kind::Secret && id.name.strip_prefix("ring-") == Some(self.expected.ring)
    }

    pub(super) fn ring(&self) -> Option<&Value> {
        let is_it = |id: &Id| id.kind == Kind::Ring && id.name == self.expected.ring;
        self.now.iter().find(|(id, _)| is_it(id)).map(|(_, ring)| ring)
    }

    /// The policies that hold the ring's rule.
    pub(super) fn rules(&self) -> Vec<(Id, parse::Rule)> {
        let policies = self.now.iter().filter(|(id, _)| !self.expected.foreign.contains(id));
        policies
            .filter_map(|(id, object)| {
                Some((id.clone(), parse::rule(id.kind, object, self.expected.ring)?))
            })
            .collect()
    }

    /// The pins that hold the ring, and what each leaves as it is.
    pub(super) fn pins(&self) -> BTreeMap<String, BTreeSet<String>> {
        let pins = self.now.iter().filter(|(id, _)| id.kind == Kind::MutatingPolicy);
        pins.filter(|(id, _)| !self.expected.foreign.contains(id))
            .filter_map(|(id, pin)| {
                Some((id.name.clone(), parse::pinned(pin, self.expected.ring)?))
            })
            .collect()
    }

    pub(super) fn held(&self, pipelines: &BTreeSet<parse::Pipeline>) -> Vec<(String, String)> {
        let secrets = self.now.iter().filter(|(id, _)| id.kind == Kind::Secret);
        secrets
            .filter(|(id, _)| pipelines.contains(&(id.namespace.clone(), id.name.clone())))
            .filter_map(|(id, secret)| {
                Some((parse::published(secret, self.expected.ring)?, id.namespace.clone()))
            })
            .collect()
    }

    pub(super) fn is_enrolled(&self) -> bool {
        self.now.iter().any(|(id, object)| {
            id.kind == Kind::Namespace
                && !parse::is_deleting(object)
                && object["metadata"]["labels"]["signing.odj.cloud/ring"] == self.expected.ring
        })
    }

    pub(super) fn is_revoked(&self, key: &str) -> bool {
        self.revoked.contains(key)
    }

    /// A key's version; 0 if no ledger ever named it.
    pub(super) fn number(&self, key: &str) -> u32 {
        self.numbers.get(key).copied().unwrap_or(0)
    }
}
