//! What is said in a state comes true: what a condition says happens by itself
//! does, and what it says a person can do about it helps.

use signingkeyring_core::{
    condition::{Condition, Kind, Status},
    pass,
    promise::{Act, Promise},
};

use crate::{
    act::Sight,
    cover,
    machine::{Edit, Machine, Watch},
    settle::Others,
    state::{Access, State},
    view,
};

/// More moves than any ring needs.
const PATIENCE: usize = 200;

type Said = (Condition, Promise);

impl Machine {
    /// Whether all that replicas say in a state is so.
    pub fn keeps_its_word(&self, state: &State) -> bool {
        !self.configuration.words || state.broken.is_some() || self.broken_word(state).is_none()
    }

    /// What a replica says in a state that is not so.
    pub fn broken_word(&self, state: &State) -> Option<Said> {
        if state.spec.is_some_and(|spec| spec.deleting && !spec.finalizer) {
            // The API server holds no such object.
            return None;
        }
        // It is said at the end of a pass.
        let at_its_end = |replica: &usize| state.replicas[*replica].pass.is_none();
        let replicas = (0..state.replicas.len()).filter(at_its_end);
        let said = replicas.flat_map(|replica| self.report(state, replica));
        said.filter(|said| said.0.kind != Kind::Ready).find(|said| !self.is_so(state, said))
    }

    fn is_so(&self, state: &State, (condition, promise): &Said) -> bool {
        let now = |state: State| {
            let said = self.report(&self.rest(state, Others::Stay), 0);
            said.into_iter().find(|(now, _)| now.kind == condition.kind)
        };
        match promise {
            Promise::Nothing => is_good(condition),
            Promise::Itself => {
                let mut state = state.clone();
                state.kyverno_up = true;
                // What else a ring is on its way to is said under the same kind.
                let is_over = |now: &Condition| {
                    now.kind == Kind::Reconciling && now.reason != condition.reason
                };
                now(state).is_none_or(|(now, _)| is_good(&now) || is_over(&now))
            }
            Promise::After(ways) => {
                !ways.is_empty()
                    && ways.iter().all(|way| {
                        let mut state = state.clone();
                        if !way.iter().all(|act| self.obey(&mut state, act)) {
                            // What is done is no part of this world.
                            return true;
                        }
                        now(state).is_none_or(|(now, next)| {
                            is_good(&now) || now.reason != condition.reason || next != *promise
                        })
                    })
            }
        }
    }

    /// Does what a person would; whether there is such a thing here.
    fn obey(&self, state: &mut State, act: &Act) -> bool {
        let index = view::index_of;
        let edit = match act {
            Act::Unsuspend => Edit::Suspend(false),
            Act::TakeOut(pipeline) => Edit::Pipeline(index(pipeline), false),
            Act::AllowUnenforced => Edit::AllowUnenforced,
            Act::DeleteSecret(pipeline) => Edit::DropSecret(index(pipeline)),
            Act::CorrectRevocation => Edit::Unrevoke,
            Act::Grant(pipeline) => {
                state.access[index(pipeline)] = Access::Granted;
                return true;
            }
            Act::EndNamespace(name) => {
                for pipeline in (0..2).filter(|index| view::pipeline(*index).namespace == *name) {
                    state.end(pipeline);
                    state.access[pipeline] = Access::Granted;
                }
                return true;
            }
            Act::MendKyverno => {
                state.kyverno_up = true;
                return true;
            }
            _ => return false,
        };
        if let Some(next) = self.edit(state, edit) {
            *state = next;
        }
        true
    }

    /// Where it comes to rest.
    fn rest(&self, state: State, others: Others) -> State {
        let mut at = state;
        for _ in 0..PATIENCE {
            match self.next_fair(&at, others) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    fn report(&self, state: &State, replica: usize) -> Vec<Said> {
        let Some(spec) = state.spec else { return Vec::new() };
        let memory = &state.replicas[replica];
        let sight = Sight {
            spec,
            ledger: Self::ledger(state, Watch::Current).cloned(),
            heard: memory.heard.clone(),
            cover: cover::seen(state, memory),
            rules: state.policies.each_ref().map(|p| p.as_ref().map(|p| p.rule(0).cloned())),
            secrets: state.secrets,
            access: state.access,
            key_secrets: state.key_secrets.clone(),
            recorded: state.recorded.clone(),
            reported: state.reported,
            day: state.day,
        };
        let report = pass::report(&view::snapshot(&sight, self.configuration.every));
        report.conditions.into_iter().zip(report.promises).collect()
    }
}

fn is_good(condition: &Condition) -> bool {
    match condition.kind {
        Kind::Reconciling | Kind::Stalled => false,
        _ => condition.status == Status::True,
    }
}
