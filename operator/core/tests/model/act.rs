//! The moves of a replica: it plans a pass, and executes it write by write,
//! each a compare-and-swap on what the pass has observed.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use signingkeyring_core::{
    high_water::HighWater,
    ledger::{Cause, Change, Ledger, Mint},
    plan::Action,
    snapshot::CoverSeen,
};

use crate::{
    cover,
    facts::{Stored, hash_of, key, serial_of},
    machine::{Machine, Watch},
    policy::Rule,
    state::{Access, Heard, Held, Pass, Spec, State},
    view,
};

/// What a replica sees of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    pub spec: Spec,
    pub ledger: Option<Arc<Stored>>,
    pub heard: [Heard; 3],
    pub cover: Option<CoverSeen>,
    /// Of each policy that exists, the ring's rule in it.
    pub rules: [Option<Option<Arc<Rule>>>; 3],
    pub secrets: [Held; 2],
    pub access: [Access; 2],
    pub key_secrets: Vec<(u8, u64)>,
    pub recorded: Option<HighWater>,
    pub reported: bool,
    pub day: u8,
}

/// The passes that were planned. The planner is asked once for all replicas
/// that see the same: it has nothing else to decide by.
pub type Plans = RwLock<HashMap<Sight, Option<Arc<Pass>>>>;

/// What became of a write.
enum Outcome {
    Done,
    /// The pipeline would not have it; the pass goes on.
    Failed,
    /// Somebody else was faster; the pass ends.
    Conflict,
}

