//! The invariants, from their text and not from the planner: what a write may
//! do, and what a state may be.

use signingkeyring_core::{high_water::HighWater, ledger::State as Row};

use crate::{
    facts::{Keys, Rule, serial_of},
    machine::Machine,
    state::{Held, Invariant, Spec, State},
    view,
};

impl State {
    pub fn break_(&mut self, invariant: Invariant) {
        self.broken.get_or_insert(invariant);
    }

    pub fn demand(&mut self, invariant: Invariant, holds: bool) {
        if !holds {
            self.break_(invariant);
        }
    }

    /// The pairs that the pipelines of a spec sign with, whether or not the
    /// operator may look.
    pub fn in_use(&self, spec: &Spec) -> Keys {
        let held = self.secrets.iter().zip(spec.pipelines).filter(|(_, there)| *there);
        held.fold(Keys::default(), |keys, (held, _)| match held {
            Held::Ours(serial) => keys.with(*serial),
            Held::Absent | Held::Foreign => keys,
        })
    }

    /// Whether Kyverno has accepted a pair for as long as it has to before it
    /// signs: for the soak, unless it replaces a revoked one.
    pub fn may_sign(&self, serial: u8) -> bool {
        let past = &self.past;
        let hurries = past.signed.has(serial) || past.revoked.has(past.signed.last());
        if hurries { past.acknowledged.has(serial) } else { past.rested.has(serial) }
    }

    pub fn holds_any(&self) -> bool {
        self.secrets.iter().any(|held| matches!(held, Held::Ours(_)))
    }
}

impl Machine {
    /// What a policy is about to say of the ring, or nothing if it is to say
    /// nothing any more.
    pub fn judge_policy(&self, state: &mut State, policy: usize, wanted: Option<&Rule>) {
        if state.past.removed {
            return;
        }
        let keys = match wanted {
            Some(rule) => {
                state.demand(Invariant::RevokedStaysRevoked, rule.keys != Keys(0));
                let returns = rule.keys.and(state.past.banned) != Keys(0);
                state.demand(Invariant::RevokedStaysRevoked, !returns);
                rule.keys
            }
            None => {
                let elsewhere = state.ledger.as_ref().and_then(|ledger| {
                    let others = view::places(ledger).filter(|place| *place != policy);
                    others.filter_map(|place| state.loaded[place].as_ref()).next()
                });
                let keys = elsewhere.map(|rule| rule.keys);
                state.demand(Invariant::ClosedNotOpen, keys.is_some());
                keys.unwrap_or_default()
            }
        };
        if let (Some(before), Some(spec)) = (&state.policies[policy], &state.spec) {
            let dropped = before.keys.less(keys);
            let gap = state.in_use(spec).and(dropped).less(state.past.revoked) != Keys(0);
            let banned = dropped.and(state.past.revoked);
            state.past.banned = state.past.banned.or(banned);
            state.demand(Invariant::NoGap, !gap);
        }
    }

    /// A key is about to be handed to a pipeline.
    pub fn judge_write(&self, state: &mut State, index: usize, serial: u8) {
        let before = state.secrets[index];
        state.demand(Invariant::NotOursNotTouched, before != Held::Foreign);
        state.demand(Invariant::Silence, before != Held::Ours(serial));
        state.demand(Invariant::NoGap, state.may_sign(serial));
        state.demand(Invariant::RevokedStaysRevoked, !state.past.revoked.has(serial));
        // Kyverno follows all policies in one watch: of one that the ring has
        // left, it has loaded what the policy holds when it answers for the other.
        let named = state.ledger.iter().flat_map(|l| view::places(l)).map(|p| &state.loaded[p]);
        let accepted =
            named.chain(&state.policies).flatten().map(|rule| rule.keys).reduce(Keys::and);
        state.demand(Invariant::NoGap, accepted.is_none_or(|keys| keys.has(serial)));
    }

    /// A pipeline was to get a key that the ledger does not hold.
    pub fn judge_missing_key(&self, state: &mut State) {
        state.break_(Invariant::PrivateKeysKnown);
    }

    /// A pipeline's Secret is about to be deleted.
    pub fn judge_deletion(&self, state: &mut State, index: usize) {
        state.demand(Invariant::NotOursNotTouched, state.secrets[index] != Held::Foreign);
    }

    /// The Secret of a standby key is about to be deleted.
    pub fn judge_key_deletion(&self, state: &mut State, name: &str) {
        let named = state.ledger.as_ref().is_some_and(|stored| {
            let keys = stored.ledger.versions.iter().filter_map(|v| v.private_key.as_ref());
            keys.filter_map(|key| key.secret.as_deref()).any(|secret| secret == name)
        });
        state.demand(Invariant::PrivateKeysKnown, state.past.removed || !named);
    }

    /// The ring's annotation is about to be written: it never forgets.
    pub fn judge_record(&self, state: &mut State, mark: &HighWater) {
        state.demand(Invariant::Silence, state.recorded.as_ref() != Some(mark));
        let kept = state.recorded.as_ref().is_none_or(|before| before.is_within(mark));
        state.demand(Invariant::NoMintOverALoss, kept);
    }

    /// The ledger is about to be deleted: no key may be left behind.
    pub fn judge_ledger_deletion(&self, state: &mut State) {
        let forgotten = (state.holds_any() && !state.past.lost) || !state.apart.is_empty();
        state.demand(Invariant::PrivateKeysKnown, !forgotten);
        let removed = state.ledger.as_ref().is_some_and(|stored| stored.ledger.removed);
        state.demand(Invariant::NoMintOverALoss, removed);
    }

    /// The ring is about to go.
    pub fn judge_end(&self, state: &mut State) {
        // After a loss an empty ledger that says no more than that may stay.
        let forgotten = !state.past.lost && (state.holds_any() || state.ledger.is_some());
        state.demand(Invariant::PrivateKeysKnown, !forgotten);
        state.demand(Invariant::ClosedNotOpen, state.policies == [None, None]);
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
            state.demand(Invariant::PrivateKeysKnown, !forgotten);
        }
        if let Some(stored) = &state.ledger {
            let stays = stored.ledger.versions.iter().all(|row| {
                let revoked = state.past.revoked.has(serial_of(&row.public_key));
                !revoked || (row.state == Row::Revoked && row.private_key.is_none())
            });
            state.demand(Invariant::RevokedStaysRevoked, stays);
        }
        if state.past.enforced && !state.past.removed {
            state.demand(Invariant::ClosedNotOpen, state.loaded != [None, None]);
        }
    }
}
