//! A ledger as it is kept: packed, and beside it what is asked of all that are in a policy.

use std::sync::Arc;

use signingkeyring_core::{
    fingerprint::Fingerprint,
    high_water::short,
    ledger::{Damage, Ledger, RuleSettings, Version},
    marks::RuleState,
};

use super::LedgerRow;
use crate::{hash::hash_of, packed::Packed};

/// A ledger as it is kept. There are thousands of them, each with a dozen keys, and a pass
/// looks into one.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) resource_version: Box<str>,
    trust: Trust,
    /// Nothing of one whose table cannot be read.
    table: Option<Table>,
}

/// Whether a ledger can be relied on.
#[derive(Debug)]
enum Trust {
    Sound,
    Unchecked,
    /// Why its private keys cannot be.
    Unfit(Box<str>),
    /// Why none of it can be.
    Unreadable(Box<str>),
}

#[derive(Debug)]
struct Table {
    outline: Arc<Outline>,
    /// Hashes of the keys that it knows and of the namespaces of its publications: who is
    /// not among them need not be looked for in what is packed.
    hints: Box<[u32]>,
    packed: Packed,
}

/// What is asked of a ledger in passes over others, and by the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Whether its private keys can be relied on.
    pub is_sound: bool,
    /// What the policies are to say of the ring.
    pub state: RuleState,
    /// Where its rule is. What it excludes is left out.
    pub settings: RuleSettings,
    /// The ring was deleted and its rule has to leave the policies.
    pub removed: bool,
    /// Whether a version signs.
    pub signs: bool,
    /// Whether a version is about to replace the one that signs.
    pub rotates: bool,
    /// Whether one is about to sign or to stand by.
    pub has_pending: bool,
    /// Whether Kyverno has not accepted that one yet.
    pub awaits_kyverno: bool,
}

impl Outline {
    fn of(ledger: &Ledger, is_sound: bool) -> Self {
        let pending = ledger.pending();
        let exclude = Vec::new();
        Self {
            is_sound,
            state: ledger.rule_state(),
            settings: RuleSettings { exclude, ..ledger.rule.settings.clone() },
            removed: ledger.removed,
            signs: ledger.current().is_some(),
            rotates: ledger.is_rotating(),
            has_pending: pending.is_some(),
            awaits_kyverno: pending.is_some_and(|version| version.acknowledged_at().is_none()),
        }
    }

    /// Whether something about the ring is on its way.
    #[must_use]
    pub const fn in_progress(&self) -> bool {
        self.has_pending || self.settings.leaving.is_some() || self.removed
    }
}

impl Kept {
    pub(super) fn of(row: LedgerRow) -> Self {
        let table = row.table().map(|ledger| Table {
            outline: Arc::new(Outline::of(ledger, row.ledger.is_ok())),
            hints: hints(ledger),
            packed: Packed::of(ledger),
        });
        let trust = match row.ledger {
            Ok(_) => Trust::Sound,
            Err(Damage::KeysUnchecked { .. }) => Trust::Unchecked,
            Err(Damage::KeysUnfit { why, .. }) => Trust::Unfit(why.into()),
            Err(Damage::Unreadable { why }) => Trust::Unreadable(why.into()),
        };
        Self { resource_version: row.resource_version.into(), trust, table }
    }

    pub(super) fn row(&self) -> LedgerRow {
        let damaged = |why: &str| Damage::Unreadable { why: why.to_owned() };
        // There is a table wherever it is said to be one.
        let table = self.table().map(Arc::new).ok_or_else(|| damaged("it cannot be unpacked"));
        let ledger = match (&self.trust, table) {
            (Trust::Unreadable(why), _) => Err(damaged(why)),
            (Trust::Sound, table) => table,
            (Trust::Unchecked, table) => {
                Err(table.map_or_else(|why| why, |table| Damage::KeysUnchecked { table }))
            }
            (Trust::Unfit(why), table) => {
                let why = why.to_string();
                Err(table.map_or_else(|why| why, |table| Damage::KeysUnfit { why, table }))
            }
        };
        LedgerRow { resource_version: self.resource_version.to_string(), ledger }
    }

    fn table(&self) -> Option<Ledger> {
        self.table.as_ref()?.packed.unpack()
    }

    pub(super) fn packed(&self) -> Option<&Packed> {
        self.table.as_ref().map(|table| &table.packed)
    }

    /// Takes up the same memory as another one that says the same.
    pub(super) fn share(&mut self, other: &Self) {
        if let (Some(table), Some(packed)) = (&mut self.table, other.packed()) {
            table.packed.share(packed);
        }
    }

    pub(super) fn outline(&self) -> Option<&Arc<Outline>> {
        self.table.as_ref().map(|table| &table.outline)
    }

    pub(super) const fn is_unchecked(&self) -> bool {
        matches!(self.trust, Trust::Unchecked)
    }

    /// Whether it may know a key; mostly it does.
    pub(super) fn may_know(&self, fingerprint: &Fingerprint) -> bool {
        self.hints().contains(&hash_of(&short(fingerprint.as_str())))
    }

    /// Whether it lists a Secret in a namespace.
    pub(super) fn publishes_in(&self, namespace: &str) -> bool {
        let lists =
            |ledger: Ledger| ledger.publications.iter().any(|secret| secret.namespace == namespace);
        self.hints().contains(&hash_of(namespace)) && self.table().is_some_and(lists)
    }

    fn hints(&self) -> &[u32] {
        self.table.as_ref().map_or(&[], |table| &table.hints)
    }
}

fn hints(ledger: &Ledger) -> Box<[u32]> {
    let of_version = |version: &Version| hash_of(&short(version.fingerprint.as_str()));
    let keys = ledger.versions.iter().map(of_version);
    let revoked = ledger.revoked.iter().map(|short| hash_of(short));
    let namespaces = ledger.publications.iter().map(|secret| hash_of(&secret.namespace));
    keys.chain(revoked).chain(namespaces).collect()
}

#[cfg(test)]
mod tests;
