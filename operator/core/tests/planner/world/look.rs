//! What a pass sees of the world.

use std::{collections::BTreeMap, time::Duration};

use signingkeyring_core::{
    account::Account,
    high_water::HighWater,
    ledger::{Ledger, PipelineRef},
    names::PIPELINE_ROLE,
    policy::{packing, snapshot::RuleSeen},
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::{
        Answer, AskedPolicy, Import, KyvernoFacts, Layout, LedgerFound, OperatorFacts,
        PipelineFound, Place, PolicyFound, Reported, Snapshot, Witness, WriteFailure,
    },
};

use super::{ACCOUNT, LABEL, NAMESPACE, RING, World};

impl World {
    pub fn snapshot(&self) -> Option<Snapshot> {
        let ring = self.ring.clone()?;
        let ledger = self.ledger.as_ref();
        let listed = ledger.into_iter().flat_map(|l| l.publications.iter());
        let pipelines =
            ring.pipelines.keys().chain(listed).map(|p| (p.clone(), self.look(p))).collect();
        let placed = ledger.into_iter().flat_map(|l| l.rule.settings.policies());
        let holding = self.policies.keys().copied();
        let seen = |policy| AskedPolicy { found: self.policy(policy), answer: self.answer(policy) };
        let policies = placed.chain(holding).map(|policy| (policy, seen(policy))).collect();
        Some(self.with_obstacles(Snapshot {
            name: RING.parse().unwrap(),
            can_seal: self.can_seal,
            rotations_full: None,
            place: Place {
                free: packing::place(ring.kind, ring.action, 1, |_| true),
                crowded: false,
            },
            ring,
            ledger: self.ledger.clone().map_or(LedgerFound::Absent, LedgerFound::Present),
            reported: Reported { versions: self.status.clone(), ..Reported::default() },
            witnesses: self.witnesses(),
            recorded: self.recorded.clone(),
            key_secrets: self.key_secrets.clone(),
            import: self.import(),
            shares_key_with: self.shares_key_with.clone().filter(|_| {
                self.import.is_some() && ledger.is_some_and(|l| l.tentative().is_some())
            }),
            served: PolicyKind::ALL.into(),
            outdated: [].into(),
            unusable: BTreeMap::new(),
            questions_missing: self.questions_missing.clone(),
            probe_missing: None,
            covers: self.covers.clone(),
            policies,
            pipelines,
            terminating: self.terminating.clone(),
            enrolled: self.enrolled.clone(),
            omissions: Some(Vec::new()),
            now: self.now,
            operator: OperatorFacts {
                namespace: NAMESPACE.into(),
                probe_namespace: "signing-probe".into(),
                enrolment_label: LABEL.into(),
                account: Account::of_user_name(ACCOUNT),
                pipeline_role: PIPELINE_ROLE.into(),
                kyverno: KyvernoFacts { namespace: "kyverno".into(), config_map: "kyverno".into() },
            },
            trouble: None,
        }))
    }

    fn import(&self) -> Option<Import> {
        let is_asked = self.ledger.as_ref().is_none_or(Ledger::awaits_its_first);
        let found = self.import.clone().filter(|_| is_asked)?;
        let from = PipelineRef { namespace: "ci-1".into(), name: "cosign".into() };
        Some(Import { from, found })
    }

    fn witnesses(&self) -> Vec<Witness> {
        let annotation = self.recorded.iter().map(|high_water| Witness {
            who: "the ring's annotation".into(),
            policy: None,
            high_water: high_water.clone(),
            sequence: None,
        });
        let policies = self.policies.iter().filter_map(|(name, policy)| {
            let rule = policy.rule()?;
            Some(Witness {
                who: format!("policy {name}"),
                policy: Some(*name),
                high_water: rule.high_water.clone(),
                sequence: Some(rule.mark.state.sequence),
            })
        });
        let status = self.status.iter().map(|version| Witness {
            who: "the ring's status".into(),
            policy: None,
            high_water: HighWater { version: version.number, ..HighWater::default() },
            sequence: None,
        });
        annotation.chain(policies).chain(status).collect()
    }

    fn answer(&self, policy: PolicyRef) -> Answer {
        match self.heard.get(&policy) {
            Some((Answer::Answered { mark, .. }, _, since, last)) => Answer::Answered {
                mark: mark.clone(),
                held: Duration::try_from(last.duration_since(*since)).unwrap(),
                behind: Duration::ZERO,
            },
            Some((answer, ..)) => answer.clone(),
            None => Answer::NotAsked,
        }
    }

    fn policy(&self, name: PolicyRef) -> PolicyFound {
        match self.policies.get(&name) {
            None => PolicyFound::Absent { failure: self.failure(name) },
            Some(policy) => PolicyFound::Ours {
                mark: policy.rule().map(|rule| rule.mark.clone()),
                keys: policy
                    .rule()
                    .into_iter()
                    .flat_map(RuleSeen::public_keys)
                    .map(str::to_owned)
                    .collect(),
                credentials: policy.rule().map(|r| r.credentials.clone()).unwrap_or_default(),
                failure: self.failure(name),
                differs: None,
            },
        }
    }

    fn failure(&self, policy: PolicyRef) -> Option<WriteFailure> {
        let stuck = self.stuck == Some(policy);
        stuck.then(|| WriteFailure { refused: false, message: "no room".into() })
    }

    fn look(&self, pipeline: &PipelineRef) -> PipelineFound {
        if self.forbidden.contains(pipeline) {
            return PipelineFound::Forbidden;
        }
        match self.secrets.get(pipeline) {
            None => PipelineFound::Absent,
            Some(held) => {
                let row = self.ledger.as_ref().and_then(|ledger| ledger.by_fingerprint(held));
                let Some(row) = row else { return PipelineFound::OursUnknownKey { holds: None } };
                let holds = row.state().is_accepted().then_some(row.number);
                let layout = Some(Layout::Cosign);
                let fixed = self.fixed.contains(pipeline);
                PipelineFound::Ours { holds, layout, intact: true, fixed, leaving: false }
            }
        }
    }
}
