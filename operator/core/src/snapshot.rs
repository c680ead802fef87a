//! All that the planner may see of a ring and of the world around it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    account::Account,
    api_enum::api_enum,
    condition::Condition,
    fingerprint::Fingerprint,
    high_water::HighWater,
    ledger::{Damage, Exclusion, KnownVersion, Ledger, PipelineRef, Version},
    names::RingName,
    omissions::Omission,
    policy_ref::{Action, PolicyKind, PolicyRef},
    schedule::Windows,
    usable::{Because, UnusableKinds},
};

mod cover;
mod finding;
mod policies;

pub use cover::{CoverAnswer, CoverFound, CoverSeen, Covered};
pub use finding::Finding;
pub(crate) use policies::NO_WEBHOOK_YET;
pub use policies::{Answer, AskedPolicy, Difference, PolicyFound, Silence, WriteFailure};

/// What a pass over one ring has observed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The ring's name.
    pub name: RingName,
    /// What the ring asks for.
    pub ring: Ring,
    /// What the operator knows of it.
    pub ledger: LedgerFound,
    /// What the ring's status said before this pass.
    pub reported: Reported,
    /// Who remembers, outside the ledger, how far the ring had come.
    pub witnesses: Vec<Witness>,
    /// What the ring's annotation remembers.
    pub recorded: Option<HighWater>,
    /// The Secrets of the ring that hold one standby key each, by name.
    pub key_secrets: BTreeMap<String, KeySecret>,
    /// The key pair that the first version is to be; nothing once there is a
    /// version that was not given up, or if none is asked for.
    pub import: Option<Import>,
    /// The ring that has the key pair first which this one has just taken over.
    pub shares_key_with: Option<RingName>,
    /// The kinds of policies that the cluster's API serves: what stands there is seen, and
    /// can be changed.
    pub served: BTreeSet<PolicyKind>,
    /// Those that the cluster's Kyverno is too old for: it executes them in another way.
    pub outdated: BTreeSet<PolicyKind>,
    /// The kinds that are served and of no use any more.
    pub unusable: UnusableKinds,
    /// Why the cluster is not known to serve the kind by which Kyverno is asked,
    /// unless it is.
    pub questions_missing: Option<String>,
    /// Why the namespace is not fit in which policies are asked that have no kind of
    /// questions, unless it is.
    pub probe_missing: Option<String>,
    /// The policies that should hold the ring's rule, and those that do.
    pub policies: BTreeMap<PolicyRef, AskedPolicy>,
    /// The policies for namespaces whose label names no ring.
    pub covers: BTreeMap<PolicyRef, CoverSeen>,
    /// The pipeline Secrets of the spec and of the ledger.
    pub pipelines: BTreeMap<PipelineRef, PipelineFound>,
    /// The namespaces, of those that are named here, that are being deleted:
    /// nothing can be created there.
    pub terminating: BTreeSet<String>,
    /// The namespaces that carry the ring's label and are not being deleted.
    pub enrolled: BTreeSet<String>,
    /// What Kyverno leaves out of the ring's check, the certain first; nothing before
    /// all has been looked at.
    pub omissions: Option<Vec<Omission>>,
    /// Where its rule may stand.
    pub place: Place,
    /// Whether a new key could be sealed at once.
    pub can_seal: bool,
    /// How many rings may rotate at once, if so many do, or have waited for longer.
    pub rotations_full: Option<u16>,
    /// The time of this pass.
    pub now: Timestamp,
    /// Facts about this operator that messages name.
    pub operator: OperatorFacts,
    /// Why this pass could not do what it planned, if it could not.
    pub trouble: Option<String>,
}

/// A Secret that holds one standby key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySecret {
    /// The ledger's sequence when it was written.
    pub sequence: u64,
    /// Whether it holds the key that the ledger means. Somebody may have put
    /// something else there.
    pub is_fit: bool,
}

