//! What a pass finds in its way that this world does not play out: it is seen as
//! long as it is there, and goes by what a person does.

use std::{sync::Arc, time::Duration};

use signingkeyring_core::{
    ledger::{Damage, PipelineRef},
    omissions::Omission,
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::{
        Answer, Difference, LedgerFound, PipelineFound, PolicyFound, Silence, Snapshot, Witness,
        WriteFailure,
    },
    usable::Unusable,
};

use super::{ENFORCE, World};

#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// The cluster does not serve Kyverno's kind.
    NoKyverno,
    /// Kyverno takes no changes of policies of this kind any more.
    Frozen(PolicyKind),
    /// Kyverno has loaded no policy of this kind for long.
    NotLoaded(PolicyKind),
    /// The namespace is gone in which the newer kind is asked.
    NoProbe,
    /// The cluster does not serve this kind.
    NotServed(PolicyKind),
    /// It does, and has a Kyverno that is too old for it.
    OlderKyverno(PolicyKind),
    /// Somebody's object has the policy's name.
    ForeignPolicy,
    /// Kyverno refuses the rule.
    Rejected,
    /// The policy, or its pin, is not what it should be and cannot be written.
    Unwritable(Difference),
    /// It is gone and cannot be created.
    Uncreatable,
    /// Something else answers the gate.
    Unreadable,
    /// Kyverno passes the question without an answer, for long.
    Silent,
    /// It takes longer than it may, for long.
    Slow,
    /// The kind by which Kyverno is asked is not served.
    NoQuestions,
    /// Kyverno answers with another rest of the rule, for long.
    Outdated,
    /// A Secret's namespace is not there.
    NoNamespace(PipelineRef),
    /// A Secret is somebody's, or another ring's.
    Foreign(PipelineRef, Option<&'static str>),
    /// It holds no key that the ledger knows.
    UnknownKey(PipelineRef),
    /// Looking at it fails.
    Failed(PipelineRef),
    /// Somebody's finalizers hold it.
    Leaving(PipelineRef),
    /// The ring's object asks for something that cannot be served.
    Problem,
    /// The ledger's private keys are not the ones that its table means.
    Damaged,
    /// The ledger's annotation cannot be read.
    DamagedAsAWhole,
    /// Something else has the ledger's name.
    ForeignLedger,
    /// Somebody raised the policy's mark.
    RaisedMark,
    /// The API server refuses a write.
    Trouble,
    /// So many other rings rotate as may at once.
    OthersRotate,
    /// Kyverno leaves something out.
    LeavesOut(Omission),
}

impl World {
    pub(super) fn with_obstacles(&self, mut snapshot: Snapshot) -> Snapshot {
        for obstacle in &self.obstacles {
            obstacle.appear(&mut snapshot, self);
        }
        snapshot
    }

    pub fn meets(&mut self, obstacle: Obstacle) {
        match &obstacle {
            Obstacle::NoNamespace(pipeline) | Obstacle::Foreign(pipeline, _) => {
                self.secrets.remove(pipeline);
            }
            _ => {}
        }
        self.obstacles.push(obstacle);
    }

    pub fn rid_of(&mut self, mut is_gone: impl FnMut(&Obstacle) -> bool) {
        self.obstacles.retain(|obstacle| !is_gone(obstacle));
    }
}

impl Obstacle {
    /// Whether a Kyverno, and other rings, that do their part take it away.
    pub fn goes_by_itself(&self) -> bool {
        match self {
            Self::LeavesOut(omission) => omission.comes_with_the_policy(),
            Self::OthersRotate => true,
            _ => false,
        }
    }

