//! What follows from what was observed. Each fact is decided here, once, and
//! read by the plan and by the report, so that what is said and what is done
//! cannot disagree.

use std::collections::BTreeSet;

use crate::{
    ledger::{Ledger, PipelineRef, State},
    policy_ref::PolicyRef,
    schedule::Opening,
    snapshot::{Covered, LedgerFound, Snapshot, Witness},
};

mod enforcement;
mod pipelines;
mod rotation;
mod stage;
mod witness;

pub(crate) use enforcement::{Enforcement, PATIENCE};
pub(crate) use pipelines::{is_in_the_way, is_out_of_reach, is_stale, target};
pub(crate) use stage::Stage;
pub use witness::{Evidence, is_doubtful, may_be_lost};
pub(crate) use witness::{carrying, carrying_besides, highest_sequence};

/// What follows from one snapshot.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Where the ring is in its life.
    pub stage: Stage,
    /// The ledger, if it can be read.
    pub ledger: Option<&'a Ledger>,
    /// Its table, which is known although a private key is damaged.
    pub table: Option<&'a Ledger>,
    /// The witness who remembers more than the ledger knows. Then an older
    /// ledger was restored: what it would do next was done before.
    pub knows_more: Option<&'a Witness>,
    /// Why versions must have existed although there is no ledger.
    pub evidence: Option<Evidence<'a>>,
    /// The highest version that was given out, as far as anybody remembers.
    pub last_version: u32,
    /// What the policies that hold the ring's rule and their gates say, the
    /// worst of them: of the ledger, or after a loss of what is left in them.
    pub enforcement: Enforcement<'a>,
    /// What the policy says that the ledger names.
    pub enforcement_here: Enforcement<'a>,
    /// What the policy says that the rule is moving away from.
    pub enforcement_there: Option<Enforcement<'a>>,
    /// Whether Kyverno has enforced the ledger for as long as it has to before
    /// a key signs. One that replaces a revoked key does not wait for the soak.
    pub soaked: bool,
    /// A policy that the ring has left and that still holds its rule. That rule
    /// knows no newer key, and would refuse what one signs.
    pub left_behind: Option<PolicyRef>,
    /// A policy for namespaces whose label names no ring that still covers those
    /// of this one: it would refuse what a new key signs.
    pub covered: Option<(PolicyRef, Covered)>,
    /// The versions that are to be taken out and are not yet.
    pub due_revocations: BTreeSet<u32>,
    /// The rotation token, if it asks for something.
    pub token: Option<&'a str>,
    /// The rotation token, if it has not been answered yet.
    pub asked: Option<&'a str>,
    /// When the schedule rotates next, or began to want to, as long as the ring rotates
    /// at all: in a window, if it has any.
    pub next_rotation: Option<Opening>,
    /// Whether a rotation was asked for, or the schedule calls for one, and it does not
    /// wait for those of other rings.
    pub rotation_due: bool,
    /// A rotation is due and waits until fewer than so many others are under way. One
    /// that replaces a revoked key waits for nobody.
    pub waits_for_others: Option<u16>,
    /// The pipelines that hold, or may hold, another version than the pending one.
    pub holding_back: Vec<&'a PipelineRef>,
}

impl<'a> Facts<'a> {
    /// Decides what follows from a snapshot.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let ledger = match &snapshot.ledger {
            LedgerFound::Present(ledger) => Some(ledger),
            _ => None,
        };
        let table = snapshot.ledger.table();
        let knows_more = ledger.and_then(|ledger| witness::knows_more(snapshot, ledger));
        let evidence = witness::evidence(snapshot);
        let stage = stage::of(snapshot, knows_more.is_some(), evidence.is_some());
        let (here, there, enforcement) = match (stage, ledger) {
            (Stage::Serving | Stage::DeletionBlocked | Stage::Deleting, Some(ledger)) => {
                enforcement::of(snapshot, ledger)
            }
            (Stage::Lost, _) | (_, None) => {
                let left = enforcement::of_what_is_left(snapshot);
                (left, None, left)
            }
        };
        let soaked = |held| {
            held >= snapshot.ring.soak || ledger.is_some_and(|ledger| ledger.lost_its_signer())
        };
        let token = rotation::token(snapshot);
        let asked = token.filter(|token| ledger.is_none_or(|l| l.handled(token).is_none()));
        let next_rotation = ledger
            .filter(|_| stage == Stage::Serving && !snapshot.ring.suspend)
            .and_then(|ledger| rotation::next(snapshot, ledger));
        let scheduled = next_rotation.is_some_and(|next| next.begins <= snapshot.now);
        let rotation_due = !snapshot.ring.deleting && (scheduled || asked.is_some());
        let due_revocations = ledger.map(|l| due_revocations(snapshot, l)).unwrap_or_default();
        let may_wait = stage == Stage::Serving
            && due_revocations.is_empty()
            && !snapshot.ring.suspend
            && ledger.is_some_and(|ledger| ledger.current().is_some() && !ledger.is_rotating());
        let waits_for_others = snapshot.rotations_full.filter(|_| rotation_due && may_wait);
        Self {
            stage,
            ledger,
            table,
            knows_more,
            evidence,
            last_version: witness::last_version(snapshot, table),
            enforcement,
            enforcement_here: here,
            enforcement_there: there,
            soaked: matches!(enforcement, Enforcement::Acknowledged(held) if soaked(held)),
            left_behind: ledger.and_then(|ledger| enforcement::left_behind(snapshot, ledger)),
            covered: enforcement::covered(snapshot, ledger),
            due_revocations,
            token,
            asked,
            next_rotation,
            rotation_due: rotation_due && waits_for_others.is_none(),
            waits_for_others,
            holding_back: ledger.map(|l| pipelines::holding_back(snapshot, l)).unwrap_or_default(),
        }
    }
}

fn due_revocations(snapshot: &Snapshot, ledger: &Ledger) -> BTreeSet<u32> {
    let revoked = &snapshot.ring.revoked;
    ledger
        .versions
        .iter()
        .filter(|v| v.state() != State::Revoked && revoked.iter().any(|r| r.names(v)))
        .map(|v| v.number)
        .collect()
}
