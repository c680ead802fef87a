//! Which keys of a rule somebody answers for: the ring's ledger, its status,
//! its revocations. What stands in a policy answers for nothing.

use std::{borrow::Cow, collections::BTreeSet};

use super::snapshot::{KeySeen, RingSeen, RuleSeen};
use crate::{
    high_water::short,
    ledger::{Ledger, Version},
    snapshot::Revoked,
};

/// Who answers for the keys of a ring's rule as it stands.
pub(super) struct Known<'a> {
    ring: &'a RingSeen,
    /// What the ring's ledger and status accept, if the rule is not what that
    /// ledger calls for and one of the two says anything.
    accepted: Option<BTreeSet<Cow<'a, str>>>,
    /// Whether the ring's ledger does not take in what its object revokes.
    stalled: bool,
}

impl<'a> Known<'a> {
    pub(super) fn of(ring: &'a RingSeen, rule: &RuleSeen) -> Self {
        let table = ring.table.as_deref();
        let ahead = table.is_none_or(|table| table.rule.sequence < rule.mark.state.sequence);
        let says = table.is_some() || !ring.reported.is_empty();
        let accepted = (ahead && says).then(|| {
            let by_ledger = table.into_iter().flat_map(Ledger::accepted);
            let by_ledger = by_ledger.map(|version| version.public_key.text());
            by_ledger.chain(ring.reported.iter().map(|key| Cow::Borrowed(key.as_str()))).collect()
        });
        Self { ring, accepted, stalled: ahead || !speaks(ring) }
    }

    /// Whether neither ledger nor status says which keys are the ring's, as
    /// after a restore that brought back neither.
    pub(super) fn is_nothing(&self) -> bool {
        self.accepted.is_none()
    }

    /// Whether a key may stay.
    pub(super) fn accepts(&self, key: &KeySeen) -> bool {
        let Some(public_key) = key.public_key.as_deref() else { return false };
        let vouched = self.accepted.as_ref().is_none_or(|accepted| accepted.contains(public_key));
        vouched && !self.revokes(key)
    }

    /// Whether a key is taken out for ever: the ring's ledger says so, or what
    /// its object remembers. What the object asks for counts where the ledger
    /// cannot take it in; elsewhere it is about to.
    pub(super) fn revokes(&self, key: &KeySeen) -> bool {
        let table = self.ring.table.as_deref();
        let remembered = || {
            let hash = short(key.fingerprint.as_ref()?.as_str());
            let by_ledger = table.is_some_and(|table| table.revoked.contains(&hash));
            Some(by_ledger || self.ring.remembered.revoked.contains(&hash))
        };
        let asked = || self.ring.revoked.iter().any(|revoked| names_key(revoked, key, table));
        remembered().unwrap_or(false) || (self.stalled && asked())
    }
}

/// Whether a ring's ledger can be relied on and knows all that its object
/// remembers, so that its next commit takes in what the object revokes.
pub(super) fn speaks(ring: &RingSeen) -> bool {
    ring.sound && ring.table.as_ref().is_some_and(|table| table.knows(&ring.remembered))
}

/// Whether a revocation names a public key. One by number does if the table says
/// which key that number has.
fn names_key(revoked: &Revoked, key: &KeySeen, table: Option<&Ledger>) -> bool {
    let mut rows = table.into_iter().flat_map(|table| &table.versions);
    match revoked {
        Revoked::Fingerprint(named) => key.fingerprint.as_ref() == Some(named),
        Revoked::Unreadable(_) => false,
        Revoked::Version(_) => {
            let is_key =
                |row: &Version| key.public_key.as_deref().is_some_and(|k| row.public_key == *k);
            rows.any(|row| is_key(row) && revoked.names(row))
        }
    }
}
