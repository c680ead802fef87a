//! From what the watches, the gate and the pipelines' namespaces say to a
//! [`Snapshot`] for the planner. Reads and never writes. Ledgers are read as
//! metadata; so are pipeline Secrets, unless somebody else has written one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::DynamicObject};
use signingkeyring_core::{
    account::Account,
    condition::{Condition, Kind, Reason, Status},
    facts::is_doubtful,
    ledger::{Damage, Ledger, PipelineRef},
    names::{self, RingName},
    plan::Action,
    policy::{
        cluster_policy,
        packing::{self, Occupancy},
    },
    policy_ref::PolicyRef,
    snapshot::{
        AskedPolicy, Difference, KeySecret, KyvernoFacts, LedgerFound, OperatorFacts,
        PipelineFound, Place, PolicyFound, Reported, Ring, Snapshot, WriteFailure,
    },
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus};

use crate::{
    cache::{FailedWrite, LedgerRow},
    context::Context,
    kyverno::{is_ours, marks},
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
pub use pipelines::is_rights_problem;
pub use policies::{ObservedPolicy, ReadAnew, observe_policy};
pub use ring::exclusion;
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
}

/// Observes everything that bears on one ring.
pub async fn observe(context: &Context, name: &RingName, object: &SigningKeyRing) -> Observed {
    let ring_name = name.as_str();
    let ring = ring::read(object, &context.settings.namespace);
    let row = context.cache.ledgers.get(ring_name);
    // One that was not looked at is not believed to be unfit either.
    let key_secrets = context.cache.ledgers.key_secrets(name).into_iter();
    let key_secrets = key_secrets.map(|(name, row)| {
        (name, KeySecret { sequence: row.sequence, is_fit: row.is_fit.unwrap_or(true) })
    });
    let key_secrets: BTreeMap<String, KeySecret> = key_secrets.collect();
    let ledger = ledger_found(row.as_ref(), &key_secrets);
    let import = import::look(context, &object.spec, &ledger).await;
    let shares_key_with = import::shares_key_with(context, name, &object.spec, &ledger);
    let (pipelines, secrets) = pipelines::look(context, ring_name, &ring, &ledger).await;
    let policies = policies(context, ring_name, &ledger);
    let mut witnesses = witness::of_ring(object);
    witnesses.extend(policies.keys().filter_map(|policy| {
        let policy = context.cache.policy(*policy).filter(|policy| is_ours(policy))?;
        witness::of_policy(&policy, ring_name)
    }));
    let mut reported = reported(object.status.as_ref(), object.metadata.generation);
    if let (true, Some(status)) = (is_doubtful(&ledger, &witnesses), &object.status) {
        reported.versions = witness::versions(status);
    }
    let annotation = object.annotations().get(names::ANNOTATION_HIGH_WATER);
    let snapshot = Snapshot {
        place: place(context, name, &ring, &ledger),
        can_seal: context.sealings.is_free(),
        reported,
        recorded: witness::recorded(annotation, ring_name),
        witnesses,
        key_secrets,
        import,
        shares_key_with,
        kyverno_served: context.cache.kyverno_served(),
        questions_missing: context.cache.questions.missing(),
        covers: unknown::covers(context, ring_name),
        enrolled: context.cache.namespaces.enrolled(ring_name),
        omissions: omissions::look(context, ring_name, &ring, &ledger, policies.keys()),
        now: context.clock.now(),
        terminating: terminating(context, &pipelines),
        operator: OperatorFacts {
            namespace: context.settings.namespace.clone(),
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
        pipelines,
    };
    Observed { snapshot, ledger_version: row.map(|row| row.resource_version), secrets }
}

/// The namespaces, of those with pipelines, that are being deleted.
fn terminating(
    context: &Context,
    pipelines: &BTreeMap<PipelineRef, PipelineFound>,
) -> BTreeSet<String> {
    let namespaces = pipelines.keys().map(|pipeline| &pipeline.namespace);
    namespaces.filter(|name| context.cache.namespaces.is_ending(name)).cloned().collect()
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
    /// Whether the ledger is to be read anew before anything is made of it:
    /// what watches have brought may be old.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        is_doubtful(&self.snapshot.ledger, &self.snapshot.witnesses)
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
        && ledger.rule.settings.policy.action() == ring.action
    {
        return ledger.rule.settings.policy;
    }
    let held = context.cache.ledgers.occupancy(name, &context.cache.written.sizes());
    packing::place(ring.action, &held, context.settings.policy_limit())
}

/// Whether the ring has to leave its policy, which has outgrown its size: the
/// last by name goes first, one at a time.
fn is_crowded(context: &Context, name: &RingName, ledger: &LedgerFound) -> bool {
    let LedgerFound::Present(ledger) = ledger else { return false };
    let policy = ledger.rule.settings.policy;
    let bytes = context.cache.written.size(policy);
    let limit = context.settings.policy_limit();
    // Most of the time there is nothing to count.
    if bytes <= limit.bytes {
        return false;
    }
    let placed = context.cache.ledgers.placed_in(policy);
    let moving = placed.iter().any(|(_, row)| {
        let settings = row.ledger.as_ref().ok().map(|ledger| &ledger.rule.settings);
        settings.is_some_and(|settings| settings.leaving == Some(policy))
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
    let look = |policy: PolicyRef| {
        let refusal = cache.written.refusal(policy, ring);
        let failed = cache.written.failure(policy).or_else(|| held_back(context, policy, ring));
        let differs = failed.as_ref().and_then(|failed| failed.differences.get(ring).copied());
        let failure = refusal.or(failed.map(|failed| failed.failure));
        let found = match cache.policy(policy) {
            None => PolicyFound::Absent { failure },
            Some(object) => policy_found(&object, ring, failure, differs),
        };
        AskedPolicy { found, answer: context.gate.answer(policy, ring) }
    };
    let mut policies: BTreeSet<PolicyRef> = match ledger {
        LedgerFound::Present(ledger) => ledger.rule.settings.policies().collect(),
        _ => BTreeSet::new(),
    };
    policies.extend(
        cache
            .our_policies()
            .filter(|(policy, object)| policy.holds_rings() && marks(object).0.contains_key(ring))
            .map(|(policy, _)| policy),
    );
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
    let of_ours = |object: &DynamicObject| {
        let seen = policies::seen(object);
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
    object: &DynamicObject,
    ring: &str,
    failure: Option<WriteFailure>,
    differs: Option<Difference>,
) -> PolicyFound {
    if !is_ours(object) {
        return PolicyFound::Foreign;
    }
    let rules = object.data.get("spec").map(|spec| cluster_policy::rules_of(spec, ring));
    PolicyFound::Ours {
        mark: marks(object).0.remove(ring),
        keys: rules.map(|rules| cluster_policy::keys_of(&rules)).unwrap_or_default(),
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