impl Snapshot {
    /// Whether the cluster's API serves a policy's kind.
    #[must_use]
    pub fn serves(&self, policy: PolicyRef) -> bool {
        self.served.contains(&policy.kind())
    }

    /// Whether it serves a kind and has a Kyverno that is not too old for it.
    #[must_use]
    pub fn executes(&self, kind: PolicyKind) -> bool {
        self.served.contains(&kind) && !self.outdated.contains(&kind)
    }

    /// Whether a Secret's namespace is being deleted.
    #[must_use]
    pub fn is_ending(&self, secret: &PipelineRef) -> bool {
        self.terminating.contains(&secret.namespace)
    }
}

/// Somebody outside the ledger who remembers how far the ring had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Who it is, for a sentence.
    pub who: String,
    /// The policy, if it is one.
    pub policy: Option<PolicyRef>,
    /// What it remembers.
    pub high_water: HighWater,
    /// The sequence of the ledger that it speaks of, if it says so.
    pub sequence: Option<u64>,
}

/// The key pair that a ring is to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its Secret.
    pub from: PipelineRef,
    /// What was found there.
    pub found: ImportFound,
}

/// Why a key pair that another ring knows is not taken over.
#[must_use]
pub fn known_to(ring: &RingName) -> String {
    format!(
        "ring {ring} knows this key, and a key belongs to one ring: the one would admit what is \
         signed for the other. Have spec.importFrom name a key pair of this ring's own, or take it \
         out, and one is generated"
    )
}

/// Whether a key pair can be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportFound {
    /// Its Secret exists.
    Present,
    /// There is no such Secret.
    Absent,
    /// The namespace's owner did not let us look.
    Forbidden,
    /// It cannot be used; the text says why.
    Failed(String),
}

/// Facts about this operator that messages name.
#[derive(Clone, Debug)]
pub struct OperatorFacts {
    /// Where it runs and keeps its ledgers.
    pub namespace: String,
    /// Where it asks policies that cannot be asked there.
    pub probe_namespace: String,
    /// The key of the namespace label that enrols.
    pub enrolment_label: String,
    /// Who it is to the API server.
    pub account: Account,
    /// The ClusterRole that a namespace's owner binds to let it publish there.
    pub pipeline_role: String,
    /// Where it was told that Kyverno is.
    pub kyverno: KyvernoFacts,
}

/// Where the operator was told that Kyverno is.
#[derive(Clone, Debug)]
pub struct KyvernoFacts {
    /// Its namespace.
    pub namespace: String,
    /// The name of its ConfigMap.
    pub config_map: String,
}

/// What a ring asks for, read once from its object.
#[derive(Clone, Debug)]
pub struct Ring {
    /// How many versions are accepted.
    pub keep: u32,
    /// The schedule's period.
    pub every: Option<Duration>,
    /// When it may rotate.
    pub windows: Windows,
    /// How long a new key is accepted before it signs.
    pub soak: Duration,
    /// Where the newest key goes.
    pub pipelines: BTreeMap<PipelineRef, Layout>,
    /// Refuse or report.
    pub action: Action,
    /// The kind of policy that is to hold its rule.
    pub kind: PolicyKind,
    /// Why that one.
    pub kind_because: Because,
    /// The ring's own exclusions.
    pub exclude: Vec<Exclusion>,
    /// The Secrets in Kyverno's namespace with which it looks the ring's images up.
    pub credentials: BTreeSet<String>,
    /// The rotation annotation's value.
    pub token: Option<String>,
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Whether it may go although namespaces are enrolled.
    pub allow_unenforced: bool,
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// Whether a next version stands by.
    pub standby: bool,
    /// Whether lifecycle changes are frozen.
    pub suspend: bool,
    /// The versions that are taken out for ever.
    pub revoked: Vec<Revoked>,
    /// The user's word, after a loss, to go on after this version.
    pub recover_after: Option<u32>,
    /// Why parts of the object cannot be served; empty when all is well.
    pub problems: Vec<String>,
}

