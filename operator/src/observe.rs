//! From what the watches, the gate and the pipelines' namespaces say to a
//! [`Snapshot`] for the planner. Reads, never writes, and never sees a
//! private key: ledgers and pipeline Secrets are read as metadata.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, core::DynamicObject};
use signingkeyring_core::{
    ledger::{Ledger, PipelineRef},
    marks::Marks,
    names, packing,
    plan::Action,
    report::{self, Condition, Kind, Status},
    snapshot::{LedgerFound, OperatorFacts, PolicyFound, Reported, Ring, Snapshot},
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus};

use crate::context::Context;

mod pipelines;
mod ring;

pub(crate) use pipelines::entries;
pub use pipelines::is_rights_problem;
pub use ring::{exclusion, is_ours};

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
pub async fn observe(context: &Context, object: &SigningKeyRing) -> Observed {
    let name = object.name_any();
    let ring = ring::read(object, &context.settings.namespace);
    let row = context.cache.ledgers.get(&name);
    let ledger = match &row {
        None => LedgerFound::Absent,
        Some(row) => match &row.ledger {
            Ok(ledger) => LedgerFound::Present(Ledger::clone(ledger)),
            Err(why) => LedgerFound::Damaged(why.clone()),
        },
    };
    let (pipelines, secrets) = pipelines::look(context, &name, &ring, &ledger).await;
    let policies = policies(context, &name, &ledger);
    let gate = match &ledger {
        LedgerFound::Present(ledger) => ledger
            .rule
            .settings
            .policies()
            .map(|policy| (policy.to_owned(), context.gate.answer(policy, &name)))
            .collect(),
        _ => BTreeMap::new(),
    };
    let snapshot = Snapshot {
        free_place: free_place(context, &name, &ring, &ledger),
        reported: reported(object.status.as_ref()),
        kyverno_served: context.cache.kyverno_served(),
        enrolled: context.cache.namespaces.enrolled(&name),
        now: context.clock.now(),
        operator: OperatorFacts {
            namespace: context.settings.namespace.clone(),
            enrolment_label: context.settings.enrolment_label.clone(),
        },
        trouble: None,
        name,
        ring,
        ledger,
        policies,
        gate,
        pipelines,
    };
    Observed { snapshot, ledger_version: row.map(|row| row.resource_version), secrets }
}

/// The policy with room for this ring, if it needs one.
fn free_place(context: &Context, name: &str, ring: &Ring, ledger: &LedgerFound) -> String {
    if let LedgerFound::Present(ledger) = ledger
        && packing::action(&ledger.rule.settings.policy) == Some(ring.action)
    {
        return ledger.rule.settings.policy.clone();
    }
    let limit = usize::from(context.settings.rings_per_policy);
    context.cache.ledgers.promise(name, |occupancy| packing::place(ring.action, occupancy, limit))
}

/// The policies that hold the ring's rule, or should. A ring without a ledger
/// may be named by any policy: that is evidence of a loss.
fn policies(context: &Context, ring: &str, ledger: &LedgerFound) -> BTreeMap<String, PolicyFound> {
    let cache = &context.cache;
    match ledger {
        LedgerFound::Present(ledger) => ledger
            .rule
            .settings
            .policies()
            .map(|policy| {
                let found = cache.policy(policy);
                let failure = cache.written.failure(policy);
                let found = match found {
                    None => PolicyFound::Absent { failure },
                    Some(object) => policy_found(&object, ring, failure),
                };
                (policy.to_owned(), found)
            })
            .collect(),
        _ => cache
            .policies
            .state()
            .iter()
            .filter(|object| is_ours(object))
            .map(|object| (object.name_any(), policy_found(object, ring, None)))
            .collect(),
    }
}

fn policy_found(
    object: &DynamicObject,
    ring: &str,
    failure: Option<signingkeyring_core::snapshot::WriteFailure>,
) -> PolicyFound {
    if !is_ours(object) {
        return PolicyFound::Foreign;
    }
    PolicyFound::Ours { mark: marks(object).0.remove(ring), failure }
}

/// What a policy says of its rings; nothing if that cannot be read.
#[must_use]
pub fn marks(policy: &DynamicObject) -> Marks {
    policy
        .annotations()
        .get(names::ANNOTATION_MARKS)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn reported(status: Option<&SigningKeyRingStatus>) -> Reported {
    let Some(status) = status else { return Reported::default() };
    let published = signingkeyring_core::report::Reason::Published;
    Reported {
        newest_version: status.versions.iter().map(|v| v.version).max(),
        observed_rotation: status.observed_rotation.clone(),
        published: status
            .pipelines
            .iter()
            .filter(|p| p.state == format!("{published:?}"))
            .map(|p| PipelineRef { namespace: p.namespace.clone(), name: p.secret_name.clone() })
            .collect(),
        policy_enforced: status
            .conditions
            .iter()
            .find(|c| c.type_ == format!("{:?}", Kind::PolicyEnforced))
            .and_then(condition),
    }
}

fn condition(
    found: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition,
) -> Option<Condition> {
    let status = match found.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    let reason: report::Reason = found.reason.parse().ok()?;
    Some(Condition { kind: Kind::PolicyEnforced, status, reason, message: found.message.clone() })
}

/// Whether executing an action needs the pipelines to be looked at again.
#[must_use]
pub fn touches_pipelines(action: &Action) -> bool {
    matches!(action, Action::WriteSecret { .. } | Action::DeleteSecret(_))
}
