//! The policies' side: what the planner of a policy sees, and what its plans do.

use std::{collections::BTreeMap, sync::Arc};

use signingkeyring_core::{
    fingerprint::Fingerprint,
    high_water::HighWater,
    policy::{
        Content, Digest, Inputs, Metadata, PolicySnapshot, Rendered, Renderer, Source, Step,
        plan_policy,
        snapshot::{ObjectSeen, PolicySeen, RingSeen, RuleSeen, WrittenSeen},
    },
    policy_ref::PolicyRef,
};

use super::{LABEL, NAMESPACE, Obstacle, POLICIES, RING, World};

/// A policy as the API server stores it, or Kyverno has loaded it.
#[derive(Debug, PartialEq)]
pub struct Policy {
    object: Rendered,
    pub seen: PolicySeen,
}

impl Policy {
    fn new(policy: PolicyRef, object: Rendered) -> Self {
        let metadata = Metadata { annotations: &object.annotations, labels: &object.labels };
        let seen = policy.kind().read(metadata, &object.spec, fingerprint);
        Self { object, seen }
    }

    /// The rule of the ring.
    pub fn rule(&self) -> Option<&RuleSeen> {
        self.seen.rules.get(RING)
    }
}

/// The fingerprint of a key as the world mints them; nobody's has none.
fn fingerprint(public_key: &str) -> Option<Fingerprint> {
    format!("SHA256:{}", public_key.lines().nth(1)?).parse().ok()
}

/// What the operator last wrote of a policy.
#[derive(Clone, Debug)]
pub struct Written {
    sent: Digest,
    stored: Arc<Policy>,
}

impl World {
    /// The policy controller: one pass over every policy.
    pub fn sync_policies(&mut self) {
        for policy in POLICIES {
            self.sync(policy);
        }
        self.judge();
    }

    fn sync(&mut self, policy: PolicyRef) {
        let snapshot = self.policy_snapshot(policy);
        let inputs = Inputs {
            excluded: &[],
            operator_namespace: NAMESPACE,
            probe_namespace: "signing-probe",
            enrolment_label: LABEL,
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: self.now,
        };
        let kind = Renderer::new(policy, inputs);
        let can_write = self.kyverno_up && self.stuck != Some(policy);
        match plan_policy(&snapshot, &kind).step {
            Step::UpToDate(content) => {
                let stored = Arc::clone(&self.policies[&policy]);
                judge_content(&stored, &content);
                self.remember(policy, &content, stored);
            }
            Step::Write(write) if can_write => {
                let spec = |source: &Source| self.spec(policy, source);
                let rendered = kind.compose(&write.content, spec).expect("a rule that was seen");
                let stored = Arc::new(Policy::new(policy, rendered));
                judge_content(&stored, &write.content);
                self.judge_policy(policy, Some(&stored));
                self.writes += 1;
                self.policies.insert(policy, Arc::clone(&stored));
                self.remember(policy, &write.content, stored);
            }
            Step::Delete if can_write => {
                self.judge_policy(policy, None);
                self.writes += usize::from(self.policies.remove(&policy).is_some());
                self.written.remove(&policy);
            }
            Step::Write(_) | Step::Delete => {}
            Step::Wait if !snapshot.executed => {}
            step @ (Step::Wait | Step::ReadAnew(_) | Step::Conflict | Step::AllRefused) => {
                panic!("{step:?}")
            }
        }
    }

    fn remember(&mut self, policy: PolicyRef, content: &Content, stored: Arc<Policy>) {
        let sent = content.whole.spec.digest;
        self.written.insert(policy, Written { sent, stored });
    }

    fn spec(&self, policy: PolicyRef, source: &Source) -> Option<&serde_json::Value> {
        let stored = match source {
            Source::Found => self.policies.get(&policy),
            Source::Written => self.written.get(&policy).map(|written| &written.stored),
            Source::Ledger(_) | Source::AllButKeys(_) => None,
        };
        Some(&stored?.object.spec)
    }

    fn policy_snapshot(&self, policy: PolicyRef) -> PolicySnapshot {
        let found = self.policies.get(&policy).map(|stored| stored.seen.clone());
        let written = self.written.get(&policy);
        PolicySnapshot {
            policy,
            served: true,
            executed: !self.obstacles.contains(&Obstacle::OlderKyverno(policy.kind())),
            can_be_asked: true,
            found: found.map_or(ObjectSeen::Absent, ObjectSeen::Ours),
            written: written.map(|written| WrittenSeen {
                sent: written.sent,
                stored: written.stored.seen.clone(),
                is_ahead: false,
            }),
            rings: BTreeMap::from([(RING.to_owned(), self.ring_seen())]),
            refused: BTreeMap::new(),
            listed: Vec::new(),
            now: self.now,
        }
    }

    fn ring_seen(&self) -> RingSeen {
        let mut remembered = self.recorded.clone().unwrap_or_default();
        for version in &self.status {
            remembered.raise(&HighWater { version: version.number, ..HighWater::default() });
        }
        RingSeen {
            table: self.ledger.clone().map(Arc::new),
            sound: true,
            was_removed: self.removed,
            exists: self.ring.is_some(),
            revoked: self.ring.iter().flat_map(|ring| ring.revoked.clone()).collect(),
            reported: self
                .status
                .iter()
                .filter(|version| version.state.is_accepted())
                .map(|version| version.public_key.clone())
                .collect(),
            read_anew: true,
            remembered: if self.ring.is_some() { remembered } else { HighWater::default() },
        }
    }
}

/// What a plan says of a policy is what was rendered from it.
fn judge_content(stored: &Policy, planned: &Content) {
    let seen = &stored.seen;
    assert_eq!(seen.spec, planned.whole.spec.digest);
    assert_eq!(seen.own_metadata, planned.whole.own_metadata);
    assert!(seen.rules.keys().eq(planned.rules.keys()));
    for (rule, planned) in seen.rules.values().zip(planned.rules.values()) {
        let planned = &planned.rule;
        assert_eq!((&rule.mark, &rule.high_water), (&planned.mark, &planned.high_water));
        assert!(rule.public_keys().eq(planned.public_keys()));
    }
}
