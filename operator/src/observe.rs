//! From what the watches, the gate and the pipelines' namespaces say to a
//! [`Snapshot`] for the planner. Reads and never writes. Ledgers are read as
//! metadata; so are pipeline Secrets, unless somebody else has written one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use signingkeyring_core::{
    account::Account,
    condition::{Condition, Kind, Reason, Status},
    facts::{is_doubtful, may_be_lost},
    ledger::{Change, Damage, Ledger, Mint, PipelineRef},
    names::{self, RingName},
    plan::Action,
    policy::packing::Occupancy,
    policy_ref::PolicyRef,
    snapshot::{
        AskedPolicy, Difference, KeySecret, KyvernoFacts, LedgerFound, OperatorFacts,
        PipelineFound, Place, PolicyFound, Reported, Ring, Snapshot, WriteFailure,
    },
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus};
use tokio::time::Instant;

use crate::{
    cache::{FailedWrite, LedgerRow},
    context::Context,
    kyverno::{Object, is_ours},
};

mod exclusions;
mod import;
mod omissions;
mod pipelines;
mod policies;
pub mod ring;
mod unknown;
pub mod witness;

pub(crate) use import::{belongs_to_a_ring, is_known, known_to};
use pipelines::Looked;
pub use pipelines::{Fresh, is_rights_problem};
pub(crate) use pipelines::{annotations, kept};
pub use policies::{Companion, ObservedPolicy, ReadAnew, observe_policy, spec_digest};
pub use unknown::{ObservedUnknown, is_covered, observe_unknown, unsettled_cover};

/// What a pass over one ring has observed.
#[derive(Debug)]
pub struct Observed {
    /// What the planner sees.
    pub snapshot: Snapshot,
    /// The resourceVersion of the ledger that was seen.
    pub ledger_version: Option<String>,
    /// The metadata of the pipeline Secrets that were seen.
    pub secrets: HashMap<PipelineRef, ObjectMeta>,
    /// What is known of when they were looked at, if they are known.
    pipelines: Option<Looked>,
}

/// Observes everything that bears on one ring but its pipelines' Secrets.
pub async fn observe(context: &Context, name: &RingName, object: &SigningKeyRing) -> Observed {
    let ring_name = name.as_str();
    let row = context.cache.ledgers.get(ring_name);
    // One that was not looked at is not believed to be unfit either.
    let key_secrets = context.cache.ledgers.key_secrets(name).into_iter();
    let key_secrets = key_secrets.map(|(name, row)| {
        (name, KeySecret { sequence: row.sequence, is_fit: row.is_fit.unwrap_or(true) })
    });
    let key_secrets: BTreeMap<String, KeySecret> = key_secrets.collect();
    let ledger = ledger_found(row.as_ref(), &key_secrets);
    let stands = ledger.table().map(|ledger| ledger.rule.settings.policy.kind());
    let kind = context.kind_for(ring::kind_asked(&object.spec), stands);
    let ring = ring::read(object, &context.settings, kind);
    let import = import::look(context, &object.spec, &ledger).await;
    let shares_key_with = import::shares_key_with(context, name, &object.spec, &ledger);
    let policies = policies(context, ring_name, &ledger);
    let mut witnesses = witness::of_ring(object);
    witnesses.extend(policies.keys().filter_map(|policy| {
        let policy = context.cache.policy(*policy).filter(|policy| is_ours(policy))?;
        witness::of_policy(&policy, ring_name)
    }));
    let mut reported = reported(object.status.as_ref(), object.metadata.generation);
    if let (true, Some(status)) = (may_be_lost(&ledger, &witnesses), &object.status) {
        reported.versions = witness::versions(status);
    }
    let annotation = object.annotations().get(names::ANNOTATION_HIGH_WATER);
    let snapshot = Snapshot {
        place: place(context, name, &ring, &ledger),
        can_seal: context.key_orders.is_at_hand(ring_name),
        rotations_full: context.rotations.full_for(ring_name),
        reported,
        recorded: witness::recorded(annotation, ring_name),
        witnesses,
        key_secrets,
        import,
        shares_key_with,
        served: context.cache.policies.served(),
        outdated: context.cache.policies.outdated(),
        unusable: context.cache.usable.unusable(),
        questions_missing: context.cache.questions.missing(),
        probe_missing: probe_missing(context),
        covers: unknown::covers(context, ring_name),
        enrolled: context.cache.namespaces.enrolled(ring_name),
        omissions: omissions::look(context, ring_name, &ring, &ledger, policies.keys()),
        now: context.clock.now(),
        terminating: BTreeSet::new(),
        operator: OperatorFacts {
            namespace: context.settings.namespace.clone(),
            probe_namespace: context.settings.probe_namespace.clone(),
            enrolment_label: context.settings.enrolment_label.clone(),
            account: Account::clone(&context.account),
            pipeline_role: context.settings.pipeline_role.clone(),
            kyverno: KyvernoFacts {
                namespace: context.settings.kyverno_namespace.clone(),
                config_map: context.settings.kyverno_config_map.clone(),
            },
        },
        trouble: None,
        name: name.clone(),
        ring,
        ledger,
        policies,
        pipelines: BTreeMap::new(),
    };
    let ledger_version = row.map(|row| row.resource_version);
    Observed { snapshot, ledger_version, secrets: HashMap::new(), pipelines: None }
}

