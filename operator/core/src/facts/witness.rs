//! Whether the ledger is what it was: what witnesses outside it remember.

use std::fmt;

use crate::{
    ledger::{Ledger, PipelineRef},
    policy_ref::PolicyRef,
    snapshot::{LedgerFound, PipelineFound, PolicyFound, Snapshot, Witness},
};

/// The witness who remembers more than a ledger knows, if there is one.
pub(super) fn witness_ahead<'a>(ledger: &Ledger, witnesses: &'a [Witness]) -> Option<&'a Witness> {
    witnesses.iter().find(|witness| {
        !ledger.knows(&witness.high_water)
            || witness.sequence.is_some_and(|sequence| sequence > ledger.rule.sequence)
    })
}

/// Whether what is to be said of a ledger is grave enough to look again.
#[must_use]
pub fn is_doubtful(ledger: &LedgerFound, witnesses: &[Witness]) -> bool {
    match ledger {
        LedgerFound::Present(ledger) => witness_ahead(ledger, witnesses).is_some(),
        LedgerFound::Absent | LedgerFound::Damaged(_) | LedgerFound::Foreign => true,
    }
}

/// What shows that versions existed of which there is no ledger; for a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence<'a> {
    /// Somebody remembers.
    Witness(&'a Witness),
    /// A pipeline's Secret holds a key.
    Secret(&'a PipelineRef),
}

impl fmt::Display for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Witness(Witness { who, high_water, .. }) if high_water.version == 0 => {
                write!(f, "{who} holds its rule")
            }
            Self::Witness(Witness { who, high_water, .. }) => {
                write!(f, "{who} names version {}", high_water.version)
            }
            Self::Secret(pipeline) => write!(f, "Secret {pipeline} holds a key of it"),
        }
    }
}

/// Why versions must have existed, if there is no ledger that would say so.
pub(super) fn evidence(snapshot: &Snapshot) -> Option<Evidence<'_>> {
    if !matches!(snapshot.ledger, LedgerFound::Absent) {
        return None;
    }
    let witnesses = &snapshot.witnesses;
    let witness = witnesses.iter().find(|w| w.high_water.version > 0).or_else(|| witnesses.first());
    let secret = || {
        let unknown = |found: &PipelineFound| matches!(found, PipelineFound::OursUnknownKey);
        snapshot.pipelines.iter().find(|(_, found)| unknown(found)).map(|(pipeline, _)| pipeline)
    };
    witness.map(Evidence::Witness).or_else(|| secret().map(Evidence::Secret))
}

/// The highest version that was given out, as far as anybody remembers.
pub(super) fn last_version(snapshot: &Snapshot, table: Option<&Ledger>) -> u32 {
    let known = table.and_then(Ledger::newest).map_or(0, |v| v.number);
    snapshot.witnesses.iter().map(|w| w.high_water.version).fold(known, u32::max)
}

/// The policies that hold a rule of the ring.
pub(crate) fn carrying(snapshot: &Snapshot) -> impl Iterator<Item = PolicyRef> {
    snapshot.policies.iter().filter_map(|(policy, seen)| {
        matches!(seen.found, PolicyFound::Ours { mark: Some(_), .. }).then_some(*policy)
    })
}
