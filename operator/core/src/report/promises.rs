//! What each condition promises. A reason that is new has to say what it does.

use super::{keys, omissions, policy};
use crate::{
    condition::{Condition, Kind, Reason, Status},
    facts::{Enforcement, Facts, Stage, is_in_the_way, is_out_of_reach},
    ledger::{Ledger, PipelineRef, Version},
    promise::{
        Act,
        Promise::{self, After, Itself, Nothing},
    },
    snapshot::{Import, ImportFound, LedgerFound, PipelineFound, Snapshot},
};

/// What a condition of a report on this promises.
pub(super) fn of(snapshot: &Snapshot, facts: &Facts<'_>, condition: &Condition) -> Promise {
    if condition.kind == Kind::Ready && condition.status == Status::True {
        return Nothing;
    }
    // Whatever else is said of a ring that goes, it goes with the ring.
    let is_over = facts.stage == Stage::Deleting && condition.status != Status::True;
    match condition.reason {
        _ if is_over => deletion(snapshot, facts),
        Reason::Available
        | Reason::RevocationsApplied
        | Reason::Enforced
        | Reason::Audited
        | Reason::Complete
        | Reason::Published
        | Reason::NoPipelines => Nothing,
        Reason::SpecInvalid | Reason::SpecUnreadable => After(vec![vec![Act::CorrectSpec]]),
        Reason::Suspended => After(vec![vec![Act::Unsuspend]]),
        Reason::Retrying | Reason::GateNotAsked | Reason::RotationQueued => Itself,
        Reason::KeyMaterialLost | Reason::LedgerOutdated => loss(snapshot, facts),
        Reason::ImportFailed => import(snapshot),
        Reason::FirstVersionPending
        | Reason::Rotating
        | Reason::StandbyPending
        | Reason::CurrentRevoked
        | Reason::AllRevoked => next_version(snapshot, facts),
        // Of several pipelines another one may need a person.
        Reason::PublicationPending => match next_version(snapshot, facts) {
            Itself => pipelines(snapshot, facts),
            other => other,
        },
        Reason::Moving | Reason::PolicyPending => enforcement(snapshot, facts),
        Reason::RevocationPending => match facts.stage {
            Stage::Lost => loss(snapshot, facts),
            Stage::DeletionBlocked if facts.ledger.is_none() => end(),
            _ => enforcement(snapshot, facts),
        },
        Reason::WebhookMissing
        | Reason::FailuresIgnored
        | Reason::PodsLeftOut
        | Reason::NamespacesLeftOut
        | Reason::PodsFiltered
        | Reason::UsersExcluded
        | Reason::RuleExcepted
        | Reason::PodsChanged
        | Reason::NotJudged => After(vec![vec![Act::CloseOmission]]),
        Reason::NotSeen if omissions::can_be_granted(snapshot) => {
            After(vec![vec![Act::GrantSettings]])
        }
        Reason::NotSeen => After(vec![vec![Act::CloseOmission]]),
        Reason::CannotRotate => match facts.ledger {
            Some(ledger) => {
                let other = ledger.rule.settings.policy.kind().other();
                let elsewhere = match policy::way_to(snapshot, other) {
                    Ok(way) => Some(way),
                    Err(policy::NoWay::NotServed) => Some(vec![Act::Serve(other)]),
                    Err(policy::NoWay::Unusable(_)) => None,
                };
                After(elsewhere.into_iter().chain([vec![Act::MendKyverno]]).collect())
            }
            None => Itself,
        },
        Reason::RevocationUnknown => After(vec![vec![Act::CorrectRevocation]]),
        Reason::PolicyBehind
        | Reason::KyvernoMissing
        | Reason::PolicyConflict
        | Reason::PolicyDiffers
        | Reason::PolicyRejected
        | Reason::PolicyMissing
        | Reason::GateOpen
        | Reason::GateNotServed
        | Reason::GateSilent
        | Reason::GateSlow
        | Reason::GateMute
        | Reason::GateUnreadable => enforcement(snapshot, facts),
        Reason::SecretConflict if facts.ledger.is_none() && is_unknown(snapshot, facts) => {
            loss(snapshot, facts)
        }
        Reason::AccessNotGranted
        | Reason::NamespaceMissing
        | Reason::NamespaceTerminating
        | Reason::SecretConflict
        | Reason::SecretImmutable
        | Reason::SecretFailed
        | Reason::SecretLeftBehind => pipelines(snapshot, facts),
        Reason::DeletionBlocked => end(),
        Reason::Deleting => deletion(snapshot, facts),
    }
}