/// The namespaces, of those with pipelines, that are being deleted.
fn terminating(
    context: &Context,
    pipelines: &BTreeMap<PipelineRef, PipelineFound>,
) -> BTreeSet<String> {
    let namespaces = pipelines.keys().map(|pipeline| &pipeline.namespace);
    namespaces.filter(|name| context.cache.namespaces.is_ending(name)).cloned().collect()
}

/// Why the namespace is not fit in which policies are asked that have no kind of
/// questions, unless it is.
pub(crate) fn probe_missing(context: &Context) -> Option<String> {
    let (namespaces, name) = (&context.cache.namespaces, &context.settings.probe_namespace);
    if !namespaces.exists(name) {
        Some("there is no such namespace".to_owned())
    } else if namespaces.is_ending(name) {
        Some("that is being deleted, so it has to be created anew once it is gone".to_owned())
    } else if namespaces.ring_of(name).as_deref() != Some(names::PROBE) {
        let label = &context.settings.enrolment_label;
        Some(format!("that has not the label {label}={}", names::PROBE))
    } else {
        None
    }
}

fn ledger_found(row: Option<&LedgerRow>, key_secrets: &BTreeMap<String, KeySecret>) -> LedgerFound {
    let Some(row) = row else { return LedgerFound::Absent };
    let ledger = match &row.ledger {
        Ok(ledger) => ledger,
        Err(damage) => return LedgerFound::Damaged(damage.clone()),
    };
    // A standby that lost its key is replaced; one that signs is missed.
    let standby_secret = ledger.current().and_then(|v| v.private_key()?.secret.clone());
    let holds = |secret: &String| key_secrets.get(secret).is_some_and(|secret| secret.is_fit);
    match standby_secret.filter(|secret| !holds(secret)) {
        None => LedgerFound::Present(Ledger::clone(ledger)),
        Some(secret) => LedgerFound::Damaged(Damage::KeysUnfit {
            why: format!("Secret {secret} does not hold the private key that signs any more"),
            table: Arc::clone(ledger),
        }),
    }
}

impl Observed {
    /// Looks at the pipelines' Secrets, or uses what was seen of them before.
    pub async fn look_at_pipelines(&mut self, context: &Context, fresh: Fresh) {
        let Snapshot { name, ring, ledger, .. } = &self.snapshot;
        let seen = pipelines::look(context, name.as_str(), ring, ledger, fresh).await;
        self.snapshot.terminating = terminating(context, &seen.found);
        self.snapshot.pipelines = seen.found;
        self.secrets = seen.metas;
        self.pipelines = Some(seen.looked);
    }

    /// Whether actions are the same whatever the pipelines' Secrets hold.
    #[must_use]
    pub fn needs_no_pipelines(&self, actions: &[Action]) -> bool {
        actions.iter().all(|action| self.is_whatever_they_hold(action))
    }

    /// Whether actions are the same whatever the pipelines' Secrets hold, or are refused if
    /// these do not hold any more what was seen.
    #[must_use]
    pub fn needs_no_fresh_look(&self, actions: &[Action]) -> bool {
        actions.iter().all(|action| {
            let writes_what_was_seen = matches!(action, Action::WriteSecret { .. });
            let is_of_the_ring =
                matches!(action, Action::AddFinalizer(_) | Action::RecordHighWater(_));
            writes_what_was_seen || is_of_the_ring || self.is_whatever_they_hold(action)
        })
    }