/// A version that is to be taken out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// By its number.
    Version(u32),
    /// By its fingerprint.
    Fingerprint(Fingerprint),
    /// By a text that is no fingerprint, and so names no version.
    Unreadable(String),
}

impl Revoked {
    /// Whether it means this version.
    #[must_use]
    pub fn names(&self, version: &Version) -> bool {
        match self {
            Self::Version(number) => *number == version.number,
            Self::Fingerprint(fingerprint) => *fingerprint == version.fingerprint,
            Self::Unreadable(_) => false,
        }
    }
}

api_enum! {
    /// How a pipeline Secret names its entries.
    pub enum Layout {
        /// `cosign.key`, `cosign.password`, `cosign.pub`.
        Cosign,
        /// `COSIGN_PRIVATE_KEY`, `COSIGN_PASSWORD`, `COSIGN_PUBLIC_KEY`.
        Environment,
    }
}

/// The ring's ledger as found.
#[derive(Clone, Debug)]
pub enum LedgerFound {
    /// There is none.
    Absent,
    /// It can be read.
    Present(Ledger),
    /// It cannot be trusted.
    Damaged(Damage),
    /// A Secret with its name is not a ledger; it is left alone.
    Foreign,
}

impl LedgerFound {
    /// What it says, whether or not its private keys can be relied on.
    #[must_use]
    pub fn table(&self) -> Option<&Ledger> {
        match self {
            Self::Present(ledger) => Some(ledger),
            Self::Damaged(damage) => damage.table().map(Arc::as_ref),
            Self::Absent | Self::Foreign => None,
        }
    }
}

/// What the status said before, as far as a decision rests on it.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// The versions that it names, those with a sound public key.
    pub versions: Vec<KnownVersion>,
    /// The rotation that was last reported done.
    pub observed_rotation: Option<String>,
    /// The pipelines that it says hold the newest key.
    pub published: BTreeSet<PipelineRef>,
    /// The condition `PolicyEnforced`.
    pub policy_enforced: Option<Condition>,
    /// The condition `EnforcementComplete`.
    pub enforcement_complete: Option<Condition>,
    /// The condition `RevocationsApplied`.
    pub revocations_applied: Option<Condition>,
}

/// Where a ring's rule may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The policy with room for this ring, by its kind and action.
    pub free: PolicyRef,
    /// Whether this ring is to leave its policy, which has outgrown its size or holds
    /// rings with other credentials.
    pub crowded: bool,
}

/// A pipeline Secret as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipelineFound {
    /// Its namespace does not exist.
    NoNamespace,
    /// Its namespace exists, the Secret does not.
    Absent,
    /// The namespace's owner did not let us look.
    Forbidden,
    /// A Secret of that name is not ours; it is left alone.
    Foreign {
        /// The other ring that it names.
        ring: Option<RingName>,
        /// The version of this ring whose private key it holds all the same, of
        /// those that are accepted: looked at where the ledger lists the Secret.
        holds: Option<u32>,
    },
    /// Ours.
    Ours {
        /// The version whose key pair it holds, of those that are accepted:
        /// what its data say, whatever its annotations do.
        holds: Option<u32>,
        /// The layout that its annotation names.
        layout: Option<Layout>,
        /// Whether its data and annotations are exactly what this operator
        /// writes for that version.
        intact: bool,
        /// Whether the API server lets nobody change it: it is immutable, or of
        /// another type than this operator writes.
        fixed: bool,
        /// Whether it is being deleted and somebody's finalizer holds it.
        leaving: bool,
    },
    /// It names this ring but no key that the ledger knows.
    OursUnknownKey {
        /// As of [`Self::Foreign`].
        holds: Option<u32>,
    },
    /// Looking or writing failed otherwise.
    Failed(String),
}
