//! The moves of everybody but the operator's replicas: Kyverno and its gate,
//! the users, the passing of days.

use std::sync::Arc;

use signingkeyring_core::{ledger::Change, plan::Action};

use crate::{
    cover,
    facts::{Keys, serial_of},
    machine::{Edit, Machine, Move},
    state::{Access, Heard, Held, Replica, Soak, State, rules},
    view,
};

/// The replica that leads, where one does.
const LEADER: usize = 0;

impl Machine {
    /// The state after a move, or nothing if it changes nothing.
    pub fn step(&self, state: &State, step: &Move) -> Option<State> {
        match *step {
            // A standby begins nothing. What it sent when it led may still arrive.
            Move::Plan(replica, _)
            | Move::Ask(replica)
            | Move::Sync(replica, ..)
            | Move::Cover(replica, _)
                if self.configuration.elects && replica != LEADER =>
            {
                None
            }
            Move::TakeOver => Some(self.take_over(state)),
            Move::Act(replica) if self.configuration.elects && replica != LEADER => {
                let mut next = self.act(state, replica)?;
                next.replicas[replica].pass = None;
                Some(next)
            }
            Move::Plan(replica, watch) => self.plan(state, replica, watch),
            Move::Act(replica) => self.act(state, replica),
            Move::Ask(replica) => ask(state, replica),
            Move::Sync(replica, policy, watches) => self.sync(state, replica, policy, watches),
            Move::Write(replica) => self.write(state, replica),
            Move::Cover(replica, watch) => self.cover(state, replica, watch),
            Move::LoadCover => cover::load(state),
            Move::Bystander => self.bystander_goes_on(state),
            Move::User(edit) => {
                let mut next = self.edit(state, edit)?;
                next.left.edits -= 1;
                Some(next)
            }
            _ => happen(state, step),
        }
    }

    /// Another replica leads, which has heard nothing. What counts of what was heard before
    /// is what the ledger says, or is being told by a write that was sent.
    fn take_over(&self, state: &State) -> State {
        let mut next = state.clone();
        let heard = next.replicas[LEADER].heard.clone();
        next.replicas.swap(LEADER, LEADER + 1);
        let leader = &mut next.replicas[LEADER];
        // A leader of before has been gone for longer than a write may be on its way.
        *leader = Replica::started();
        if self.subject.inherits {
            leader.heard = heard;
        }
        let sent = next.replicas[LEADER + 1].pass.as_ref();
        let sent = sent.and_then(|(pass, done)| pass.actions.get(usize::from(*done)));
        let sent = match sent {
            Some(Action::Commit(Change::Acknowledge { version, .. })) => Some(*version),
            _ => None,
        };
        let rows = state.ledger.iter().flat_map(|stored| &stored.ledger.versions);
        let counts = rows.filter(|row| row.acknowledged_at().is_some() || Some(row.number) == sent);
        let counts = counts.map(|row| serial_of(&row.public_key.text())).fold(Keys(0), Keys::with);
        next.past.acknowledged = next.past.acknowledged.and(counts);
        next.past.rested = next.past.rested.and(counts);
        next.left.crashes -= 1;
        next
    }

    /// What a user changes; nothing if it is so already.
    pub fn edit(&self, state: &State, edit: Edit) -> Option<State> {
        let mut next = state.clone();
        let spec = next.spec.as_mut()?;
        match edit {
            Edit::Rotate => {
                spec.token = next.past.asked.last() + 1;
                next.past.asked = next.past.asked.with(spec.token);
            }
            Edit::RotateBack => {
                let last = next.past.asked.last();
                spec.token = last.checked_sub(1)?;
            }
            Edit::Keep(keep) => spec.keep = keep,
            Edit::Pipeline(pipeline, there) => spec.pipelines[pipeline] = there,
            Edit::Move(place) => spec.place = place,
            Edit::Revoke(number) => spec.revoked = spec.revoked.with(number),
            Edit::Unrevoke => spec.revoked = Keys(0),
            Edit::Suspend(suspend) => spec.suspend = suspend,
            Edit::Standby(standby) => spec.standby = standby,
            Edit::Delete => spec.deleting = true,
            Edit::AllowUnenforced => spec.allow_unenforced = true,
            Edit::DropSecret(pipeline) => next.secrets[pipeline] = Held::Absent,
            Edit::TakeSecret(pipeline) => next.secrets[pipeline] = Held::Foreign,
            Edit::RaiseMark => {
                let edited = state.policies[0].as_ref()?.with_a_strangers_key();
                next.policies[0] = Some(Arc::new(edited));
                next.past.raised = true;
            }
            Edit::LoseLedger => {
                next.older = Some(next.ledger.take()?);
                next.past.lost = true;
            }
            Edit::LoseUnborn => {
                // Nothing is lost with it.
                next.older = next.ledger.take_if(|stored| stored.ledger.is_unborn());
            }
        }
        (next != *state).then_some(next)
    }
}