    fn is_whatever_they_hold(&self, action: &Action) -> bool {
        match action {
            Action::Mint(mint) => !matches!(mint, Mint::Recover(_)),
            Action::Commit(change) => match change {
                // Those that it does not list yet are written down with it.
                Change::Acknowledge { .. } => self.lists_its_pipelines(),
                Change::Promote { .. }
                | Change::Revoke { .. }
                | Change::CorrectTimes
                | Change::Window { .. } => true,
                // Whether a version that Kyverno accepts goes before a move depends on them.
                Change::Rule(_)
                | Change::Begin { .. }
                | Change::Discard { .. }
                | Change::Activate { .. }
                | Change::Publications { .. }
                | Change::Withdraw(_)
                | Change::Remove { .. } => false,
            },
            Action::AddFinalizer(_)
            | Action::RemoveFinalizer
            | Action::RecordHighWater(_)
            | Action::WriteSecret { .. }
            | Action::DeleteSecret(_)
            | Action::DeleteKeySecret(_)
            | Action::DeleteLedger => false,
        }
    }

    fn lists_its_pipelines(&self) -> bool {
        let ledger = self.snapshot.ledger.table();
        let is_listed = |pipeline| ledger.is_some_and(|l| l.publications.contains(pipeline));
        self.snapshot.ring.pipelines.keys().all(is_listed)
    }

    /// Whether it was looked at the pipelines' Secrets.
    #[must_use]
    pub fn has_pipelines(&self) -> bool {
        self.pipelines.is_some()
    }

    /// Whether what is known of them is from an earlier pass.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        self.pipelines.is_some_and(|looked| looked.is_remembered)
    }

    /// When they were looked at in an earlier pass, if what is known of them is from then.
    #[must_use]
    pub fn looked_at(&self) -> Option<Instant> {
        self.pipelines?.at
    }

    /// Whether the ledger is to be read anew before anything is made of it:
    /// what watches have brought may be old.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        is_doubtful(&self.snapshot)
    }
}

/// Where the ring's rule may stand.
fn place(context: &Context, name: &RingName, ring: &Ring, ledger: &LedgerFound) -> Place {
    let crowded = is_crowded(context, name, ledger);
    Place { free: free_place(context, name, ring, ledger, crowded), crowded }
}

/// The policy with room for this ring, if it needs one.
fn free_place(
    context: &Context,
    name: &RingName,
    ring: &Ring,
    ledger: &LedgerFound,
    crowded: bool,
) -> PolicyRef {
    if let (LedgerFound::Present(ledger), false) = (ledger, crowded)
        && let settings = &ledger.rule.settings
        && settings.policy.action() == ring.action
        && settings.policy.kind() == ring.kind
        && (settings.credentials == ring.credentials || !ring.kind.shares_credentials())
    {
        return settings.policy;
    }
    let ledgers = &context.cache.ledgers;
    let size = |policy| context.cache.written.size(policy);
    let stands = |policy| context.cache.policy(policy).filter(|found| is_ours(found));
    let limit = context.settings.policy_limit(ring.kind);
    let kind = (ring.kind, ring.action);
    ledgers.free_place(name, kind, &ring.credentials, (stands, size), limit)
}

/// Whether the ring has to leave its policy: that holds rings with other credentials,
/// or has outgrown its size, and then the last by name goes first, one at a time.
fn is_crowded(context: &Context, name: &RingName, ledger: &LedgerFound) -> bool {
    let LedgerFound::Present(ledger) = ledger else { return false };
    if context.cache.ledgers.is_among_others(name) {
        return true;
    }
    let policy = ledger.rule.settings.policy;
    let bytes = context.cache.written.size(policy);
    let limit = context.settings.policy_limit(policy.kind());
    // Most of the time there is nothing to count.
    if bytes <= limit.bytes {
        return false;
    }
    let placed = context.cache.ledgers.placed_in(policy);
    let moving = placed.iter().any(|(_, ledger)| {
        let leaving = ledger.settings.leaving.filter(|_| ledger.is_sound);
        leaving.is_some_and(|left| left.policy == policy)
    });
    let last = placed.last().is_some_and(|(ring, _)| ring == name);
    last && !moving && Occupancy { rings: placed.len(), bytes }.is_crowded(limit)
}