impl Machine {
    /// Plans with the planner under test.
    pub fn plan(&self, state: &State, replica: usize, watch: Watch) -> Option<State> {
        let spec = state.spec?;
        let memory = &state.replicas[replica];
        if memory.pass.is_some() {
            return None;
        }
        let ledger = Self::ledger(state, watch);
        let sight = Sight {
            spec,
            ledger: ledger.cloned(),
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
        let Some(pass) = self.planned(sight) else { return report(state, ledger) };
        let mut next = state.clone();
        next.replicas[replica].pass = Some((pass, 0));
        Some(next)
    }

    fn planned(&self, sight: Sight) -> Option<Arc<Pass>> {
        if let Some(known) = self.plans.read().unwrap().get(&sight) {
            return known.clone();
        }
        let snapshot = view::snapshot(&sight, self.configuration.every);
        let actions = (self.subject.plan)(&snapshot).actions;
        let pass = (!actions.is_empty()).then(|| {
            let Sight { spec, ref ledger, secrets, ref recorded, .. } = sight;
            let hash = hash_of(&(format!("{actions:?}"), spec, ledger, secrets, recorded));
            let (ledger, recorded) = (ledger.clone(), recorded.clone());
            Arc::new(Pass { actions, spec, ledger, secrets, recorded, hash })
        });
        self.plans.write().unwrap().entry(sight).or_insert(pass).clone()
    }

    /// Executes the next action of a pass; the status is written at its end.
    pub fn act(&self, state: &State, replica: usize) -> Option<State> {
        state.replicas[replica].pass.as_ref()?;
        let mut next = state.clone();
        let (pass, done) = next.replicas[replica].pass.take()?;
        let outcome = self.execute(&mut next, &pass, &pass.actions[usize::from(done)]);
        let done = done + 1;
        if usize::from(done) < pass.actions.len() {
            if !matches!(outcome, Outcome::Conflict) {
                next.replicas[replica].pass = Some((pass, done));
            }
        } else if !matches!(outcome, Outcome::Conflict)
            && let Some(reported) = report(&next, pass.ledger.as_ref())
        {
            next = reported;
        }
        Some(next)
    }

    fn execute(&self, state: &mut State, pass: &Pass, action: &Action) -> Outcome {
        match action {
            Action::AddFinalizer(mark) => {
                if state.spec != Some(pass.spec) || state.recorded != pass.recorded {
                    return Outcome::Conflict;
                }
                if let Some(spec) = &mut state.spec {
                    spec.finalizer = true;
                }
                if let Some(mark) = mark {
                    self.judge_record(state, mark);
                    state.recorded = Some(mark.clone());
                }
            }
            Action::RemoveFinalizer => {
                if state.spec != Some(pass.spec) || state.recorded != pass.recorded {
                    return Outcome::Conflict;
                }
                self.judge_end(state);
                state.spec = None;
            }
            Action::RecordHighWater(mark) => {
                if state.spec != Some(pass.spec) || state.recorded != pass.recorded {
                    return Outcome::Conflict;
                }
                self.judge_record(state, mark);
                state.recorded = Some(mark.clone());
            }
            Action::DeleteKeySecret(name) => {
                self.judge_key_deletion(state, name);
                state.key_secrets.retain(|(serial, _)| view::key_secret(*serial) != *name);
            }
            Action::Mint(Mint::New { cause: Cause::Standby, .. })
                if state.ledger != pass.ledger =>
            {
                // The key's Secret comes first, and stays behind.
                let sequence = ledger_sequence(pass);
                if !state.key_secrets.contains(&(STRAY, sequence)) {
                    state.key_secrets.push((STRAY, sequence));
                }
                return Outcome::Conflict;
            }
            _ if needs_ledger(action) && state.ledger != pass.ledger => return Outcome::Conflict,
            Action::Mint(mint) => return self.mint(state, pass, mint),
            Action::Commit(change) => return self.commit(state, pass, change),
            Action::WriteSecret { pipeline, version, .. } => {
                let index = view::index_of(pipeline);
                let Some(serial) = serial(state, *version) else {
                    self.judge_missing_key(state);
                    return Outcome::Conflict;
                };
                if state.access[index] != Access::Granted {
                    return Outcome::Failed;
                }
                if state.secrets[index] != pass.secrets[index] {
                    return Outcome::Conflict;
                }
                self.judge_write(state, index, serial);
                state.secrets[index] = Held::Ours(serial);
            }
            Action::DeleteSecret(pipeline) => {
                let index = view::index_of(pipeline);
                if state.access[index] != Access::Granted {
                    return Outcome::Failed;
                }
                if state.secrets[index] == Held::Absent {
                    return Outcome::Done;
                }
                if state.secrets[index] != pass.secrets[index] {
                    return Outcome::Conflict;
                }
                self.judge_deletion(state, index);
                state.secrets[index] = Held::Absent;
            }
            Action::DeleteLedger => {
                self.judge_ledger_deletion(state);
                state.older = state.ledger.take();
            }
        }
        Outcome::Done
    }

    fn mint(&self, state: &mut State, pass: &Pass, mint: &Mint) -> Outcome {
        let serial = state.past.minted + 1;
        let standby = matches!(mint, Mint::New { cause: Cause::Standby, .. });
        let mut pair = key(serial);
        pair.private_key.secret = standby.then(|| view::key_secret(serial));
        let base = pass.ledger.as_ref().map(|stored| &stored.ledger);
        let Ok(ledger) = Ledger::mint(base, mint, pair, view::now(state.day)) else {
            return Outcome::Conflict;
        };
        let stored = self.archive.store(ledger);
        self.judge_mint(state, pass, mint, &stored);
        if standby {
            let sequence = ledger_sequence(pass);
            state.key_secrets.push((serial, sequence));
        }
        state.past.minted = serial;
        state.older = state.ledger.replace(stored);
        Outcome::Done
    }

    fn commit(&self, state: &mut State, pass: &Pass, change: &Change) -> Outcome {
        let base = pass.ledger.as_ref().map(|stored| &stored.ledger);
        let Ok(ledger) = Ledger::apply(base, change, view::now(state.day)) else {
            return Outcome::Conflict;
        };
        let stored = self.archive.store(ledger);
        self.judge_commit(state, pass, change, &stored);
        state.older = state.ledger.replace(stored);
        Outcome::Done
    }
}

/// Stands for every standby key whose commit was refused.
pub const STRAY: u8 = 15;

fn ledger_sequence(pass: &Pass) -> u64 {
    pass.ledger.as_ref().map_or(0, |base| base.ledger.sequence)
}

fn needs_ledger(action: &Action) -> bool {
    action.is_commit() || matches!(action, Action::WriteSecret { .. } | Action::DeleteLedger)
}

/// The pair of a version whose private key the ledger holds.
fn serial(state: &State, version: u32) -> Option<u8> {
    let ledger = &state.ledger.as_ref()?.ledger;
    let row = ledger.by_number(version)?;
    let place = row.private_key()?.secret.as_ref();
    let serial = serial_of(&row.public_key.text());
    let there = state.key_secrets.iter().any(|(other, _)| *other == serial);
    (place.is_none() || there).then_some(serial)
}

/// The status after a pass: it names the versions of the ledger that was seen.
fn report(state: &State, seen: Option<&Arc<Stored>>) -> Option<State> {
    let names = seen.is_some_and(|seen| !seen.ledger.versions.is_empty());
    (names && !state.reported).then(|| State { reported: true, ..state.clone() })
}
