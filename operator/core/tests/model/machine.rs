//! The model that the checker explores: which moves there are in a state, and
//! what each makes of it.

use std::{ops::Range, sync::Arc};

use signingkeyring_core::{
    pass,
    plan::Plan,
    policy::{plan_policy, unknown::plan_unknown},
    snapshot::Snapshot,
};
use stateright::{Model, Property};

use crate::{
    act::Plans,
    bystander,
    configurations::Configuration,
    cover::{CoverPlanner, CoverSteps},
    facts::{Archive, Stored, hash_of},
    settle::Verdicts,
    state::{Invariant, State},
    sync::{Composer, Passes, PolicyPlanner},
};

pub type Planner = fn(&Snapshot) -> Plan;

/// What is judged: both planners, and who composes what they plan.
#[derive(Clone, Copy)]
pub struct Subject {
    pub plan: Planner,
    pub plan_policy: PolicyPlanner,
    pub compose: Composer,
    pub plan_cover: CoverPlanner,
    /// Whether a new leader goes by what the one before it has heard.
    pub inherits: bool,
}

impl Subject {
    /// The planners as they are.
    pub const REAL: Self = Self {
        plan: pass::plan,
        plan_policy: |snapshot, kind| plan_policy(snapshot, kind),
        compose: |kind, content, seen| kind.compose(content, seen),
        plan_cover: |snapshot, kind| plan_unknown(snapshot, kind),
        inherits: false,
    };
}

/// Which ledger somebody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Current,
    Slow,
}

/// One move of somebody.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// A replica observes, plans and keeps the actions for later.
    Plan(usize, Watch),
    /// It executes the next of them.
    Act(usize),
    /// It ends where it is and starts again, knowing nothing.
    Crash(usize),
    /// Another replica leads, wherever the one before it was.
    TakeOver,
    /// It asks the gates of the ring's policies, a soak after it last did.
    Ask(usize),
    /// A replica makes a pass over a policy; it sees the two rings' ledgers.
    Sync(usize, usize, [Watch; 2]),
    /// It writes the policy that it has planned.
    Write(usize),
    /// The other ring's ledger changes.
    Bystander,
    /// Kyverno takes in a policy.
    Load(usize),
    /// A replica makes a pass over the policy for labels that name no ring.
    Cover(usize, Watch),
    /// Kyverno takes it in.
    LoadCover,
    KyvernoGoes,
    KyvernoComes,
    /// The owner of a pipeline's namespace withdraws or grants access.
    Withdraw(usize),
    Grant(usize),
    /// Somebody deletes a pipeline's namespace, which stays for a while.
    EndNamespace(usize),
    /// It is gone, and there again, without its owner's consent.
    NamespaceEnds(usize),
    /// A day passes.
    Day,
    User(Edit),
}

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Sets the rotation token to a new value.
    Rotate,
    /// Sets it to the value before the last, as a GitOps tool may.
    RotateBack,
    Keep(u8),
    /// Puts a pipeline into the spec, or takes it out.
    Pipeline(usize, bool),
    /// Asks for the rule to be in the policy at this position.
    Move(usize),
    /// Revokes a version; takes every revocation out of the spec.
    Revoke(u8),
    Unrevoke,
    Suspend(bool),
    Standby(bool),
    Delete,
    AllowUnenforced,
    /// Deletes a pipeline's Secret.
    DropSecret(usize),
    /// Puts a Secret of their own in its place.
    TakeSecret(usize),
    /// Puts a key of their own into the ring's rule and raises its mark.
    RaiseMark,
    /// Deletes the ledger.
    LoseLedger,
    /// Deletes it while it has no version.
    LoseUnborn,
}

/// The model of one configuration, with a planner to judge.
pub struct Machine {
    pub configuration: Configuration,
    pub subject: Subject,
    pub archive: Archive,
    /// The states of the other ring's ledger.
    pub bystander: Vec<Option<Arc<Stored>>>,
    pub plans: Plans,
    pub passes: Passes,
    pub verdicts: Verdicts,
    pub cover_steps: CoverSteps,
    start: State,
}

impl Machine {
    pub fn new(configuration: Configuration, subject: Subject) -> Self {
        // What came before is not to be judged: the planners as they are did it.
        let start = configuration.unborn();
        let archive = Archive::default();
        let bystander = bystander::script(configuration.bystander, &archive);
        let mut machine = Self {
            configuration,
            subject: Subject::REAL,
            archive,
            bystander,
            plans: Plans::default(),
            passes: Passes::default(),
            verdicts: Verdicts::default(),
            cover_steps: CoverSteps::default(),
            start,
        };
        if machine.configuration.born {
            machine.start = machine.serving();
        }
        Self {
            subject,
            plans: Plans::default(),
            passes: Passes::default(),
            verdicts: Verdicts::default(),
            cover_steps: CoverSteps::default(),
            ..machine
        }
    }

    pub fn ledger(state: &State, watch: Watch) -> Option<&Arc<Stored>> {
        match watch {
            Watch::Current => state.ledger.as_ref(),
            Watch::Slow => state.older.as_ref(),
        }
    }

