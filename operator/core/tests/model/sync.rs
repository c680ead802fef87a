//! The passes over policies: a replica observes and plans one, and writes what
//! was planned by a compare-and-swap on the policy that it has observed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, RwLock},
};

use signingkeyring_core::{
    high_water::HighWater,
    names::PROBE_NAMESPACE,
    policy::{
        Content, Inputs, PolicyPlan, PolicySnapshot, Rendered, Renderer, Source, Step,
        snapshot::{ObjectSeen, RingSeen, WrittenSeen},
    },
};

use crate::{
    bystander::BYSTANDER,
    facts::{Keys, Stored},
    machine::{Machine, Watch},
    policy::{Policy, Written, seen_spec},
    state::{Invariant, State},
    view::{self, LABEL, NAMESPACE, POLICIES, RINGS},
};

/// Plans a pass over a policy.
pub type PolicyPlanner = fn(&PolicySnapshot, &Renderer<'_>) -> PolicyPlan;

/// Composes the object that was planned.
pub type Composer = for<'v> fn(
    &Renderer<'_>,
    &Content,
    &dyn Fn(&Source) -> Option<&'v serde_json::Value>,
) -> Option<Rendered>;

/// What a replica sees of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    policy: usize,
    found: Option<Arc<Policy>>,
    written: Option<Written>,
    rings: [RingSight; 2],
    read_anew: bool,
}

/// What it sees of a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RingSight {
    ledger: Option<Arc<Stored>>,
    was_removed: bool,
    exists: bool,
    revoked: Keys,
    remembered: HighWater,
}

/// A pass that was planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PolicyPass {
    policy: usize,
    found: Option<Arc<Policy>>,
    step: Planned,
    /// The rings whose ledgers told it that they are removed.
    removed: [bool; 2],
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Planned {
    Nothing,
    /// The ledgers have to be read anew first.
    ReadAnew,
    /// The policy holds what it should; `truly` if it does.
    Rest {
        written: Written,
        truly: bool,
    },
    /// What is stored is what was planned; `truly` if it is.
    Write {
        written: Written,
        truly: bool,
    },
    Delete,
}

/// The passes that were planned. The planner is asked once for all replicas
/// that see the same: it has nothing else to decide by.
pub type Passes = RwLock<HashMap<Sight, Arc<PolicyPass>>>;

impl Machine {
    /// A replica makes a pass over a policy. It writes at once, unless the
    /// configuration lets others do something before.
    pub fn sync(
        &self,
        state: &State,
        replica: usize,
        policy: usize,
        watches: [Watch; 2],
    ) -> Option<State> {
        if state.replicas[replica].policy_pass.is_some() {
            return None;
        }
        let mut pass = self.pass(self.sight(state, replica, policy, watches));
        if pass.step == Planned::ReadAnew {
            let sight = self.sight(state, replica, policy, [Watch::Current; 2]);
            pass = self.pass(Sight { read_anew: true, ..sight });
        }
        if self.configuration.writes_later && pass.writes() {
            let mut next = state.clone();
            next.replicas[replica].policy_pass = Some(pass);
            return Some(next);
        }
        self.finish(state, replica, &pass)
    }

    /// A replica writes the policy that it has planned.
    pub fn write(&self, state: &State, replica: usize) -> Option<State> {
        let mut next = state.clone();
        let pass = next.replicas[replica].policy_pass.take()?;
        let same = pass.found == state.policies[pass.policy];
        let written = same.then(|| self.finish(&next, replica, &pass)).flatten();
        Some(written.unwrap_or(next))
    }

    fn sight(&self, state: &State, replica: usize, policy: usize, watches: [Watch; 2]) -> Sight {
        let ledger = Self::ledger(state, watches[0]).cloned();
        // Of a ledger that is gone, a replica has seen its last state.
        let was_removed = state.past.removed && ledger.is_none();
        let ring = match &state.spec {
            None => RingSight { ledger, was_removed, ..RingSight::default() },
            Some(spec) => {
                let mut remembered = state.recorded.clone().unwrap_or_default();
                if state.reported {
                    remembered.version = remembered.version.max(1);
                }
                RingSight { ledger, was_removed, exists: true, revoked: spec.revoked, remembered }
            }
        };
        let ledger = self.bystander(state, watches[1] == Watch::Slow).cloned();
        let other = RingSight {
            exists: ledger.is_some(),
            was_removed: ledger.is_none(),
            ledger,
            ..RingSight::default()
        };
        Sight {
            policy,
            found: state.policies[policy].clone(),
            written: state.replicas[replica].written[policy].clone(),
            rings: [ring, other],
            read_anew: false,
        }
    }

