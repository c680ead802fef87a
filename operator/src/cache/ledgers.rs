//! The ledgers by ring, the rings by policy, and the Secrets of standby keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use signingkeyring_core::{
    ledger::{Damage, Ledger},
    marks::RuleState,
    names::RingName,
    policy_ref::{Action, PolicyKind, PolicyRef},
};

use super::is_newer;

mod places;

pub use places::Claim;
use places::Claimed;

/// A ledger as it was last seen, without its private keys.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// The Secret's resourceVersion.
    pub resource_version: String,
    /// What it says, if it can be relied on.
    pub ledger: Result<Arc<Ledger>, Damage>,
    /// What the policies are to say of the ring, if the ledger can be read.
    pub state: Option<RuleState>,
}

impl LedgerRow {
    /// A row from a ledger that can be relied on.
    #[must_use]
    pub fn sound(resource_version: String, ledger: Ledger) -> Self {
        let state = Some(ledger.rule_state());
        Self { resource_version, ledger: Ok(Arc::new(ledger)), state }
    }

    /// A row from one that cannot. Where only its private keys are in doubt,
    /// the rule that its table calls for stays in force all the same.
    #[must_use]
    pub fn damaged(resource_version: String, damage: Damage) -> Self {
        let state = damage.table().map(|table| table.rule_state());
        Self { resource_version, ledger: Err(damage), state }
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
    rows: HashMap<RingName, LedgerRow>,
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
    /// Has a ring be in these policies, in place of those in which its ledger as it is known
    /// places it. Only those that it leaves have more room than before.
    fn place(&mut self, ring: &RingName, policies: &[PolicyRef]) {
        let table = self.rows.get(ring).and_then(LedgerRow::shared_table);
        let before = table.iter().flat_map(|table| table.rule.settings.policies());
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

    fn put(&mut self, ring: &RingName, row: LedgerRow) {
        let table = row.table();
        let policies = table.iter().flat_map(|table| table.rule.settings.policies());
        let policies: Vec<PolicyRef> = policies.collect();
        self.place(ring, &policies);
        match table.map(|table| table.removed) {
            Some(true) => drop(self.removed.insert(ring.clone())),
            Some(false) => drop(self.removed.remove(ring)),
            None => {}
        }
        // An event of the state before a commit is no word on a commit under way.
        if self.claims.get(ring).is_some_and(|claimed| !claimed.is_under_way) {
            self.end_claim(ring);
        }
        self.rows.insert(ring.clone(), row);
    }
}

impl Ledgers {
    /// Takes in a ledger unless this or a newer state of it is known: this
    /// process puts in what it commits, and what it has checked, before the
    /// watch brings it.
    pub fn put(&self, ring: &RingName, row: LedgerRow) {
        let mut index = self.write();
        let stale = index.rows.get(ring).is_some_and(|known| {
            let same = known.resource_version == row.resource_version;
            (same && row.unchecked().is_some() && known.unchecked().is_none())
                || is_newer(&known.resource_version, &row.resource_version)
        });
        if !stale {
            index.put(ring, row);
        }
    }

    /// Forgets a ledger that was deleted.
    pub fn remove(&self, ring: &RingName) {
        let mut index = self.write();
        index.end_claim(ring);
        index.place(ring, &[]);
        index.rows.remove(ring);
    }

    /// Whether a ring's last ledger was seen to say that the ring was removed.
    #[must_use]
    pub fn was_removed(&self, ring: &str) -> bool {
        self.read().removed.contains(ring)
    }

    /// A ring's ledger; of a name that no ring may have there is none.
    #[must_use]
    pub fn get(&self, ring: &str) -> Option<LedgerRow> {
        self.read().rows.get(ring).cloned()
    }

    /// The rings that have a ledger.
    #[must_use]
    pub fn rings(&self) -> Vec<RingName> {
        self.read().rows.keys().cloned().collect()
    }

    /// How many rings are placed in policies of a kind, and the first of these.
    #[must_use]
    pub fn placed_in_kind(&self, kind: PolicyKind) -> (usize, Option<PolicyRef>) {
        let index = self.read();
        let policies = index.by_policy.iter().filter(|(policy, _)| policy.kind() == kind);
        let rings = policies.clone().map(|(_, rings)| rings.len()).sum();
        (rings, policies.map(|(policy, _)| *policy).min())
    }

    /// The rings whose ledger lists a Secret in a namespace.
    #[must_use]
    pub fn publishing_in(&self, namespace: &str) -> Vec<RingName> {
        let lists = |row: &LedgerRow| {
            let listed = row.table().map(|table| table.publications.iter());
            listed.into_iter().flatten().any(|secret| secret.namespace == namespace)
        };
        let rows = &self.read().rows;
        rows.iter().filter(|(_, row)| lists(row)).map(|(ring, _)| ring.clone()).collect()
    }

    /// The policies that ledgers name.
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyRef> {
        self.read().by_policy.keys().copied().collect()
    }

    /// The ledgers placed in a policy, by ring.
    #[must_use]
    pub fn placed_in(&self, policy: PolicyRef) -> Vec<(RingName, LedgerRow)> {
        let index = self.read();
        let rings = index.by_policy.get(&policy).into_iter().flatten();
        rings.filter_map(|r| index.rows.get(r).map(|row| (r.clone(), row.clone()))).collect()
    }

    /// Takes in the Secret of a standby key. What is known of its content stands
    /// for its resourceVersion.
    pub fn put_key_secret(&self, ring: &RingName, name: &str, mut row: KeySecretRow) {
        let mut index = self.write();
        let secrets = index.key_secrets.entry(ring.clone()).or_default();
        let known = secrets.get(name).filter(|k| k.resource_version == row.resource_version);
        row.is_fit = row.is_fit.or_else(|| known?.is_fit);
        secrets.insert(name.to_owned(), row);
    }

    /// Forgets the Secret of a standby key.
    pub fn remove_key_secret(&self, ring: &RingName, name: &str) {
        let mut index = self.write();
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
        self.read().key_secrets.get(ring).cloned().unwrap_or_default()
    }

    /// The rings that have Secrets of standby keys.
    #[must_use]
    pub fn rings_with_key_secrets(&self) -> Vec<RingName> {
        self.read().key_secrets.keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, LedgerIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, LedgerIndex> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
