//! A cluster in memory: executes the plans of a ring one action at a time and
//! those of its policies, with a Kyverno that runs when told to, and judges
//! every state.
//!
//! It knows the invariants from their text, not from the planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use signingkeyring_core::{
    condition::{Condition, Kind},
    fingerprint::Fingerprint,
    high_water::HighWater,
    ledger::{KnownVersion, Ledger, PipelineRef, Version},
    marks::RuleState,
    names::RingName,
    pass,
    plan::Plan,
    policy_ref::{Action as RuleAction, PolicyKind, PolicyRef},
    report::Report,
    schedule::Windows,
    snapshot::{Answer, CoverSeen, ImportFound, KeySecret, Layout, Ring},
    usable::Because,
};

mod happen;
mod judge;
mod look;
mod obey;
mod obstacles;
mod policies;

pub use obstacles::Obstacle;
use policies::{Policy, Written};

pub const RING: &str = "shop";
pub const NAMESPACE: &str = "signing-system";
pub const ACCOUNT: &str = "system:serviceaccount:signing-system:signingkeyring-operator";
pub const LABEL: &str = "signing.odj.cloud/ring";
pub const SOAK: u64 = 10;
/// For so many seconds a rule that moves may rest between two phases.
const LONGEST_PHASE: u32 = 18;
pub const ENFORCE: PolicyRef = PolicyRef::new(RuleAction::Enforce, 1);
pub const AUDIT: PolicyRef = PolicyRef::new(RuleAction::Audit, 1);
/// The policies that a ring alone can be placed in.
pub const POLICIES: [PolicyRef; 4] = [
    ENFORCE,
    AUDIT,
    ENFORCE.of_kind(PolicyKind::ImageValidatingPolicy),
    AUDIT.of_kind(PolicyKind::ImageValidatingPolicy),
];

#[derive(Clone, Debug)]
pub struct World {
    pub ring: Option<Ring>,
    pub ledger: Option<Ledger>,
    pub policies: BTreeMap<PolicyRef, Arc<Policy>>,
    pub loaded: BTreeMap<PolicyRef, Arc<Policy>>,
    pub kyverno_up: bool,
    /// Whether a new key can be sealed at once.
    pub can_seal: bool,
    /// The policies for namespaces whose label names no ring.
    pub covers: BTreeMap<PolicyRef, CoverSeen>,
    /// Why Kyverno cannot be asked, if so.
    pub questions_missing: Option<String>,
    /// A policy that cannot be written.
    pub stuck: Option<PolicyRef>,
    /// The versions in the ring's status.
    pub status: Vec<KnownVersion>,
    /// What the ring's annotation remembers.
    pub recorded: Option<HighWater>,
    /// The Secrets of standby keys, with the ledger's sequence when written.
    pub key_secrets: BTreeMap<String, KeySecret>,
    /// The fingerprint each Secret holds.
    pub secrets: BTreeMap<PipelineRef, Fingerprint>,
    pub forbidden: BTreeSet<PipelineRef>,
    /// The Secrets that nobody can change.
    pub fixed: BTreeSet<PipelineRef>,
    /// The namespaces that are being deleted.
    pub terminating: BTreeSet<String>,
    pub enrolled: BTreeSet<String>,
    pub now: Timestamp,
    /// What is in the way.
    pub obstacles: Vec<Obstacle>,
    /// Whether nobody knows any more what the pipelines sign with.
    pub forgotten: bool,
    /// The newest backup of the ledger.
    pub backup: Option<Ledger>,
    /// The key pair that the ring is to take over, if it is.
    pub import: Option<ImportFound>,
    /// The ring that has it first.
    pub shares_key_with: Option<RingName>,
    /// Per policy: what was heard, for which mark, since when, last when.
    pub heard: BTreeMap<PolicyRef, (Answer, RuleState, Timestamp, Timestamp)>,
    written: BTreeMap<PolicyRef, Written>,
    pub minted: u32,
    /// The public keys of all of them.
    keys: BTreeSet<String>,
    /// How many of them were to stand by.
    pub standbys: usize,
    pub writes: usize,
    /// Whether the ring's deletion was allowed to open the gate.
    pub removed: bool,
}

pub fn pipeline(number: u8) -> PipelineRef {
    PipelineRef { namespace: format!("ci-{number}"), name: "image-signing".into() }
}