/// What happens to the processes, to Kyverno and to time.
fn happen(state: &State, step: &Move) -> Option<State> {
    let happens = match *step {
        Move::Crash(replica) => state.replicas[replica] != Replica::started(),
        Move::Load(policy) => state.kyverno_up && state.loaded[policy] != state.policies[policy],
        Move::KyvernoGoes => state.kyverno_up,
        Move::KyvernoComes => !state.kyverno_up,
        Move::Withdraw(pipeline) | Move::EndNamespace(pipeline) => {
            state.access[pipeline] == Access::Granted
        }
        Move::NamespaceEnds(pipeline) => state.access[pipeline] == Access::Ending,
        Move::Grant(pipeline) => state.access[pipeline] == Access::Withdrawn,
        _ => true,
    };
    if !happens {
        return None;
    }
    let mut next = state.clone();
    match *step {
        Move::Crash(replica) => {
            next.replicas[replica] = Replica::started();
            next.left.crashes -= 1;
        }
        Move::Load(policy) => {
            next.loaded[policy].clone_from(&state.policies[policy]);
            next.past.enforced |= rules(&next.loaded)[policy].is_some();
        }
        Move::KyvernoGoes => {
            next.kyverno_up = false;
            next.left.outages -= 1;
        }
        Move::KyvernoComes => next.kyverno_up = true,
        Move::Withdraw(pipeline) => {
            next.access[pipeline] = Access::Withdrawn;
            next.left.withdrawals -= 1;
        }
        Move::Grant(pipeline) => next.access[pipeline] = Access::Granted,
        Move::EndNamespace(pipeline) => {
            next.access[pipeline] = Access::Ending;
            next.left.endings -= 1;
        }
        Move::NamespaceEnds(pipeline) => next.end(pipeline),
        Move::Day => {
            next.day += 1;
            next.left.days -= 1;
        }
        Move::Plan(..)
        | Move::Act(_)
        | Move::Ask(_)
        | Move::Sync(..)
        | Move::Write(_)
        | Move::Cover(..)
        | Move::LoadCover
        | Move::TakeOver
        | Move::Bystander
        | Move::User(_) => {}
    }
    Some(next)
}

/// A replica asks every policy that the ledger names, a soak after it last
/// asked. (Asking sooner changes nothing that the planner sees.)
fn ask(state: &State, replica: usize) -> Option<State> {
    let mut next = state.clone();
    cover::ask(&mut next, replica);
    let memory = &mut next.replicas[replica].heard;
    let before = memory.clone();
    *memory = [const { Heard::Nothing }; 3];
    if let Some(ledger) = &state.ledger {
        for policy in view::places(ledger) {
            memory[policy] = match &state.loaded[policy] {
                _ if !state.kyverno_up => Heard::Unreachable,
                None => Heard::Open,
                Some(loaded) => {
                    let said = loaded.rule(0);
                    if let Some(rule) = said
                        && rule.mark.state == ledger.state
                    {
                        let begun = Heard::Said(Some(Arc::clone(rule)), Soak::Begun);
                        let passed = Heard::Said(Some(Arc::clone(rule)), Soak::Passed);
                        let goes_on = before[policy] == begun || before[policy] == passed;
                        if goes_on { passed } else { begun }
                    } else {
                        Heard::Said(said.cloned(), Soak::Behind)
                    }
                }
            };
        }
        let accepted = view::places(ledger).map(|policy| match &memory[policy] {
            Heard::Said(Some(rule), Soak::Begun | Soak::Passed) => rule.keys,
            _ => Keys::default(),
        });
        let accepted = accepted.reduce(Keys::and).unwrap_or_default();
        next.past.acknowledged = next.past.acknowledged.or(accepted);
        let rested = view::places(ledger).map(|policy| match &memory[policy] {
            Heard::Said(Some(rule), Soak::Passed) => rule.keys,
            _ => Default::default(),
        });
        let rested = rested.reduce(Keys::and).unwrap_or_default();
        next.past.rested = next.past.rested.or(rested);
    }
    (next != *state).then_some(next)
}
