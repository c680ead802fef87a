//! What there is to say of rings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;
use signingkeyring_core::condition::Kind;
use signingkeyring_crds::{SigningKeyRing, VersionState};

use super::notes::{Note, notes};
use crate::{
    cluster::FoundRing,
    ring::{condition, is_observed, is_ready, rotation_under_way, versions},
};

/// All rings, in brief.
#[derive(Debug, Serialize)]
pub struct Rings {
    /// By name.
    pub rings: Vec<RingInBrief>,
}

/// A ring, in brief.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RingInBrief {
    pub name: String,
    pub is_ready: bool,
    pub reason: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u32>,
    pub accepted_versions: Vec<u32>,
    pub enrolled_namespaces: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

/// A ring with all that is known of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RingView {
    pub name: String,
    pub is_ready: bool,
    pub reason: String,
    pub message: String,
    pub versions: Vec<VersionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyView>,
    /// What the operator has counted.
    pub enrolled_namespaces: u32,
    /// Their names; nothing if one may not list namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    pub pipelines: Vec<PipelineView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotates_every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Timestamp>,
    /// The value of the annotation, while its rotation is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_under_way: Option<String>,
    pub suspended: bool,
    /// What is not as it should be, with what helps.
    pub notes: Vec<Note>,
}

/// A version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    pub version: u32,
    pub state: VersionState,
    pub fingerprint: String,
    pub minted: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<Timestamp>,
    /// The pipelines whose Secrets hold its private key.
    pub held_by: Vec<String>,
}

/// The ring's rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    pub kind: String,
    pub name: String,
    pub rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Whether Kyverno answered with it, and in which words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Said>,
}

/// What a condition says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// A pipeline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineView {
    pub secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub state: String,
}

/// All rings.
pub fn of_rings<'a>(rings: impl Iterator<Item = &'a FoundRing>) -> Rings {
    let mut rings: Vec<RingInBrief> = rings.map(in_brief).collect();
    rings.sort_by(|a, b| a.name.cmp(&b.name));
    Rings { rings }
}

fn in_brief(found: &FoundRing) -> RingInBrief {
    let ring = match &found.0 {
        Ok(ring) => ring,
        Err(invalid) => return unreadable(found.name_any(), &invalid.error),
    };
    let status = ring.status.clone().unwrap_or_default();
    let (reason, message) = ready(ring);
    let current = versions(ring).iter().find(|v| v.state == VersionState::Current);
    RingInBrief {
        name: ring.name_any(),
        is_ready: is_ready(ring),
        reason,
        message,
        current_version: status.current_version,
        accepted_versions: status.accepted_versions,
        enrolled_namespaces: status.enrolled_namespaces,
        policy: status.policy.map(|policy| policy.name),
        fingerprint: current.map(|version| version.fingerprint.clone()),
        next_rotation: status.next_rotation_time.map(|time| time.0),
        created: ring.creation_timestamp().map(|time| time.0),
    }
}

fn unreadable(name: String, why: &str) -> RingInBrief {
    RingInBrief {
        name,
        is_ready: false,
        reason: "Unreadable".to_owned(),
        message: format!("this plugin cannot read it ({why}): install the operator's version"),
        current_version: None,
        accepted_versions: Vec::new(),
        enrolled_namespaces: 0,
        policy: None,
        fingerprint: None,
        next_rotation: None,
        created: None,
    }
}

/// Why a ring is ready or not, in a word and in a sentence.
fn ready(ring: &SigningKeyRing) -> (String, String) {
    match condition(ring, Kind::Ready) {
        Some(_) if !is_observed(ring) => {
            let message = "the operator has yet to look at the ring as it is now";
            ("NotObserved".to_owned(), message.to_owned())
        }
        Some(ready) => (ready.reason.clone(), ready.message.clone()),
        None => {
            let message = "the operator has said nothing of this ring yet: if that stays so, see \
                           kubectl signing doctor";
            ("NotObserved".to_owned(), message.to_owned())
        }
    }
}

/// One ring.
pub fn of_ring(ring: &SigningKeyRing, namespaces: Option<Vec<String>>) -> RingView {
    let status = ring.status.clone().unwrap_or_default();
    let (reason, message) = ready(ring);
    let pipelines: Vec<PipelineView> = status
        .pipelines
        .iter()
        .map(|pipeline| PipelineView {
            secret: format!("{}/{}", pipeline.namespace, pipeline.secret_name),
            version: pipeline.version,
            state: pipeline.state.clone(),
        })
        .collect();
    let holders = |version: u32| {
        let holds = pipelines.iter().filter(|pipeline| pipeline.version == Some(version));
        holds.map(|pipeline| pipeline.secret.clone()).collect()
    };
    let versions = status
        .versions
        .iter()
        .map(|version| VersionView {
            version: version.version,
            state: version.state,
            fingerprint: version.fingerprint.clone(),
            minted: version.created_at.0,
            activated: version.activated_at.as_ref().map(|time| time.0),
            held_by: holders(version.version),
        })
        .collect();
    let policy = status.policy.map(|policy| PolicyView {
        kind: policy.kind,
        name: policy.name,
        rule: policy.rule,
        because: policy.because,
        enforced: condition(ring, Kind::PolicyEnforced).map(said),
    });
    RingView {
        name: ring.name_any(),
        is_ready: is_ready(ring),
        reason,
        message,
        versions,
        policy,
        enrolled_namespaces: status.enrolled_namespaces,
        namespaces,
        pipelines,
        rotates_every: ring.spec.rotation.every.clone(),
        next_rotation: status.next_rotation_time.map(|time| time.0),
        rotation_under_way: rotation_under_way(ring).map(str::to_owned),
        suspended: ring.spec.suspend,
        notes: notes(&status.conditions),
    }
}

fn said(condition: &Condition) -> Said {
    Said {
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// What a log is told of each ring, in the order in which it is said.
pub fn sentences(rings: &BTreeMap<String, FoundRing>) -> BTreeMap<String, Vec<String>> {
    let of = |found: &FoundRing| match &found.0 {
        Err(invalid) => vec![format!("cannot be read: {}", invalid.error)],
        Ok(ring) => {
            let view = of_ring(ring, None);
            let mut sentences = vec![match view.is_ready {
                true => format!("ready: {}", view.message),
                false => format!("not ready, {}: {}", view.reason, view.message),
            }];
            sentences.extend(view.versions.iter().map(|v| {
                let holders = match v.held_by.is_empty() {
                    true => String::new(),
                    false => format!(", held by {}", v.held_by.join(", ")),
                };
                format!("version {} is {:?}{holders}", v.version, v.state)
            }));
            let notes = view.notes.iter().filter(|note| note.message != view.message);
            sentences
                .extend(notes.map(|n| format!("{}, {}: {}", n.condition, n.reason, n.message)));
            sentences
        }
    };
    rings.iter().map(|(name, found)| (name.clone(), of(found))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::ring;

    #[test]
    fn a_ring_that_nobody_has_looked_at_since_is_not_ready() {
        let mut ring = ring(&[VersionState::Current]);
        let status = ring.status.as_mut().unwrap();
        let ready = serde_json::json!({
            "type": "Ready", "status": "True", "reason": "Available", "message": "all is as asked",
            "lastTransitionTime": "2026-11-24T10:00:00Z",
        });
        status.conditions = vec![serde_json::from_value(ready).unwrap()];
        assert!(of_ring(&ring, None).is_ready);
        ring.metadata.generation = Some(2);
        let view = of_ring(&ring, None);
        assert_eq!((view.is_ready, &*view.reason), (false, "NotObserved"));
    }
}
