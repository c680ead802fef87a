//! The ledgers by ring, the rings by policy, and the Secrets of standby keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use signingkeyring_core::{
    fingerprint::Fingerprint,
    ledger::{Damage, Ledger},
    names::RingName,
    policy_ref::{Action, PolicyKind, PolicyRef},
};

use super::is_newer;
use crate::{lock::RwLock, packed::Packed};

mod kept;
mod places;

use kept::Kept;
pub use kept::Outline;
pub use places::Claim;
use places::Claimed;

/// A ledger as it was last seen, without its private keys.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// The Secret's resourceVersion.
    pub resource_version: String,
    /// What it says, if it can be relied on.
    pub ledger: Result<Arc<Ledger>, Damage>,
}

impl LedgerRow {
    /// A row from a ledger that can be relied on.
    #[must_use]
    pub fn sound(resource_version: String, ledger: Ledger) -> Self {
        Self { resource_version, ledger: Ok(Arc::new(ledger)) }
    }

    /// A row from one that cannot. Where only its private keys are in doubt,
    /// the rule that its table calls for stays in force all the same.
    #[must_use]
    pub const fn damaged(resource_version: String, damage: Damage) -> Self {
        Self { resource_version, ledger: Err(damage) }
    }

    /// Its table, shared, for who keeps it longer than the row.
    #[must_use]
    pub fn shared_table(&self) -> Option<Arc<Ledger>> {
        match &self.ledger {
            Ok(ledger) => Some(Arc::clone(ledger)),
            Err(damage) => damage.table().cloned(),
        }
    }

    /// What it says, whether or not its private keys can be relied on.
    #[must_use]
    pub fn table(&self) -> Option<&Ledger> {
        match &self.ledger {
            Ok(ledger) => Some(ledger),
            Err(damage) => damage.table().map(Arc::as_ref),
        }
    }

    /// Its table, if its private keys have to be looked at first.
    #[must_use]
    pub fn unchecked(&self) -> Option<&Arc<Ledger>> {
        match &self.ledger {
            Err(Damage::KeysUnchecked { table }) => Some(table),
            Ok(_) | Err(Damage::Unreadable { .. } | Damage::KeysUnfit { .. }) => None,
        }
    }
}

/// The ledgers by ring, and the rings by policy.
#[derive(Debug, Default)]
pub struct Ledgers(RwLock<LedgerIndex>);

#[derive(Debug, Default)]
struct LedgerIndex {
    rows: HashMap<RingName, Arc<Kept>>,
    by_policy: BTreeMap<PolicyRef, BTreeSet<RingName>>,
    /// The policies that rings are being put into right now.
    claims: HashMap<RingName, Claimed>,
    /// The rings whose last ledger said that they were removed. Nobody else
    /// remembers it once that ledger is deleted.
    removed: HashSet<RingName>,
    /// The Secrets of standby keys.
    key_secrets: HashMap<RingName, BTreeMap<String, KeySecretRow>>,
    /// Of each kind and action the number below which all policies are full, but for a
    /// ring that has claimed room there.
    full_below: HashMap<(PolicyKind, Action), u32>,
}

/// The Secret of a standby key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecretRow {
    /// The ledger's sequence when it was written.
    pub sequence: u64,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Whether it holds the key that the ledger means; nothing if that was not
    /// looked at in this resourceVersion.
    pub is_fit: Option<bool>,
}

impl LedgerIndex {
    fn outline(&self, ring: &str) -> Option<&Arc<Outline>> {
        self.rows.get(ring)?.outline()
    }

    /// Has a ring be in these policies, in place of those in which its ledger as it is known
    /// places it. Only those that it leaves have more room than before.
    fn place(&mut self, ring: &RingName, policies: &[PolicyRef]) {
        let outline = self.outline(ring.as_str()).cloned();
        let before = outline.iter().flat_map(|outline| outline.settings.policies());
        for policy in before.filter(|policy| !policies.contains(policy)) {
            if let Some(rings) = self.by_policy.get_mut(&policy) {
                rings.remove(ring);
                if rings.is_empty() {
                    self.by_policy.remove(&policy);
                }
            }
            self.has_room(policy);
        }
        for policy in policies {
            self.by_policy.entry(*policy).or_default().insert(ring.clone());
        }
    }

    fn put(&mut self, ring: &RingName, row: Arc<Kept>) {
        let outline = row.outline();
        let policies = outline.iter().flat_map(|outline| outline.settings.policies());
        let policies: Vec<PolicyRef> = policies.collect();
        self.place(ring, &policies);
        match outline.map(|outline| outline.removed) {
            Some(true) => drop(self.removed.insert(ring.clone())),
            Some(false) => drop(self.removed.remove(ring)),
            None => {}
        }
        self.end_unknown_claim(ring);
        self.rows.insert(ring.clone(), row);
    }
}

impl Ledgers {
    /// Takes in a ledger unless this or a newer state of it is known: this
    /// process puts in what it commits, and what it has checked, before the
    /// watch brings it.
    pub fn put(&self, ring: &RingName, row: LedgerRow) {
        let mut row = Kept::of(row);
        let known = self.0.read().rows.get(ring).cloned();
        known.iter().for_each(|known| row.share(known));
        let mut index = self.0.write();
        let stale = index.rows.get(ring).is_some_and(|known| {
            let same = known.resource_version == row.resource_version;
            (same && row.is_unchecked() && !known.is_unchecked())
                || is_newer(&known.resource_version, &row.resource_version)
        });
        if !stale {
            index.put(ring, Arc::new(row));
        }
    }

