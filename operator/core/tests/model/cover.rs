//! The policy that covers the ring's namespaces until the ring has come: the
//! passes over it, by the real planner, and what Kyverno has of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
};

use signingkeyring_core::{
    policy::{
        Metadata,
        cluster_policy::{ClusterPolicy, read_cover},
        unknown::{
            CoverContent, CoverHeld, CoverObject, Covering, Naming, UnknownPlan, UnknownSnapshot,
            UnknownStep, plan_unknown,
        },
    },
    policy_ref::{Action, PolicyRef},
    snapshot::{CoverAnswer, CoverFound, CoverSeen},
};

use crate::{
    machine::{Machine, Watch},
    state::{Cover, Heard, Invariant, Replica, State, rules},
    view::{self, LABEL, NAMESPACE, RINGS},
};

pub const POLICY: PolicyRef = PolicyRef::unknown(Action::Enforce);

/// What was planned for a policy that exists or not, and whom its value names:
/// the planner has nothing else to decide by.
pub type CoverSteps = Mutex<HashMap<(bool, Naming), Option<bool>>>;

/// Plans a pass over the policy.
pub type CoverPlanner = fn(&UnknownSnapshot, &ClusterPolicy<'_>) -> UnknownPlan;

impl Machine {
    /// A pass over the policy, which writes at once.
    pub fn cover(&self, state: &State, replica: usize, watch: Watch) -> Option<State> {
        let cover = state.cover?;
        let ledger = Self::ledger(state, watch);
        let naming = naming(state, replica, ledger.is_some());
        let key = (cover.stands, naming);
        let known = self.cover_steps.lock().unwrap().get(&key).copied();
        let step = known.unwrap_or_else(|| self.cover_step(cover.stands, naming));
        self.cover_steps.lock().unwrap().insert(key, step);
        let stands = step?;
        if !state.kyverno_up {
            return None;
        }
        let mut next = state.clone();
        // Who is let go of has a rule, or is nobody any more.
        let open = rules(&state.loaded) == [None; 3] && state.spec.is_some();
        next.demand(Invariant::ClosedNotOpen, stands || !open || state.past.removed);
        next.cover = Some(Cover { stands, ..cover });
        // What was answered before does not count any more.
        next.replicas[replica].cover_heard = None;
        (next != *state).then_some(next)
    }

    /// Whether the policy is to exist, if that is not as it is.
    fn cover_step(&self, stands: bool, naming: Naming) -> Option<bool> {
        let kind = ClusterPolicy {
            policy: POLICY,
            excluded: &[],
            operator_namespace: NAMESPACE,
            enrolment_label: LABEL,
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: view::now(0),
        };
        let values = BTreeSet::from([RINGS[0].to_owned()]);
        let snapshot = UnknownSnapshot {
            policy: POLICY,
            asked: Some(POLICY),
            served: true,
            executed: true,
            can_be_asked: true,
            found: if stands {
                CoverObject::Ours(held(&kind, &values))
            } else {
                CoverObject::Absent
            },
            written: None,
            values: vec![(RINGS[0].to_owned(), naming)],
            covered: if stands { values } else { BTreeSet::new() },
            replacement: None,
            excluded: Vec::new(),
            now: view::now(0),
        };
        match (self.subject.plan_cover)(&snapshot, &kind).step {
            UnknownStep::Write { .. } => Some(true),
            UnknownStep::Delete => Some(false),
            _ => None,
        }
    }
}

/// Whom the label names, as a replica knows.
fn naming(state: &State, replica: usize, has_ledger: bool) -> Naming {
    let rules = rules(&state.policies);
    let heard = &state.replicas[replica].heard;
    let answers = |policy: usize| matches!(heard[policy], Heard::Said(Some(_), _));
    if (0..rules.len()).any(|policy| rules[policy].is_some() && answers(policy)) {
        Naming::Ruled
    } else if state.spec.is_some() || has_ledger || rules != [None; 3] {
        Naming::Arriving
    } else {
        Naming::Nobody
    }
}

fn held(kind: &ClusterPolicy<'_>, values: &BTreeSet<String>) -> CoverHeld {
    let mark = kind.cover_mark(values, 1);
    let whole = kind.cover_whole(values, &mark);
    let object = kind.render_cover(&CoverContent { values: values.clone(), mark, whole });
    let (annotations, labels) = (&object.annotations, &object.labels);
    read_cover(Metadata { annotations, labels }, &object.spec)
}

/// Kyverno takes the policy in.
pub fn load(state: &State) -> Option<State> {
    let cover = state.cover.filter(|cover| state.kyverno_up && cover.loaded != cover.stands)?;
    let loaded = Some(Cover { loaded: cover.stands, ..cover });
    Some(State { cover: loaded, ..state.clone() })
}

/// A replica asks for the policy, too. That the soak begins anew once the ring is
/// let go of is the gate's doing, and left out: the planner has to do without.
pub fn ask(state: &mut State, replica: usize) {
    if let Some(cover) = state.cover {
        state.replicas[replica].cover_heard = state.kyverno_up.then_some(cover.loaded);
    }
}

/// What a replica sees of the policy.
pub fn seen(state: &State, memory: &Replica) -> Option<CoverSeen> {
    let cover = state.cover?;
    let answer = match memory.cover_heard {
        None => CoverAnswer::Unheard,
        Some(false) => CoverAnswer::Open,
        Some(true) if cover.stands => CoverAnswer::AsFound,
        Some(true) => CoverAnswer::Other,
    };
    let found = if cover.stands { CoverFound::Names } else { CoverFound::Absent };
    Some(CoverSeen { found, answer })
}

/// Takes every ring that has come for one with whose rule Kyverno answers.
pub fn lets_go_early(snapshot: &UnknownSnapshot, kind: &ClusterPolicy<'_>) -> UnknownPlan {
    let mut snapshot = snapshot.clone();
    for (_, naming) in &mut snapshot.values {
        if *naming == Naming::Arriving {
            *naming = Naming::Ruled;
        }
    }
    plan_unknown(&snapshot, kind)
}