/// Whether what is in the way is the loss of the ledger, and nothing else.
fn is_unknown(snapshot: &Snapshot, facts: &Facts<'_>) -> bool {
    let unknown = |found: &PipelineFound| matches!(found, PipelineFound::OursUnknownKey { .. });
    facts.stage == Stage::Lost || snapshot.pipelines.values().any(unknown)
}

fn end() -> Promise {
    After(vec![vec![Act::Unenrol], vec![Act::AllowUnenforced]])
}

fn loss(snapshot: &Snapshot, facts: &Facts<'_>) -> Promise {
    match (facts.stage, &snapshot.ledger) {
        (Stage::DeletionBlocked, _) => return end(),
        (_, LedgerFound::Foreign) => return After(vec![vec![Act::DeleteLedger]]),
        _ => {}
    }
    if let (LedgerFound::Present(ledger), Some(policy)) =
        (&snapshot.ledger, facts.knows_more.and_then(|witness| witness.policy))
        && keys::mark_above(snapshot, ledger, facts.knows_more).is_some()
    {
        return After(vec![vec![Act::RestoreLedger], vec![Act::RewriteMarks(policy)]]);
    }
    let mut go_on = vec![Act::Recover(facts.last_version)];
    go_on.extend(snapshot.ring.suspend.then_some(Act::Unsuspend));
    After(vec![vec![Act::RestoreLedger], go_on])
}

fn import(snapshot: &Snapshot) -> Promise {
    let mut ways = vec![vec![Act::TakeImportOut]];
    match &snapshot.import {
        Some(Import { from, found: ImportFound::Forbidden }) => {
            ways.push(vec![Act::GrantImport(from.clone())]);
        }
        Some(Import { found: ImportFound::Absent, .. }) => ways.push(vec![Act::CreateImport]),
        _ => {}
    }
    After(ways)
}

/// How the version that is on its way, or is to come, gets to sign.
fn next_version(snapshot: &Snapshot, facts: &Facts<'_>) -> Promise {
    if facts.stage == Stage::Lost {
        return loss(snapshot, facts);
    }
    if keys::import(snapshot).is_some() {
        return import(snapshot);
    }
    if snapshot.ring.suspend {
        return After(vec![vec![Act::Unsuspend]]);
    }
    let stays = |version: &Version| !facts.due_revocations.contains(&version.number);
    let is_there = facts.ledger.is_some_and(|ledger| {
        let versions = [ledger.current(), ledger.pending(), ledger.standby()];
        versions.into_iter().flatten().any(stays)
    });
    if facts.stage == Stage::DeletionBlocked && !is_there {
        return end();
    }
    match enforcement(snapshot, facts) {
        Itself | Nothing if snapshot.ring.pipelines.keys().any(|p| blocks(snapshot, facts, p)) => {
            pipelines(snapshot, facts)
        }
        Nothing => Itself,
        other => other,
    }
}

/// Whether a person has to see to it that a pipeline can be switched, which the
/// next version waits for.
fn blocks(snapshot: &Snapshot, facts: &Facts<'_>, pipeline: &PipelineRef) -> bool {
    facts.ledger.is_some_and(|ledger| {
        let out_of_reach = is_out_of_reach(snapshot, pipeline) && !snapshot.is_ending(pipeline);
        (out_of_reach && ledger.publications.contains(pipeline))
            || is_in_the_way(snapshot, ledger, pipeline)
    })
}

fn enforcement(snapshot: &Snapshot, facts: &Facts<'_>) -> Promise {
    let after = |act| After(vec![vec![act]]);
    match facts.enforcement {
        Enforcement::Acknowledged(_) if policy::outdated(snapshot).is_some() => {
            after(Act::MendKyverno)
        }
        Enforcement::Behind { failure: None, held, .. } if policy::is_late(held) => {
            after(Act::MendKyverno)
        }
        Enforcement::Silent(silent, _, held) if policy::is_late(held) => {
            after(policy::or_probe(snapshot, silent, Act::MendKyverno))
        }
        Enforcement::Slow(_, _, held) if policy::is_late(held) => after(Act::MendKyverno),
        Enforcement::Acknowledged(_)
        | Enforcement::NotAsked
        | Enforcement::Slow(..)
        | Enforcement::Silent(..)
        | Enforcement::Behind { failure: None, .. }
        | Enforcement::PolicyMissing(_, None) => match policy::failure_elsewhere(snapshot, facts) {
            true => after(Act::MendPolicy),
            false => Itself,
        },
        Enforcement::Behind { failure: Some(_), .. }
        | Enforcement::Differs { .. }
        | Enforcement::PolicyMissing(_, Some(_)) => after(Act::MendPolicy),
        Enforcement::KyvernoMissing(kind) => {
            let way_out = policy::way_out(snapshot, kind);
            After([vec![Act::MendKyverno]].into_iter().chain(way_out).collect())
        }
        Enforcement::Unaskable { .. } | Enforcement::Open(_) | Enforcement::Unreachable(..) => {
            after(Act::MendKyverno)
        }
        Enforcement::Conflict(policy) => after(Act::DeletePolicy(policy)),
        Enforcement::Rejected(..) => after(Act::CorrectExclusions),
        Enforcement::NoRule if facts.stage == Stage::Serving => Itself,
        Enforcement::NoRule => loss(snapshot, facts),
        Enforcement::Unreadable(policy, _) => {
            after(policy::or_probe(snapshot, policy, Act::MendGate))
        }
    }
}