    fn passes_over_policies(&self, state: &State, watches: &[Watch], moves: &mut Vec<Move>) {
        // One change late at most: of one ring or of the other.
        let own = watches.iter().map(|watch| [*watch, Watch::Current]);
        let late = self.configuration.slow_watches && state.bystander > 0;
        let other = late.then_some([Watch::Current, Watch::Slow]);
        for replica in self.writers() {
            if state.replicas[replica].policy_pass.is_some() {
                moves.push(Move::Write(replica));
                continue;
            }
            for policy in self.configuration.places.iter().copied() {
                let other = other.filter(|_| policy == 0);
                let each = own.clone().chain(other);
                moves.extend(each.map(|watches| Move::Sync(replica, policy, watches)));
            }
        }
    }

    /// The replicas that make passes over policies. Who remembers nothing is
    /// like any other.
    pub fn writers(&self) -> Range<usize> {
        let alike = !self.configuration.remembers && !self.configuration.writes_later;
        0..if alike { 1 } else { self.configuration.replicas }
    }

    /// A ring that has been serving for a while.
    fn serving(&self) -> State {
        let settled = |mut state: State| {
            while let Some(next) = self.fair(&state) {
                state = next;
            }
            state
        };
        let mut state = settled(self.start.clone());
        for _ in 0..self.configuration.rotations {
            state = settled(self.edit(&state, Edit::Rotate).unwrap());
        }
        state.older.clone_from(&state.ledger);
        state
    }
}

impl Model for Machine {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        if state.broken.is_some() {
            return;
        }
        let watches = if self.configuration.slow_watches && state.older != state.ledger {
            &[Watch::Current, Watch::Slow][..]
        } else {
            &[Watch::Current]
        };
        for (index, replica) in state.replicas.iter().enumerate() {
            if replica.pass.is_some() {
                moves.push(Move::Act(index));
            } else {
                moves.extend(watches.iter().map(|watch| Move::Plan(index, *watch)));
            }
            moves.push(Move::Ask(index));
            if state.left.crashes > 0 && !self.configuration.elects {
                moves.push(Move::Crash(index));
            }
        }
        if state.left.crashes > 0 && self.configuration.elects {
            moves.push(Move::TakeOver);
        }
        self.passes_over_policies(state, watches, moves);
        if state.cover.is_some() {
            moves.push(Move::LoadCover);
            for replica in 0..state.replicas.len() {
                moves.extend(watches.iter().map(|watch| Move::Cover(replica, *watch)));
            }
        }
        moves.extend(self.configuration.places.iter().map(|place| Move::Load(*place)));
        moves.push(Move::Bystander);
        moves.extend([Move::KyvernoComes, Move::Grant(0), Move::Grant(1)]);
        moves.extend([Move::NamespaceEnds(0), Move::NamespaceEnds(1)]);
        if state.left.outages > 0 {
            moves.push(Move::KyvernoGoes);
        }
        if state.left.withdrawals > 0 {
            moves.extend([Move::Withdraw(0), Move::Withdraw(1)]);
        }
        if state.left.endings > 0 {
            moves.extend([Move::EndNamespace(0), Move::EndNamespace(1)]);
        }
        if state.left.days > 0 {
            moves.push(Move::Day);
        }
        if state.left.edits > 0 && state.spec.is_some() {
            moves.extend(self.configuration.edits.iter().map(|edit| Move::User(*edit)));
        }
    }

    fn next_state(&self, state: &State, step: Move) -> Option<State> {
        let mut next = self.step(state, &step)?;
        // Replicas have no names: two states that differ in theirs are one.
        if let [a, b] = &next.replicas[..]
            && !self.configuration.elects
            && hash_of(a) > hash_of(b)
        {
            next.replicas.swap(0, 1);
        }
        self.judge(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn keeps(invariant: Invariant, state: &State) -> bool {
            state.broken != Some(invariant)
        }
        vec![
            Property::always("no-gap", |_, s| keeps(Invariant::NoGap, s)),
            Property::always("window", |_, s| keeps(Invariant::Window, s)),
            Property::always("exactly-once", |_, s| keeps(Invariant::ExactlyOnce, s)),
            Property::always("no-mint-over-a-loss", |_, s| keeps(Invariant::NoMintOverALoss, s)),
            Property::always("revoked-stays-revoked", |_, s| {
                keeps(Invariant::RevokedStaysRevoked, s)
            }),
            Property::always("private-keys-known", |_, s| keeps(Invariant::PrivateKeysKnown, s)),
            Property::always("silence", |_, s| keeps(Invariant::Silence, s)),
            Property::always("not-ours-not-touched", |_, s| keeps(Invariant::NotOursNotTouched, s)),
            Property::always("closed-not-open", |_, s| keeps(Invariant::ClosedNotOpen, s)),
            Property::always("settles", Self::settles),
            Property::always("suspended-is-frozen", |_, s| keeps(Invariant::SuspendedIsFrozen, s)),
            Property::always("known-keys-only", |_, s| keeps(Invariant::KnownKeysOnly, s)),
            Property::always("true-words", |machine: &Self, s| {
                keeps(Invariant::TrueWords, s) && machine.keeps_its_word(s)
            }),
        ]
    }
}
