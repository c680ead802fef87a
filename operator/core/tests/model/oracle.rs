//! The invariants, from their text and not from the planner: what a write may
//! do, and what a state may be.

use signingkeyring_core::ledger::{Change, token_hash};

use crate::{
    facts::{Keys, Rule, Stored, serial_of},
    machine::Machine,
    state::{Held, Invariant, Pass, Spec, State},
    view,
};

impl State {
    fn break_(&mut self, invariant: Invariant) {
        self.broken.get_or_insert(invariant);
    }

    fn demand(&mut self, invariant: Invariant, holds: bool) {
        if !holds {
            self.break_(invariant);
        }
    }

    /// The pairs that the pipelines of a spec sign with, whether or not the
    /// operator may look.
    fn in_use(&self, spec: &Spec) -> Keys {
        let held = self.secrets.iter().zip(spec.pipelines).filter(|(_, there)| *there);
        held.fold(Keys::default(), |keys, (held, _)| match held {
            Held::Ours(serial) => keys.with(*serial),
            Held::Absent | Held::Foreign => keys,
        })
    }

    fn holds_any(&self) -> bool {
        self.secrets.iter().any(|held| matches!(held, Held::Ours(_)))
    }
}

impl Machine {
    /// A transition of the ledger. `pass` holds the spec it was planned from.
    pub fn judge_commit(&self, state: &mut State, pass: &Pass, change: &Change, next: &Stored) {
        if let Some(base) = &pass.ledger {
            let mut same = next.ledger.clone();
            same.sequence = base.ledger.sequence;
            state.demand(Invariant::Silence, same != base.ledger);
        }
        match change {
            Change::Mint { token, .. } => self.judge_mint(state, pass, token.as_deref()),
            Change::Activate { version, .. } => {
                let row = next.ledger.versions.iter().find(|row| row.number == *version);
                let serial = row.map_or(0, |row| serial_of(&row.public_key));
                let signs = Keys::default().with(serial);
                state.demand(Invariant::NoGap, state.in_use(&pass.spec).less(signs) == Keys(0));
                state.demand(Invariant::NoGap, state.past.rested.has(serial));
                state.past.signed = state.past.signed.with(serial);
                judge_window(state, pass, next);
            }
            Change::Window { .. } => {
                let in_use = state.in_use(&pass.spec);
                state.demand(Invariant::NoGap, in_use.less(next.accepted) == Keys(0));
                judge_window(state, pass, next);
            }
            Change::Remove(_) => {
                let asked = pass.spec.deleting && pass.spec.allow_unenforced;
                state.demand(Invariant::Closed, asked);
                state.past.removed = true;
            }
            Change::Acknowledge { .. }
            | Change::Rule(_)
            | Change::Publications { .. }
            | Change::Withdraw(_) => {}
        }
    }

    /// One request, one key; and none at all where keys were lost.
    fn judge_mint(&self, state: &mut State, pass: &Pass, token: Option<&str>) {
        let birth = pass.ledger.is_none();
        let evidence =
            state.reported || state.holds_any() || state.policies.iter().any(Option::is_some);
        state.demand(Invariant::NeverOverALoss, !(birth && evidence));
        let number = token.map(|hash| {
            (1..16).find(|number| token_hash(&view::token(*number)) == hash).unwrap_or(0)
        });
        let wanted = match number {
            Some(number) if birth => number == pass.spec.token,
            Some(number) => state.past.asked.has(number) && !state.past.answered.has(number),
            None if birth => pass.spec.token == 0,
            None => {
                let every = self.configuration.every;
                every.is_some_and(|every| state.day >= state.past.minted_on + every)
            }
        };
        state.demand(Invariant::ExactlyOnce, wanted);
        if let Some(number) = number {
            state.past.answered = state.past.answered.with(number);
        }
    }

    /// What a policy is about to say of the ring, or nothing if it is to say
    /// nothing any more.
    pub fn judge_policy(&self, state: &mut State, policy: usize, wanted: Option<&Rule>) {
        if state.past.removed {
            return;
        }
        let keys = match wanted {
            Some(rule) => {
                state.demand(Invariant::Revoked, rule.keys != Keys(0));
                rule.keys
            }
            None => {
                let elsewhere = state.ledger.as_ref().and_then(|ledger| {
                    view::places(ledger).find_map(|place| state.loaded[place].as_ref())
                });
                let keys = elsewhere.map(|rule| rule.keys);
                state.demand(Invariant::Closed, keys.is_some());
                keys.unwrap_or_default()
            }
        };
        if let (Some(before), Some(spec)) = (&state.policies[policy], &state.spec) {
            let dropped = before.keys.less(keys);
            let gap = state.in_use(spec).and(dropped) != Keys(0);
            state.demand(Invariant::NoGap, !gap);
        }
    }

    /// A key is about to be handed to a pipeline.
    pub fn judge_write(&self, state: &mut State, index: usize, serial: u8) {
        let before = state.secrets[index];
        state.demand(Invariant::NotOurs, before != Held::Foreign);
        state.demand(Invariant::Silence, before != Held::Ours(serial));
        state.demand(Invariant::NoGap, state.past.rested.has(serial));
        let places: Vec<usize> = state.ledger.iter().flat_map(|l| view::places(l)).collect();
        for place in places {
            let accepts = state.loaded[place].as_ref().is_none_or(|rule| rule.keys.has(serial));
            state.demand(Invariant::NoGap, accepts);
        }
    }

    /// A pipeline was to get a key that the ledger does not hold.
    pub fn judge_missing_key(&self, state: &mut State) {
        state.break_(Invariant::PrivateKeys);
    }

    /// A pipeline's Secret is about to be deleted.
    pub fn judge_deletion(&self, state: &mut State, index: usize) {
        state.demand(Invariant::NotOurs, state.secrets[index] != Held::Foreign);
    }

    /// The ledger is about to be deleted: no key may be left behind.
    pub fn judge_ledger_deletion(&self, state: &mut State) {
        let forgotten = state.holds_any() && !state.past.lost;
        state.demand(Invariant::PrivateKeys, !forgotten);
        let removed = state.ledger.as_ref().is_some_and(|stored| stored.ledger.removed);
        state.demand(Invariant::NeverOverALoss, removed);
    }

    /// The ring is about to go.
    pub fn judge_end(&self, state: &mut State) {
        // After a loss an empty ledger that says no more than that may stay.
        let forgotten = !state.past.lost && (state.holds_any() || state.ledger.is_some());
        state.demand(Invariant::PrivateKeys, !forgotten);
        state.demand(Invariant::Closed, state.policies == [None, None]);
    }

    /// What holds in every state.
    pub fn judge(&self, state: &mut State) {
        if !state.past.lost {
            let forgotten = (0..2).any(|index| {
                let listed = state
                    .ledger
                    .as_ref()
                    .is_some_and(|l| l.ledger.publications.contains(&view::pipeline(index)));
                matches!(state.secrets[index], Held::Ours(_)) && !listed
            });
            state.demand(Invariant::PrivateKeys, !forgotten);
        }
        if state.past.enforced && !state.past.removed {
            state.demand(Invariant::Closed, state.loaded != [None, None]);
        }
    }
}

/// Exactly the newest `keep` versions that ever signed are accepted, and what
/// is on its way to sign.
fn judge_window(state: &mut State, pass: &Pass, next: &Stored) {
    let pending = next.ledger.pending().map(|row| serial_of(&row.public_key));
    let window = state.past.signed.newest(pass.spec.keep);
    let wanted = pending.map_or(window, |serial| window.with(serial));
    state.demand(Invariant::Window, next.accepted == wanted);
}
