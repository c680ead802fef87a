//! A state of the model: the cluster, the replicas' memory, what is left of
//! the budgets, and of the past only what the invariants speak of.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use signingkeyring_core::{high_water::HighWater, plan::Action};

use crate::{
    facts::{Keys, Stored},
    policy::{Policy, Rule, Written},
    sync::PolicyPass,
};

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    pub keep: u8,
    /// 0 is no token.
    pub token: u8,
    /// The position of the policy that is to hold its rule.
    pub place: usize,
    pub pipelines: [bool; 2],
    pub finalizer: bool,
    pub deleting: bool,
    pub allow_unenforced: bool,
    pub suspend: bool,
    pub standby: bool,
    /// The numbers of versions that are to be revoked.
    pub revoked: Keys,
}

/// What a pipeline's Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    Absent,
    Foreign,
    /// The pair that was minted as this number.
    Ours(u8),
}

/// What a replica heard last from a policy's gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    Nothing,
    Open,
    Unreachable,
    Said(Option<Arc<Rule>>, Soak),
}

/// The policy that covered the ring's namespaces before the ring came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cover {
    /// Whether it exists, and so names the ring.
    pub stands: bool,
    /// Whether Kyverno has it.
    pub loaded: bool,
}

/// How an answer compares with the ledger, and whether it has for the soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Soak {
    Behind,
    Begun,
    Passed,
}

/// Actions that were planned and not yet executed, and what they were planned
/// from: the versions that their compare-and-swaps name.
#[derive(Debug)]
pub struct Pass {
    pub actions: Vec<Action>,
    pub spec: Spec,
    pub ledger: Option<Arc<Stored>>,
    pub secrets: [Held; 2],
    pub recorded: Option<HighWater>,
    pub hash: u64,
}

impl PartialEq for Pass {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Pass {}

impl Hash for Pass {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

/// The memory of an operator process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The pass under way, and how many of its actions are done.
    pub pass: Option<(Arc<Pass>, u8)>,
    pub heard: [Heard; 3],
    /// Whether the policy for labels that name no ring answered, if it was asked.
    pub cover_heard: Option<bool>,
    /// The pass over a policy that is about to write.
    pub policy_pass: Option<Arc<PolicyPass>>,
    /// What it last wrote of each policy.
    pub written: [Option<Written>; 3],
}

impl Replica {
    pub fn started() -> Self {
        Self {
            pass: None,
            heard: [const { Heard::Nothing }; 3],
            cover_heard: None,
            policy_pass: None,
            written: [const { None }; 3],
        }
    }
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub edits: u8,
    pub crashes: u8,
    pub outages: u8,
    pub withdrawals: u8,
    pub endings: u8,
    pub days: u8,
}

/// The rule of the ring under test in each of these policies.
pub fn rules(policies: &[Option<Arc<Policy>>; 3]) -> [Option<&Arc<Rule>>; 3] {
    policies.each_ref().map(|policy| policy.as_ref()?.rule(0))
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    /// Key pairs in any ledger, ever; also the serial of the last.
    pub minted: u8,
    /// The day on which the newest version began to sign, or its way there.
    pub began_on: u8,
    /// Tokens that the user has set, and those that were minted for.
    pub asked: Keys,
    pub answered: Keys,
    /// Pairs that Kyverno was heard to accept, for the soak; that were Current;
    /// that the ledger revoked; that were revoked and had left a policy.
    pub acknowledged: Keys,
    pub rested: Keys,
    pub signed: Keys,
    pub revoked: Keys,
    pub banned: Keys,
    /// Whether Kyverno has ever had the rule.
    pub enforced: bool,
    /// Whether a user deleted the ledger.
    pub lost: bool,
    /// Whether a user raised the mark of the ring's rule.
    pub raised: bool,
    /// Whether a ledger ever said that the ring was removed.
    pub removed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Nothing once the ring is gone.
    pub spec: Option<Spec>,
    pub ledger: Option<Arc<Stored>>,
    /// The ledger before its last change, as a slow watch still shows it.
    pub older: Option<Arc<Stored>>,
    /// How far the other ring has come in its script.
    pub bystander: u8,
    /// The policies, by their positions.
    pub policies: [Option<Arc<Policy>>; 3],
    pub loaded: [Option<Arc<Policy>>; 3],
    pub kyverno_up: bool,
    /// The policy for labels that name no ring, where there is one.
    pub cover: Option<Cover>,
    pub secrets: [Held; 2],
    pub access: [Access; 2],
    /// The Secrets of standby keys: which pair, and the ledger's sequence then.
    pub key_secrets: Vec<(u8, u64)>,
    /// What the ring's annotation remembers.
    pub recorded: Option<HighWater>,
    pub replicas: Vec<Replica>,
    pub day: u8,
    /// Whether the ring's status names a version.
    pub reported: bool,
    pub left: Budget,
    pub past: Past,
    pub broken: Option<Invariant>,
}

/// Whether the operator may look into a pipeline's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Granted,
    Withdrawn,
    /// It is being deleted, and its owner's consent with it.
    Ending,
}

/// What must always hold, by its name in ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    NoGap,
    Window,
    ExactlyOnce,
    NoMintOverALoss,
    RevokedStaysRevoked,
    PrivateKeysKnown,
    Silence,
    NotOursNotTouched,
    ClosedNotOpen,
    SuspendedIsFrozen,
    KnownKeysOnly,
    TrueWords,
}