    fn pass(&self, sight: Sight) -> Arc<PolicyPass> {
        if let Some(known) = self.passes.read().unwrap().get(&sight) {
            return Arc::clone(known);
        }
        let pass = Arc::new(self.plan_pass(&sight));
        let mut passes = self.passes.write().unwrap();
        Arc::clone(passes.entry(sight).or_insert(pass))
    }

    fn plan_pass(&self, sight: &Sight) -> PolicyPass {
        let inputs = Inputs {
            excluded: &[],
            operator_namespace: NAMESPACE,
            probe_namespace: PROBE_NAMESPACE,
            enrolment_label: LABEL,
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: view::now(0),
        };
        let policy = POLICIES[sight.policy];
        let kind = Renderer::new(policy, inputs);
        let step = match (self.subject.plan_policy)(&snapshot(sight), &kind).step {
            Step::Wait | Step::Conflict | Step::AllRefused => Planned::Nothing,
            Step::ReadAnew(_) => Planned::ReadAnew,
            Step::UpToDate(content) => {
                let stored = sight.found.clone().expect("a policy that rests exists");
                let truly = stored.is(&content);
                Planned::Rest {
                    written: Written { sent: content.whole.spec.digest, stored },
                    truly,
                }
            }
            Step::Write(write) => {
                let seen = |source: &Source| {
                    seen_spec(sight.found.as_deref(), sight.written.as_ref(), source)
                };
                let object = (self.subject.compose)(&kind, &write.content, &seen);
                let stored = Arc::new(Policy::new(policy, object.expect("every rule was seen")));
                let truly = stored.is(&write.content);
                Planned::Write {
                    written: Written { sent: write.content.whole.spec.digest, stored },
                    truly,
                }
            }
            Step::Delete => Planned::Delete,
        };
        let removed = |ring: &RingSight| ring.ledger.as_ref().is_some_and(|l| l.ledger.removed);
        PolicyPass {
            policy: sight.policy,
            found: sight.found.clone(),
            step,
            removed: [removed(&sight.rings[0]), removed(&sight.rings[BYSTANDER])],
        }
    }

    fn finish(&self, state: &State, replica: usize, pass: &PolicyPass) -> Option<State> {
        if pass.writes() && !state.kyverno_up {
            return None;
        }
        let mut next = state.clone();
        let policy = pass.policy;
        let written = match &pass.step {
            Planned::Nothing | Planned::ReadAnew => return None,
            Planned::Rest { written, truly } => {
                self.judge_rest(&mut next, &written.stored);
                next.demand(Invariant::TrueWords, *truly);
                Some(written)
            }
            Planned::Write { written, truly } => {
                self.judge_policy(&mut next, policy, Some(&written.stored), pass.removed);
                next.demand(Invariant::TrueWords, *truly);
                next.policies[policy] = Some(Arc::clone(&written.stored));
                Some(written)
            }
            Planned::Delete => {
                if next.policies[policy].is_some() {
                    self.judge_policy(&mut next, policy, None, pass.removed);
                }
                next.policies[policy] = None;
                None
            }
        };
        if self.configuration.remembers {
            next.replicas[replica].written[policy] = written.cloned();
        }
        (next != *state).then_some(next)
    }
}

impl PolicyPass {
    /// Whether it changes the policy.
    fn writes(&self) -> bool {
        match &self.step {
            Planned::Nothing | Planned::ReadAnew | Planned::Rest { .. } => false,
            Planned::Write { .. } => true,
            Planned::Delete => self.found.is_some(),
        }
    }
}

/// What the planner gets.
fn snapshot(sight: &Sight) -> PolicySnapshot {
    let found = sight.found.as_ref().map(|policy| ObjectSeen::Ours(policy.seen.clone()));
    let rings = RINGS.iter().zip(&sight.rings);
    let rings: BTreeMap<String, RingSeen> = rings
        .map(|(name, ring)| {
            let ring = RingSeen {
                table: ring.ledger.as_ref().map(|stored| Arc::new(stored.ledger.clone())),
                sound: true,
                was_removed: ring.was_removed,
                exists: ring.exists,
                revoked: view::revoked(ring.revoked),
                remembered: ring.remembered.clone(),
                reported: BTreeSet::new(),
                read_anew: sight.read_anew,
            };
            ((*name).to_owned(), ring)
        })
        .collect();
    PolicySnapshot {
        policy: POLICIES[sight.policy],
        served: true,
        executed: true,
        can_be_asked: true,
        found: found.unwrap_or(ObjectSeen::Absent),
        written: sight.written.as_ref().map(|written| WrittenSeen {
            sent: written.sent,
            stored: written.stored.seen.clone(),
            is_ahead: false,
        }),
        rings,
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: view::now(0),
    }
}
