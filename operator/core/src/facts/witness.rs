//! Whether the ledger is what it was: what witnesses outside it remember.

use std::fmt;

use crate::{
    high_water::HighWater,
    ledger::{Ledger, PipelineRef},
    policy::NOBODYS_KEY,
    policy_ref::PolicyRef,
    snapshot::{LedgerFound, PipelineFound, PolicyFound, Snapshot, Witness},
};

/// The witness who remembers more than a ledger knows, if there is one.
pub(super) fn witness_ahead<'a>(ledger: &Ledger, witnesses: &'a [Witness]) -> Option<&'a Witness> {
    witnesses.iter().find(|witness| is_ahead(ledger, witness))
}

fn is_ahead(ledger: &Ledger, witness: &Witness) -> bool {
    !ledger.knows(&witness.high_water)
        || witness.sequence.is_some_and(|sequence| sequence > ledger.rule.sequence)
}

/// The same, where all is known that was observed: of a ring that has never had
/// a version nothing can have been lost.
pub(super) fn knows_more<'a>(snapshot: &'a Snapshot, ledger: &Ledger) -> Option<&'a Witness> {
    let unborn = |witness: &&Witness| ledger.is_unborn() && is_of_an_unborn(snapshot, witness);
    let mut others = snapshot.witnesses.iter().filter(|witness| !unborn(witness));
    others.find(|witness| is_ahead(ledger, witness))
}

/// Whether what is to be said of a ledger is grave enough to look again. That a ring has
/// none of which nobody remembers one is as it should be: its first commit creates the
/// ledger, and finds the one that is there.
#[must_use]
pub fn is_doubtful(snapshot: &Snapshot) -> bool {
    match &snapshot.ledger {
        LedgerFound::Absent => {
            let is_a_key = |found: &PipelineFound| {
                matches!(found, PipelineFound::Ours { .. } | PipelineFound::OursUnknownKey { .. })
            };
            snapshot.ring.deleting
                || !snapshot.witnesses.is_empty()
                || snapshot.pipelines.values().any(is_a_key)
        }
        ledger => may_be_lost(ledger, &snapshot.witnesses),
    }
}

/// Whether a ledger may not be all that there was, so that what others say counts.
#[must_use]
pub fn may_be_lost(ledger: &LedgerFound, witnesses: &[Witness]) -> bool {
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
    let witness = witnesses.iter().find(|w| w.high_water.version > 0);
    let witness = witness.or_else(|| witnesses.iter().find(|w| !is_of_an_unborn(snapshot, w)));
    let secret = || {
        let unknown = |found: &PipelineFound| matches!(found, PipelineFound::OursUnknownKey { .. });
        snapshot.pipelines.iter().find(|(_, found)| unknown(found)).map(|(pipeline, _)| pipeline)
    };
    witness.map(Evidence::Witness).or_else(|| secret().map(Evidence::Secret))
}

/// Whether a witness remembers no more than a ring without versions: a rule that
/// accepts nobody's key, and nothing that was revoked.
fn is_of_an_unborn(snapshot: &Snapshot, witness: &Witness) -> bool {
    let nobodys = |policy| match snapshot.policies.get(&policy).map(|seen| &seen.found) {
        Some(PolicyFound::Ours { keys, .. }) => keys.iter().eq([NOBODYS_KEY]),
        _ => false,
    };
    witness.high_water == HighWater::default() && witness.policy.is_none_or(nobodys)
}

/// The highest version that was given out, as far as anybody remembers.
pub(super) fn last_version(snapshot: &Snapshot, table: Option<&Ledger>) -> u32 {
    let known = table.and_then(Ledger::newest).map_or(0, |v| v.number);
    snapshot.witnesses.iter().map(|w| w.high_water.version).fold(known, u32::max)
}

/// The highest sequence of the ring that a policy carries: what is written
/// without knowing the ledger has to stand above it.
pub(crate) fn highest_sequence(snapshot: &Snapshot) -> u64 {
    snapshot.witnesses.iter().filter_map(|witness| witness.sequence).max().unwrap_or(0)
}

/// The policies that hold a rule of the ring.
pub(crate) fn carrying(snapshot: &Snapshot) -> impl Iterator<Item = PolicyRef> {
    snapshot.policies.iter().filter_map(|(policy, seen)| {
        matches!(seen.found, PolicyFound::Ours { mark: Some(_), .. }).then_some(*policy)
    })
}

/// One that does besides this one.
pub(crate) fn carrying_besides(snapshot: &Snapshot, policy: PolicyRef) -> Option<PolicyRef> {
    carrying(snapshot).find(|other| *other != policy)
}
