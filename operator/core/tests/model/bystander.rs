//! Another ring in the Enforce policy. It has no planner in the model: its
//! ledger goes through a few states, each after Kyverno has the one before.

use std::{collections::BTreeSet, sync::Arc};

use signingkeyring_core::ledger::{Cause, Change, Ledger, Mint, RuleSettings};

use crate::{
    facts::{Archive, Stored, key},
    machine::Machine,
    state::State,
    view::{self, POLICIES},
};

/// Its position among the rings.
pub const BYSTANDER: usize = 1;

/// The pairs of its versions.
pub const PAIRS: [u8; 2] = [13, 14];

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bystander {
    /// There is none.
    Absent,
    /// It gets a new version, which replaces the first.
    Rotates,
    /// It is removed, and its ledger deleted.
    Leaves,
}

/// The states of its ledger, in order.
pub fn script(bystander: Bystander, archive: &Archive) -> Vec<Option<Arc<Stored>>> {
    let rule = || RuleSettings::of(POLICIES[0]);
    let mint = |base: Option<&Stored>, version: u32| {
        let mint = Mint::New { version, token: None, cause: Cause::First, rule: rule() };
        let pair = key(PAIRS[version as usize - 1]);
        let base = base.map(|stored| &stored.ledger);
        archive.store(Ledger::mint(base, &mint, pair, view::now(0)).unwrap())
    };
    let signs = |version| {
        [
            Change::Acknowledge { version, add: BTreeSet::new() },
            Change::Activate { version, keep: 1 },
        ]
        .into_iter()
    };
    let after = |base: &Stored, changes: &mut dyn Iterator<Item = Change>| {
        let ledger = changes.fold(base.ledger.clone(), |ledger, change| {
            Ledger::apply(Some(&ledger), &change, view::now(0)).unwrap()
        });
        archive.store(ledger)
    };
    let serves = after(&mint(None, 1), &mut signs(1));
    match bystander {
        Bystander::Absent => vec![None],
        Bystander::Rotates => {
            let minted = mint(Some(&serves), 2);
            let rotated = after(&minted, &mut signs(2));
            [serves, minted, rotated].map(Some).into()
        }
        Bystander::Leaves => {
            let remove = Change::Remove { rule: rule(), above: 0 };
            let removed = after(&serves, &mut [remove].into_iter());
            vec![Some(serves), Some(removed), None]
        }
    }
}

impl Machine {
    /// Its ledger as it is, or before its last change.
    pub fn bystander(&self, state: &State, before: bool) -> Option<&Arc<Stored>> {
        self.bystander[usize::from(state.bystander) - usize::from(before)].as_ref()
    }

    /// Its ledger's next state, once Kyverno has answered for this one.
    pub fn bystander_goes_on(&self, state: &State) -> Option<State> {
        let next = state.bystander + 1;
        self.bystander.get(usize::from(next))?;
        let now = self.bystander(state, false).filter(|stored| !stored.ledger.removed);
        let wanted = now.map(|stored| &stored.state);
        let in_force = [&state.policies, &state.loaded].into_iter().all(|at| {
            let rule = at[0].as_ref().and_then(|policy| policy.rule(BYSTANDER));
            rule.map(|rule| &rule.mark.state) == wanted
        });
        (state.kyverno_up && in_force).then(|| State { bystander: next, ..state.clone() })
    }
}