pub fn ring() -> Ring {
    Ring {
        keep: 3,
        every: None,
        windows: Windows::default(),
        soak: Duration::from_secs(SOAK),
        pipelines: BTreeMap::from([(pipeline(1), Layout::Cosign)]),
        action: RuleAction::Enforce,
        kind: PolicyKind::ClusterPolicy,
        kind_because: Because::Asked,
        exclude: Vec::new(),
        credentials: [].into(),
        token: None,
        deleting: false,
        allow_unenforced: false,
        finalizer: false,
        standby: false,
        suspend: false,
        revoked: Vec::new(),
        recover_after: None,
        problems: Vec::new(),
    }
}

/// What the ring's status tells of a version.
fn known(version: &Version) -> KnownVersion {
    KnownVersion {
        number: version.number,
        public_key: version.public_key.to_string(),
        fingerprint: version.fingerprint.clone(),
        created_at: version.created_at,
        state: version.state(),
        activated_at: version.activated_at(),
        record: version.record,
    }
}

impl World {
    pub fn new() -> Self {
        Self {
            ring: Some(ring()),
            ledger: None,
            policies: BTreeMap::new(),
            loaded: BTreeMap::new(),
            kyverno_up: true,
            can_seal: true,
            covers: BTreeMap::new(),
            questions_missing: None,
            stuck: None,
            status: Vec::new(),
            recorded: None,
            key_secrets: BTreeMap::new(),
            secrets: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            fixed: BTreeSet::new(),
            terminating: BTreeSet::new(),
            enrolled: BTreeSet::from(["shop-dev".to_owned()]),
            now: "2026-11-24T10:00:00Z".parse().unwrap(),
            obstacles: Vec::new(),
            forgotten: false,
            backup: None,
            import: None,
            shares_key_with: None,
            heard: BTreeMap::new(),
            written: BTreeMap::new(),
            minted: 0,
            keys: BTreeSet::new(),
            standbys: 0,
            writes: 0,
            removed: false,
        }
    }

    pub fn ring_mut(&mut self) -> &mut Ring {
        self.ring.as_mut().unwrap()
    }

    pub fn plan(&self) -> Option<Plan> {
        Some(pass::plan(&self.snapshot()?))
    }

    pub fn report(&self) -> Option<Report> {
        Some(pass::report(&self.snapshot()?))
    }

    pub fn condition(&self, kind: Kind) -> Option<Condition> {
        self.report()?.conditions.into_iter().find(|c| c.kind == kind)
    }

    /// One pass; a crash comes after so many actions.
    pub fn pass(&mut self, crash_after: usize) {
        self.rid_of(|obstacle| *obstacle == Obstacle::Trouble);
        let Some(plan) = self.plan() else { return };
        for action in plan.actions.into_iter().take(crash_after) {
            self.execute(&action);
            self.judge();
        }
        if let Some(ledger) = &self.ledger {
            self.status = ledger.versions.iter().map(known).collect();
        }
    }

    /// An operator that starts knows no answers, and not what it wrote.
    pub fn restart(&mut self) {
        self.heard.clear();
        self.written.clear();
    }

    /// The namespace of a pipeline is being deleted, and its owner's consent with it.
    pub fn end_namespace(&mut self, pipeline: &PipelineRef) {
        self.terminating.insert(pipeline.namespace.clone());
        self.forbidden.insert(pipeline.clone());
    }

    /// Those that were being deleted are gone with what was in them, and are there again.
    pub fn namespaces_are_created_anew(&mut self) {
        let ended = std::mem::take(&mut self.terminating);
        self.secrets.retain(|secret, _| !ended.contains(&secret.namespace));
        self.forbidden.retain(|secret| !ended.contains(&secret.namespace));
    }

    pub fn tick(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// Lets everything happen until nothing does; returns whether it came to rest. A rule
    /// that moves rests between its phases, for the soak or as long as a policy that does
    /// not let go is waited for.
    pub fn settle(&mut self) -> bool {
        let mut quiet = 0;
        for _ in 0..400 {
            let before = (self.ring.is_some(), self.writes);
            self.sync_policies();
            self.load();
            self.ask();
            self.pass(usize::MAX);
            self.tick(1);
            let after = (self.ring.is_some(), self.writes);
            let suspended = self.ring.as_ref().is_some_and(|ring| ring.suspend);
            let waiting = !suspended && self.ledger.as_ref().is_some_and(|l| l.pending().is_some());
            let planned = self.plan().is_some_and(|plan| !plan.actions.is_empty());
            quiet = if before == after && !planned && !waiting { quiet + 1 } else { 0 };
            let moves = self.ledger.as_ref().is_some_and(|l| l.rule.settings.leaving.is_some());
            if quiet > if moves { LONGEST_PHASE } else { 0 } {
                return true;
            }
        }
        false
    }
}