    fn appear(&self, seen: &mut Snapshot, world: &World) {
        let mut found = |pipeline: &PipelineRef, found: PipelineFound| {
            if let Some(there) = seen.pipelines.get_mut(pipeline) {
                *there = found;
            }
        };
        match self {
            Self::NoNamespace(pipeline) => found(pipeline, PipelineFound::NoNamespace),
            Self::Foreign(pipeline, ring) => {
                let ring = ring.map(|ring| ring.parse().unwrap());
                found(pipeline, PipelineFound::Foreign { ring, holds: None });
            }
            Self::UnknownKey(pipeline) => {
                found(pipeline, PipelineFound::OursUnknownKey { holds: None });
            }
            Self::Failed(pipeline) => found(pipeline, PipelineFound::Failed("too slow".into())),
            Self::Leaving(pipeline) => {
                if let Some(PipelineFound::Ours { leaving, .. }) = seen.pipelines.get_mut(pipeline)
                {
                    *leaving = true;
                }
            }
            Self::NoKyverno => seen.served.clear(),
            Self::Frozen(kind) => {
                seen.unusable.insert(*kind, Unusable::Frozen("deprecated".into()));
            }
            Self::NotLoaded(kind) => {
                seen.unusable.insert(*kind, Unusable::NotLoaded);
                for (_, asked) in seen.policies.iter_mut().filter(|(p, _)| p.kind() == *kind) {
                    asked.answer = Answer::Silent(Silence::Passed, Duration::from_secs(60));
                }
            }
            Self::NoProbe => {
                seen.probe_missing = Some("there is no such namespace".into());
                let asked_there = |policy: &PolicyRef| !policy.kind().has_question_kind();
                for (_, asked) in seen.policies.iter_mut().filter(|(p, _)| asked_there(p)) {
                    asked.answer = Answer::Unreadable("not found".into());
                }
            }
            Self::NotServed(kind) => {
                seen.served.remove(kind);
            }
            Self::OlderKyverno(kind) => {
                seen.outdated.insert(*kind);
            }
            Self::NoQuestions => seen.questions_missing = Some("it was deleted".into()),
            Self::Problem => seen.ring.problems.push("spec.rotation.every: write 1h".into()),
            Self::LeavesOut(omission) => {
                seen.omissions.get_or_insert_default().push(omission.clone());
            }
            Self::OthersRotate => seen.rotations_full = Some(3),
            Self::Trouble => seen.trouble = Some("ledger: no leader".into()),
            Self::ForeignLedger => seen.ledger = LedgerFound::Foreign,
            Self::Damaged => {
                if let Some(ledger) = &world.ledger {
                    let (why, table) = ("no key fits".to_owned(), Arc::new(ledger.clone()));
                    seen.ledger = LedgerFound::Damaged(Damage::KeysUnfit { why, table });
                }
            }
            Self::DamagedAsAWhole => {
                let why = "it was cut".to_owned();
                seen.ledger = LedgerFound::Damaged(Damage::Unreadable { why });
            }
            Self::RaisedMark => {
                let high_water = world.ledger.as_ref().map(|l| l.high_water()).unwrap_or_default();
                seen.witnesses.push(Witness {
                    who: format!("policy {ENFORCE}"),
                    policy: Some(ENFORCE),
                    high_water,
                    sequence: Some(1_000),
                });
            }
            _ => {
                for policy in seen.policies.values_mut() {
                    self.stands_in(&mut policy.found, &mut policy.answer);
                }
            }
        }
    }

    fn stands_in(&self, found: &mut PolicyFound, answer: &mut Answer) {
        let failed = |refused| Some(WriteFailure { refused, message: "no".into() });
        match (self, found) {
            (Self::ForeignPolicy, found) => *found = PolicyFound::Foreign,
            (Self::Uncreatable, found) => *found = PolicyFound::Absent { failure: failed(false) },
            (Self::Unreadable, _) => *answer = Answer::Unreadable("a quota".into()),
            (Self::Silent, _) => {
                *answer = Answer::Silent(Silence::Passed, Duration::from_secs(60));
            }
            (Self::Slow, _) => {
                *answer = Answer::Slow("deadline exceeded".into(), Duration::from_secs(60));
            }
            (Self::Rejected, PolicyFound::Ours { failure, .. }) => *failure = failed(true),
            (Self::Unwritable(how), PolicyFound::Ours { failure, differs, .. }) => {
                (*failure, *differs) = (failed(false), Some(*how));
            }
            (Self::Outdated, _) => {
                if let Answer::Answered { behind, .. } = answer {
                    *behind = Duration::from_secs(60);
                }
            }
            _ => {}
        }
    }
}