    /// Whether a ledger is known in this resourceVersion.
    #[must_use]
    pub fn is_known(&self, ring: &RingName, resource_version: &str) -> bool {
        let index = self.0.read();
        index.rows.get(ring).is_some_and(|known| *known.resource_version == *resource_version)
    }

    /// Forgets a ledger that was deleted.
    pub fn remove(&self, ring: &RingName) {
        let mut index = self.0.write();
        index.end_claim(ring);
        index.place(ring, &[]);
        index.rows.remove(ring);
    }

    /// Whether a ring's last ledger was seen to say that the ring was removed.
    #[must_use]
    pub fn was_removed(&self, ring: &str) -> bool {
        self.0.read().removed.contains(ring)
    }

    /// A ring's ledger; of a name that no ring may have there is none.
    #[must_use]
    pub fn get(&self, ring: &str) -> Option<LedgerRow> {
        let kept = self.0.read().rows.get(ring).cloned()?;
        Some(kept.row())
    }

    /// A ring's ledger as it is kept, for what repeats it.
    pub(super) fn packed(&self, ring: &str) -> Option<Packed> {
        self.0.read().rows.get(ring)?.packed().cloned()
    }

    /// Whether a ring has a ledger.
    #[must_use]
    pub fn exists(&self, ring: &str) -> bool {
        self.0.read().rows.contains_key(ring)
    }

    /// A ring's ledger is as it is known. So what a commit of unknown outcome had claimed is
    /// not the ring's.
    pub fn seen(&self, ring: &RingName) {
        self.0.write().end_unknown_claim(ring);
    }

    /// What is asked of a ring's ledger by others, if it can be read.
    #[must_use]
    pub fn outline(&self, ring: &str) -> Option<Arc<Outline>> {
        self.0.read().outline(ring).cloned()
    }

    /// Whether nobody has looked yet at the private keys of a ring's ledger.
    #[must_use]
    pub fn is_unchecked(&self, ring: &str) -> bool {
        self.0.read().rows.get(ring).is_some_and(|row| row.is_unchecked())
    }

    /// The rings whose ledgers may know a key, and mostly do.
    #[must_use]
    pub fn that_may_know(&self, fingerprint: &Fingerprint) -> Vec<RingName> {
        let index = self.0.read();
        let found = index.rows.iter().filter(|(_, row)| row.may_know(fingerprint));
        found.map(|(ring, _)| ring.clone()).collect()
    }

    /// The rings that have a ledger.
    #[must_use]
    pub fn rings(&self) -> Vec<RingName> {
        self.0.read().rows.keys().cloned().collect()
    }

    /// How many rings are placed in policies of a kind, and the first of these.
    #[must_use]
    pub fn placed_in_kind(&self, kind: PolicyKind) -> (usize, Option<PolicyRef>) {
        let index = self.0.read();
        let policies = index.by_policy.iter().filter(|(policy, _)| policy.kind() == kind);
        let rings = policies.clone().map(|(_, rings)| rings.len()).sum();
        (rings, policies.map(|(policy, _)| *policy).min())
    }

    /// The rings whose ledger lists a Secret in a namespace.
    #[must_use]
    pub fn publishing_in(&self, namespace: &str) -> Vec<RingName> {
        let rows = &self.0.read().rows;
        let found = rows.iter().filter(|(_, row)| row.publishes_in(namespace));
        found.map(|(ring, _)| ring.clone()).collect()
    }

    /// The policies that ledgers name.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyRef> {
        self.0.read().by_policy.keys().copied().collect()
    }

    /// The rings whose ledgers place them in a policy, in order.
    #[must_use]
    pub fn placed_in(&self, policy: PolicyRef) -> Vec<(RingName, Arc<Outline>)> {
        let index = self.0.read();
        let rings = index.by_policy.get(&policy).into_iter().flatten();
        rings.filter_map(|r| Some((r.clone(), Arc::clone(index.outline(r.as_str())?)))).collect()
    }

    /// Takes in the Secret of a standby key. What is known of its content stands
    /// for its resourceVersion.
    pub fn put_key_secret(&self, ring: &RingName, name: &str, mut row: KeySecretRow) {
        let mut index = self.0.write();
        let secrets = index.key_secrets.entry(ring.clone()).or_default();
        let known = secrets.get(name).filter(|k| k.resource_version == row.resource_version);
        row.is_fit = row.is_fit.or_else(|| known?.is_fit);
        secrets.insert(name.to_owned(), row);
    }

    /// Forgets the Secret of a standby key.
    pub fn remove_key_secret(&self, ring: &RingName, name: &str) {
        let mut index = self.0.write();
        if let Some(secrets) = index.key_secrets.get_mut(ring) {
            secrets.remove(name);
            if secrets.is_empty() {
                index.key_secrets.remove(ring);
            }
        }
    }

    /// The Secrets of a ring's standby keys.
    #[must_use]
    pub fn key_secrets(&self, ring: &RingName) -> BTreeMap<String, KeySecretRow> {
        self.0.read().key_secrets.get(ring).cloned().unwrap_or_default()
    }

    /// The rings that have Secrets of standby keys.
    #[must_use]
    pub fn rings_with_key_secrets(&self) -> Vec<RingName> {
        self.0.read().key_secrets.keys().cloned().collect()
    }
}
