//! The invariants of the ledger's transitions, from their text and not from
//! the planner.

use signingkeyring_core::ledger::{Cause, Change, Mint, token_hash};

use crate::{
    facts::{Keys, Stored, serial_of},
    machine::Machine,
    state::{Invariant, Pass, State, rules},
    view,
};

impl Machine {
    /// A new version in the ledger. `pass` holds the spec it was planned from.
    pub fn judge_mint(&self, state: &mut State, pass: &Pass, mint: &Mint, next: &Stored) {
        judge_silence(state, pass, next);
        match mint {
            Mint::New { token, cause, .. } => {
                state.demand(Invariant::SuspendedIsFrozen, !pass.spec.suspend);
                self.judge_new(state, pass, token.as_deref(), *cause == Cause::Standby);
            }
            Mint::Recover(_) => state.break_(Invariant::NoMintOverALoss),
            Mint::Import { .. } => {}
        }
    }

    /// Another transition of the ledger.
    pub fn judge_commit(&self, state: &mut State, pass: &Pass, change: &Change, next: &Stored) {
        judge_silence(state, pass, next);
        let freezes = matches!(
            change,
            Change::Acknowledge { .. }
                | Change::Promote { .. }
                | Change::Activate { .. }
                | Change::Window { .. }
                | Change::Discard { .. }
                | Change::Revoke { promote: Some(_), .. }
        );
        state.demand(Invariant::SuspendedIsFrozen, !(freezes && pass.spec.suspend));
        let serial = |version: &u32| {
            next.ledger.by_number(*version).map_or(0, |row| serial_of(&row.public_key.text()))
        };
        match change {
            Change::Promote { token, .. } => {
                self.judge_answer(state, pass, token.as_deref());
            }
            Change::Activate { version, .. } => {
                let signs = Keys(0).with(serial(version));
                let others = state.in_use(&pass.spec).less(signs).less(state.past.revoked);
                state.demand(Invariant::NoGap, others == Keys(0));
                judge_signer(state, serial(version));
                judge_window(state, pass, next);
            }
            Change::Revoke { versions, promote, .. } => {
                let revoked = versions.iter().map(serial).fold(Keys(0), Keys::with);
                let asked = versions.iter().all(|number| {
                    u8::try_from(*number).is_ok_and(|number| pass.spec.revoked.has(number))
                });
                state.demand(Invariant::RevokedStaysRevoked, asked);
                state.past.revoked = state.past.revoked.or(revoked);
                match promote {
                    Some(version) => {
                        judge_signer(state, serial(version));
                        judge_window(state, pass, next);
                    }
                    None => {
                        let before = pass.ledger.as_ref().map_or(Keys(0), |base| base.accepted);
                        state.demand(Invariant::Window, next.accepted == before.less(revoked));
                    }
                }
                judge_in_use(state, pass, next);
            }
            Change::Window { .. } => {
                judge_in_use(state, pass, next);
                judge_window(state, pass, next);
            }
            Change::Remove { .. } => {
                let asked = pass.spec.deleting && pass.spec.allow_unenforced;
                state.demand(Invariant::ClosedNotOpen, asked);
                state.past.removed = true;
            }
            Change::Begin { .. } => {
                state.demand(Invariant::NoMintOverALoss, !state.reported && !state.holds_any());
            }
            Change::Acknowledge { .. }
            | Change::Discard { .. }
            | Change::CorrectTimes
            | Change::Rule(_)
            | Change::Publications { .. }
            | Change::Withdraw(_) => {}
        }
    }

    /// One request, one key; and none at all where keys were lost.
    fn judge_new(&self, state: &mut State, pass: &Pass, token: Option<&str>, standby: bool) {
        // A rule that accepts nobody's key is one of a ring without versions.
        let nobody = Keys(0).with(0);
        let in_force = rules(&state.policies).into_iter().flatten();
        let in_force = in_force.map(|rule| rule.keys).any(|keys| keys != nobody);
        let evidence = state.reported || state.holds_any() || in_force;
        if pass.ledger.as_ref().is_none_or(|base| base.ledger.is_unborn()) {
            state.demand(Invariant::NoMintOverALoss, !evidence);
            let number = token.map_or(0, number_of);
            state.demand(Invariant::ExactlyOnce, !standby && number == pass.spec.token);
            state.past.answered = state.past.answered.with(number);
        } else if standby {
            state.demand(Invariant::ExactlyOnce, token.is_none() && pass.spec.standby);
        } else {
            self.judge_answer(state, pass, token);
        }
    }

    /// A version begins its way to the pipelines: because of a request that
    /// was not answered yet, by schedule, or because none signs any more.
    fn judge_answer(&self, state: &mut State, pass: &Pass, token: Option<&str>) {
        let signs = pass.ledger.as_ref().is_some_and(|base| base.ledger.current().is_some());
        let every = self.configuration.every;
        let due = every.is_some_and(|every| state.day >= state.past.began_on + every);
        let asked = token.map(number_of);
        let wanted = match asked {
            Some(number) => state.past.asked.has(number) && !state.past.answered.has(number),
            None => due || !signs,
        };
        state.demand(Invariant::ExactlyOnce, wanted);
        if let Some(number) = asked {
            state.past.answered = state.past.answered.with(number);
        }
        state.past.began_on = state.day;
    }
}

/// A commit that says what was said before is one too many.
fn judge_silence(state: &mut State, pass: &Pass, next: &Stored) {
    if let Some(base) = &pass.ledger {
        let mut same = next.ledger.clone();
        same.sequence = base.ledger.sequence;
        state.demand(Invariant::Silence, same != base.ledger);
    }
}

fn number_of(hash: &str) -> u8 {
    (1..16).find(|number| token_hash(&view::token(*number)) == hash).unwrap_or(0)
}

/// A pair is to sign from now on.
fn judge_signer(state: &mut State, serial: u8) {
    state.demand(Invariant::NoGap, state.may_sign(serial));
    state.demand(Invariant::RevokedStaysRevoked, !state.past.revoked.has(serial));
    state.past.signed = state.past.signed.with(serial);
    state.past.began_on = state.day;
}

/// What the pipelines sign with stays accepted, revocation excepted.
fn judge_in_use(state: &mut State, pass: &Pass, next: &Stored) {
    let dropped = state.in_use(&pass.spec).less(next.accepted).less(state.past.revoked);
    state.demand(Invariant::NoGap, dropped == Keys(0));
}

/// Exactly the newest `keep` versions that ever signed are accepted, less the
/// revoked ones, and what is on its way to sign.
fn judge_window(state: &mut State, pass: &Pass, next: &Stored) {
    let waiting = next.ledger.pending().or(next.ledger.standby());
    let waiting = waiting.map(|row| serial_of(&row.public_key.text()));
    let window = state.past.signed.newest(pass.spec.keep).less(state.past.revoked);
    let wanted = waiting.map_or(window, |serial| window.with(serial));
    state.demand(Invariant::Window, next.accepted == wanted);
}
