//! Settling: from every state, once faults and edits end and everybody does
//! their part, the ring comes to rest, rests where it should, and stays quiet.
//!
//! The checker's own `eventually` overlooks cycles, so this is checked from
//! every state that is reached, as something that always holds.

use std::{collections::HashMap, sync::Mutex};

use crate::{
    facts::{Keys, hash_of, serial_of},
    machine::{Machine, Move, Watch},
    state::{Budget, Held, Spec, State},
    view,
};

/// More moves than any ring needs that does come to rest.
const PATIENCE: usize = 200;

/// Whether the states that were looked at settle, by their hash.
pub type Verdicts = Mutex<HashMap<u64, bool>>;

impl Machine {
    /// The next move if nothing fails and nobody edits, or nothing at rest.
    pub fn fair(&self, state: &State) -> Option<State> {
        let replicas = 0..state.replicas.len();
        let each = |make: fn(usize) -> Move| replicas.clone().map(make);
        let moves = [Move::KyvernoComes, Move::Grant(0), Move::Grant(1)]
            .into_iter()
            .chain(each(Move::Act))
            .chain((0..2).map(|policy| Move::Sync(policy, Watch::Current)))
            .chain((0..2).map(Move::Load))
            .chain(each(Move::Ask))
            .chain(each(|replica| Move::Plan(replica, Watch::Current)));
        for step in moves {
            if let Some(mut next) = self.step(state, &step) {
                self.judge(&mut next);
                return Some(next);
            }
        }
        None
    }

    /// Whether a state settles, and rightly. What breaks an invariant on its
    /// way does so in a state that the checker reaches too.
    pub fn settles(&self, state: &State) -> bool {
        let none = Budget { edits: 0, crashes: 0, outages: 0, withdrawals: 0, days: 0 };
        let mut at = State { left: none, ..state.clone() };
        let mut way = Vec::new();
        let verdict = loop {
            if at.broken.is_some() {
                return true;
            }
            let hash = hash_of(&at);
            if let Some(known) = self.verdicts.lock().unwrap().get(&hash) {
                break *known;
            }
            way.push(hash);
            if way.len() > PATIENCE {
                break false;
            }
            match self.fair(&at) {
                Some(next) => at = next,
                None => break self.rests_rightly(&at),
            }
        };
        self.verdicts.lock().unwrap().extend(way.into_iter().map(|hash| (hash, verdict)));
        verdict
    }

    fn rests_rightly(&self, state: &State) -> bool {
        let Some(spec) = &state.spec else {
            return (state.past.lost || state.ledger.is_none())
                && state.policies == [None, None]
                && state.loaded == [None, None]
                && (state.past.lost || !state.secrets.iter().any(is_ours));
        };
        if spec.deleting && spec.allow_unenforced {
            return false;
        }
        if state.past.lost {
            // Stalled: what is in force stays in force.
            return state.ledger.is_none() || state.past.minted == 0;
        }
        let token_is_done = spec.token == 0 || state.past.answered.has(spec.token) || spec.deleting;
        token_is_done && self.serves(state, spec)
    }

    /// The key that signs, the window and the pipelines are as asked.
    fn serves(&self, state: &State, spec: &Spec) -> bool {
        let Some(stored) = &state.ledger else { return spec.deleting };
        let ledger = &stored.ledger;
        let signs = ledger.current().map_or(0, |row| serial_of(&row.public_key));
        let enforced = (0..2).all(|policy| {
            let wanted = (policy == usize::from(spec.audit)).then_some(&stored.rule);
            state.policies[policy].as_ref() == wanted && state.loaded[policy].as_ref() == wanted
        });
        let published = (0..2).all(|index| match state.secrets[index] {
            Held::Ours(serial) => {
                let listed = ledger.publications.contains(&view::pipeline(index));
                spec.pipelines[index] && serial == signs && listed
            }
            Held::Absent => !spec.pipelines[index],
            Held::Foreign => true,
        });
        let due = self
            .configuration
            .every
            .is_some_and(|every| state.day >= state.past.minted_on + every && !spec.deleting);
        !ledger.removed
            && signs == state.past.minted
            && ledger.pending().is_none()
            && !due
            && stored.accepted == state.past.signed.newest(spec.keep)
            && stored.rule.keys == nobody_if_empty(stored.accepted)
            && enforced
            && published
    }
}

/// A rule without any key holds the one that nobody can sign with.
fn nobody_if_empty(keys: Keys) -> Keys {
    if keys == Keys(0) { keys.with(0) } else { keys }
}

fn is_ours(held: &Held) -> bool {
    matches!(held, Held::Ours(_))
}