/// What has to be done for the pipelines, all of it; or they are taken out.
fn pipelines(snapshot: &Snapshot, facts: &Facts<'_>) -> Promise {
    let acts: Vec<(&PipelineRef, Vec<Act>)> = snapshot
        .pipelines
        .iter()
        .map(|(pipeline, found)| (pipeline, acts(snapshot, facts, pipeline, found)))
        .filter(|(_, acts)| !acts.is_empty())
        .collect();
    let mut ways: Vec<Vec<Act>> =
        vec![acts.iter().flat_map(|(_, acts)| acts.iter().cloned()).collect()];
    let in_spec = |pipeline: &PipelineRef| snapshot.ring.pipelines.contains_key(pipeline);
    if acts.iter().all(|(pipeline, _)| in_spec(pipeline)) {
        ways.push(acts.iter().map(|(pipeline, _)| Act::TakeOut((*pipeline).clone())).collect());
    }
    ways.retain(|way| !way.is_empty());
    if ways.is_empty() { Itself } else { After(ways) }
}

/// What has to be done for a pipeline, if something has.
fn acts(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    pipeline: &PipelineRef,
    found: &PipelineFound,
) -> Vec<Act> {
    let secret = || pipeline.clone();
    let in_spec = snapshot.ring.pipelines.contains_key(pipeline);
    let fixed = |ledger: &Ledger| is_in_the_way(snapshot, ledger, pipeline);
    let act = match found {
        PipelineFound::NoNamespace if in_spec => Act::CreateNamespace(pipeline.namespace.clone()),
        PipelineFound::NoNamespace => return Vec::new(),
        _ if snapshot.is_ending(pipeline) && (in_spec || *found == PipelineFound::Forbidden) => {
            Act::EndNamespace(pipeline.namespace.clone())
        }
        PipelineFound::Forbidden => Act::Grant(secret()),
        PipelineFound::Failed(_) => Act::MendSecret(secret()),
        PipelineFound::Foreign { ring: Some(_), .. } if in_spec => Act::TakeOut(secret()),
        PipelineFound::Foreign { holds, .. } | PipelineFound::OursUnknownKey { holds } => {
            if in_spec || holds.is_some() {
                Act::DeleteSecret(secret())
            } else {
                return Vec::new();
            }
        }
        PipelineFound::Ours { leaving: true, .. } if !in_spec => Act::ReleaseSecret(secret()),
        PipelineFound::Ours { .. } if facts.ledger.is_some_and(fixed) => {
            Act::DeleteSecret(secret())
        }
        PipelineFound::Ours { .. } | PipelineFound::Absent => return Vec::new(),
    };
    vec![act]
}

/// What a deletion waits for.
fn deletion(snapshot: &Snapshot, facts: &Facts<'_>) -> Promise {
    let Some(ledger) = facts.ledger else { return Itself };
    let in_policies = policy::leaving_waits_for(snapshot, facts, ledger);
    let left = ledger.publications.iter().filter(|secret| !snapshot.is_ending(secret));
    let in_namespaces = left.filter_map(|secret| match snapshot.pipelines.get(secret)? {
        PipelineFound::Forbidden => Some(Act::Grant(secret.clone())),
        PipelineFound::Failed(_) => Some(Act::MendSecret(secret.clone())),
        PipelineFound::Ours { leaving: true, .. } => Some(Act::ReleaseSecret(secret.clone())),
        _ => None,
    });
    let way: Vec<Act> = in_policies.into_iter().chain(in_namespaces).collect();
    if way.is_empty() { Itself } else { After(vec![way]) }
}
