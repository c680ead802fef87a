//! Why a ledger cannot be relied on.

use std::sync::Arc;

use super::Ledger;

/// Why a ledger cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not say anything.
    Unreadable {
        /// Why, in a sentence.
        why: String,
    },
    /// Its table is sound. Nobody has looked yet whether its private keys are
    /// what the table says; somebody else than this operator wrote them.
    KeysUnchecked {
        /// Its table.
        table: Arc<Ledger>,
    },
    /// Its table is sound, its private keys are not what the table says.
    KeysUnfit {
        /// Why, in a sentence.
        why: String,
        /// Its table.
        table: Arc<Ledger>,
    },
}

impl Damage {
    /// In a sentence.
    #[must_use]
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Unreadable { why } | Self::KeysUnfit { why, .. } => why,
            Self::KeysUnchecked { .. } => {
                "somebody else wrote its private keys, which have to be checked"
            }
        }
    }

    /// Its table, if that is sound.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<Ledger>> {
        match self {
            Self::Unreadable { .. } => None,
            Self::KeysUnchecked { table } | Self::KeysUnfit { table, .. } => Some(table),
        }
    }
}
