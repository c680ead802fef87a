//! What a policy is to hold, and the seam to the kind that renders it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    digest::{Digest, Part},
    snapshot::{KeySeen, PolicySeen, RuleSeen},
};
use crate::{ledger::Ledger, marks::Marks};

/// What a kind of policy makes of the rings in one of its objects.
pub trait Backend {
    /// The rule that a ring's ledger calls for.
    fn rule(&self, ring: &str, ledger: &Ledger) -> RuleSeen;

    /// The same with the mark and the keys of another rule.
    fn rule_with_keys_of(&self, ring: &str, ledger: &Ledger, kept: &RuleSeen) -> RuleSeen;

    /// The entry of the key that nobody has.
    fn nobody(&self) -> KeySeen;

    /// Names what a policy holds for a ring as the kind does.
    fn name(&self, ring: &str, rule: &mut RuleSeen);

    /// A rule that stays as it was found in an object, where what stands around it there
    /// is rendered anew: with the mark that tells both.
    fn stays(&self, rule: RuleSeen, found: &PolicySeen) -> RuleSeen;

    /// The object that holds these rules.
    fn whole(&self, rules: &BTreeMap<String, ContentRule>) -> Whole;

    /// How large a policy is beside the largest that can be written, in bytes: its
    /// `spec`, or more where something in it is nearer to what that may be.
    fn size(&self, content: &Content) -> usize;
}

/// A policy object, as much of it as decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its `spec`.
    pub spec: Part,
    /// Its labels and annotations.
    pub own_metadata: Digest,
}

/// What a policy is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The rules of its rings.
    pub rules: BTreeMap<String, ContentRule>,
    /// The object that they make up.
    pub whole: Whole,
}

/// A ring's rule in a policy that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRule {
    /// Where it comes from.
    pub source: Source,
    /// What it is.
    pub rule: RuleSeen,
}

/// Where a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Rendered from this ledger.
    Ledger(Arc<Ledger>),
    /// Rendered from this ledger but for its keys, which are those planned.
    AllButKeys(Arc<Ledger>),
    /// The rule that was found, with its keys or fewer.
    Found,
    /// The rule that this process wrote, with its keys or fewer.
    Written,
}

impl Content {
    /// These rules, as a kind renders them.
    pub(super) fn of(backend: &impl Backend, rules: BTreeMap<String, ContentRule>) -> Self {
        let whole = backend.whole(&rules);
        Self { rules, whole }
    }

    /// The rings whose rules are others than those that were found, or that have
    /// none any more.
    #[must_use]
    pub fn changed<'a>(&'a self, found: Option<&'a PolicySeen>) -> BTreeSet<&'a str> {
        let before = |ring: &str| found.and_then(|found| found.rules.get(ring));
        let is_changed = |(ring, new): &(&String, &ContentRule)| {
            before(ring).is_none_or(|old| {
                old.mark != new.rule.mark || old.whole().digest != new.rule.whole().digest
            })
        };
        let changed = self.rules.iter().filter(is_changed).map(|(ring, _)| ring.as_str());
        let gone = found.into_iter().flat_map(|found| found.rules.keys());
        let gone = gone.filter(|ring| !self.rules.contains_key(*ring)).map(String::as_str);
        changed.chain(gone).collect()
    }

    /// What it says of its rings.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks(self.rules.iter().map(|(ring, new)| (ring.clone(), new.rule.mark.clone())).collect())
    }
}