/// The policies that should hold the ring's rule, and those that do: one that
/// it has left, or, without a ledger, what is evidence of a loss.
fn policies(
    context: &Context,
    ring: &str,
    ledger: &LedgerFound,
) -> BTreeMap<PolicyRef, AskedPolicy> {
    let cache = &context.cache;
    let wanted = ledger.table().map(Ledger::rule_state);
    let look = |policy: PolicyRef| {
        let refusal = cache.written.refusal(policy, ring);
        let failed = cache.written.failure(policy).or_else(|| held_back(context, policy, ring));
        let differs = failed.as_ref().and_then(|failed| failed.differences.get(ring).copied());
        let failure = refusal.or(failed.map(|failed| failed.failure));
        let found = match cache.policy(policy) {
            None => PolicyFound::Absent { failure },
            Some(object) => policy_found(policy, &object, ring, failure, differs),
        };
        let answer = match &wanted {
            Some(wanted) => context.gate.answer_to(policy, ring, wanted),
            None => context.gate.answer(policy, ring),
        };
        AskedPolicy { found, answer }
    };
    let mut policies: BTreeSet<PolicyRef> = match ledger {
        LedgerFound::Present(ledger) => ledger.rule.settings.policies().collect(),
        _ => BTreeSet::new(),
    };
    policies.extend(cache.policies_naming(ring).filter(|policy| policy.holds_rings()));
    policies.into_iter().map(|policy| (policy, look(policy))).collect()
}

/// A policy that somebody else has changed, and that is not written back at once
/// because that is done again and again.
fn held_back(context: &Context, policy: PolicyRef, ring: &str) -> Option<FailedWrite> {
    if !context.policies.is_held_back(&policy) {
        return None;
    }
    let found = context.cache.policy(policy)?;
    let written = context.cache.written.get(policy)?;
    // Labels and annotations of others' are theirs.
    let of_ours = |object: &Object| {
        let seen = policies::seen(policy, object, object.spec().as_deref());
        (seen.spec, seen.own_metadata)
    };
    let same = of_ours(&found) == of_ours(&written.stored);
    let message = "somebody else changes it each time that it was written back, so that is done \
                   after growing pauses";
    let failure = WriteFailure { refused: false, message: message.to_owned() };
    let differences = [(ring.to_owned(), Difference::Other)].into();
    (!same).then_some(FailedWrite { failure, differences })
}

fn policy_found(
    policy: PolicyRef,
    object: &Object,
    ring: &str,
    failure: Option<WriteFailure>,
    differs: Option<Difference>,
) -> PolicyFound {
    if !is_ours(object) {
        return PolicyFound::Foreign;
    }
    PolicyFound::Ours {
        mark: object.marks().0.get(ring).cloned(),
        keys: object.keys_of(policy.kind(), ring),
        credentials: object.credentials().clone(),
        failure,
        differs,
    }
}

fn reported(status: Option<&SigningKeyRingStatus>, generation: Option<i64>) -> Reported {
    let Some(status) = status else { return Reported::default() };
    Reported {
        versions: Vec::new(),
        observed_rotation: status.observed_rotation.clone(),
        published: status
            .pipelines
            .iter()
            .filter(|p| p.state == Reason::Published.as_str())
            .map(|p| PipelineRef { namespace: p.namespace.clone(), name: p.secret_name.clone() })
            .collect(),
        policy_enforced: condition(status, Kind::PolicyEnforced),
        enforcement_complete: condition(status, Kind::EnforcementComplete),
        // Of the object as it is now, not of what it revoked before.
        revocations_applied: condition(status, Kind::RevocationsApplied)
            .filter(|_| status.observed_generation == generation),
    }
}

fn condition(status: &SigningKeyRingStatus, kind: Kind) -> Option<Condition> {
    let found = status.conditions.iter().find(|c| c.type_ == kind.as_str())?;
    let status = found.status.parse().unwrap_or(Status::Unknown);
    let reason: Reason = found.reason.parse().ok()?;
    Some(Condition { kind, status, reason, message: found.message.clone() })
}

/// Whether executing an action needs the pipelines to be looked at again.
#[must_use]
pub fn touches_pipelines(action: &Action) -> bool {
    matches!(action, Action::WriteSecret { .. } | Action::DeleteSecret(_))
}
