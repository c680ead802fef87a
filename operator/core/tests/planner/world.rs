//! A cluster in memory: executes plans one action at a time, with a policy
//! controller and a Kyverno that run when told to, and judges every state.
//!
//! It knows the invariants from their text, not from the planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use signingkeyring_core::{
    high_water::HighWater,
    ledger::{
        Action as RuleAction, Change, Ledger, NewKey, PipelineRef, PrivateKeyRef, State, Version,
    },
    marks::Mark,
    packing,
    plan::{self, Action, Plan},
    report::Condition,
    snapshot::{
        Answer, ImportFound, Layout, LedgerFound, OperatorFacts, PipelineFound, PolicyFound,
        Reported, Ring, Snapshot, Witness,
    },
};

pub const RING: &str = "shop";
pub const SOAK: u64 = 10;

/// What a policy, or Kyverno, holds of the ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub mark: Mark,
    pub high_water: HighWater,
    pub keys: BTreeSet<String>,
    pub accepted: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub ring: Option<Ring>,
    pub ledger: Option<Ledger>,
    pub policies: BTreeMap<String, Option<Rule>>,
    pub loaded: BTreeMap<String, Option<Rule>>,
    pub kyverno_up: bool,
    /// The versions in the ring's status.
    pub status: Vec<Version>,
    /// What the ring's annotation remembers.
    pub recorded: Option<HighWater>,
    /// The Secrets of standby keys, with the ledger's sequence when written.
    pub key_secrets: BTreeMap<String, u64>,
    /// The fingerprint each Secret holds.
    pub secrets: BTreeMap<PipelineRef, String>,
    pub forbidden: BTreeSet<PipelineRef>,
    pub enrolled: BTreeSet<String>,
    pub now: Timestamp,
    /// Per policy: what was heard, for which mark, since when, last when.
    heard: BTreeMap<String, (Answer, Mark, Timestamp, Timestamp)>,
    pub minted: u32,
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
        soak: Duration::from_secs(SOAK),
        pipelines: BTreeMap::from([(pipeline(1), Layout::Cosign)]),
        action: RuleAction::Enforce,
        exclude: Vec::new(),
        token: None,
        deleting: false,
        allow_unenforced: false,
        finalizer: false,
        standby: false,
        suspend: false,
        revoked: Vec::new(),
        import: None,
        recover_after: None,
        problems: Vec::new(),
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
            status: Vec::new(),
            recorded: None,
            key_secrets: BTreeMap::new(),
            secrets: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            enrolled: BTreeSet::from(["shop-dev".to_owned()]),
            now: "2026-11-24T10:00:00Z".parse().unwrap(),
            heard: BTreeMap::new(),
            minted: 0,
            standbys: 0,
            writes: 0,
            removed: false,
        }
    }

    pub fn ring_mut(&mut self) -> &mut Ring {
        self.ring.as_mut().unwrap()
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        let ring = self.ring.clone()?;
        let ledger = self.ledger.as_ref();
        let listed = ledger.into_iter().flat_map(|l| l.publications.iter());
        let pipelines =
            ring.pipelines.keys().chain(listed).map(|p| (p.clone(), self.look(p))).collect();
        let placed: Vec<String> = ledger
            .into_iter()
            .flat_map(|l| l.rule.settings.policies())
            .map(str::to_owned)
            .collect();
        let policies = match ledger {
            Some(_) => placed.iter().map(|name| (name.clone(), self.policy(name))).collect(),
            None => self.policies.keys().map(|name| (name.clone(), self.policy(name))).collect(),
        };
        let gate = placed
            .iter()
            .map(|name| {
                let answer = match self.heard.get(name) {
                    Some((Answer::Answered { mark, .. }, _, since, last)) => Answer::Answered {
                        mark: mark.clone(),
                        held: Duration::try_from(last.duration_since(*since)).unwrap(),
                    },
                    Some((answer, ..)) => answer.clone(),
                    None => Answer::NotAsked,
                };
                (name.clone(), answer)
            })
            .collect();
        Some(Snapshot {
            name: RING.to_owned(),
            free_place: packing::place(
                ring.action,
                &BTreeMap::new(),
                packing::Occupancy { rings: 25, bytes: 1 << 19 },
            ),
            crowded: false,
            ring,
            ledger: self.ledger.clone().map_or(LedgerFound::Absent, LedgerFound::Present),
            reported: Reported { versions: self.status.clone(), ..Reported::default() },
            witnesses: self.witnesses(),
            recorded: self.recorded.clone(),
            key_secrets: self.key_secrets.clone(),
            import: ImportFound::NotAsked,
            kyverno_served: true,
            policies,
            gate,
            pipelines,
            enrolled: self.enrolled.clone(),
            now: self.now,
            operator: OperatorFacts {
                namespace: "signing-system".into(),
                enrolment_label: "signing.odj.cloud/ring".into(),
            },
            trouble: None,
        })
    }

    fn witnesses(&self) -> Vec<Witness> {
        let annotation = self.recorded.iter().map(|high_water| Witness {
            who: "the ring's annotation".into(),
            high_water: high_water.clone(),
            sequence: None,
        });
        let policies = self.policies.iter().filter_map(|(name, rule)| {
            let rule = rule.as_ref()?;
            Some(Witness {
                who: format!("policy {name}"),
                high_water: rule.high_water.clone(),
                sequence: Some(rule.mark.sequence),
            })
        });
        let status = self.status.iter().map(|version| Witness {
            who: "the ring's status".into(),
            high_water: HighWater { version: version.number, ..HighWater::default() },
            sequence: None,
        });
        annotation.chain(policies).chain(status).collect()
    }

    fn policy(&self, name: &str) -> PolicyFound {
        match self.policies.get(name) {
            None => PolicyFound::Absent { failure: None },
            Some(rule) => PolicyFound::Ours {
                mark: rule.as_ref().map(|rule| rule.mark.clone()),
                keys: rule.iter().flat_map(|rule| rule.keys.iter().cloned()).collect(),
                failure: None,
            },
        }
    }

    fn look(&self, pipeline: &PipelineRef) -> PipelineFound {
        if self.forbidden.contains(pipeline) {
            return PipelineFound::Forbidden;
        }
        match self.secrets.get(pipeline) {
            None => PipelineFound::Absent,
            Some(held) if self.ledger.as_ref().is_none_or(|l| l.by_fingerprint(held).is_none()) => {
                PipelineFound::OursUnknownKey
            }
            Some(fingerprint) => PipelineFound::Ours {
                fingerprint: fingerprint.clone(),
                layout: Some(Layout::Cosign),
                intact: true,
            },
        }
    }

    pub fn plan(&self) -> Option<Plan> {
        Some(plan::plan(&self.snapshot()?))
    }

    pub fn condition(&self, kind: signingkeyring_core::report::Kind) -> Option<Condition> {
        let report = self.plan()?.report;
        report.conditions.into_iter().find(|c| c.kind == kind)
    }

    /// One pass; a crash comes after so many actions.
    pub fn pass(&mut self, crash_after: usize) {
        let Some(plan) = self.plan() else { return };
        for action in plan.actions.into_iter().take(crash_after) {
            self.execute(&action);
            self.judge();
        }
        if let Some(ledger) = &self.ledger {
            self.status.clone_from(&ledger.versions);
        }
    }

    /// Executes an action that was planned from `seen`, as the API server
    /// would: a commit from an older ledger is refused.
    pub fn execute_from(&mut self, seen: Option<u64>, action: &Action) {
        let sequence = self.ledger.as_ref().map(|ledger| ledger.sequence);
        let needs_ledger = !matches!(
            action,
            Action::AddFinalizer | Action::DeleteSecret(_) | Action::DeleteKeySecret(_)
        );
        if !needs_ledger || seen == sequence {
            self.execute(action);
            self.judge();
        }
    }

    fn execute(&mut self, action: &Action) {
        self.writes += 1;
        match action {
            Action::AddFinalizer => self.ring_mut().finalizer = true,
            Action::RemoveFinalizer => self.ring = None,
            Action::Commit(change) => {
                let key = change.mints().map(|version| {
                    self.minted += 1;
                    let mut key = key(version);
                    if matches!(change, Change::Mint { standby: true, .. }) {
                        self.standbys += 1;
                        let sequence = self.ledger.as_ref().map_or(0, |ledger| ledger.sequence);
                        let secret = format!("standby-{version}");
                        self.key_secrets.insert(secret.clone(), sequence);
                        key.private_key.secret = Some(secret);
                    }
                    key
                });
                let next = Ledger::apply(self.ledger.as_ref(), change, key, self.now).unwrap();
                self.judge_revocations(&next);
                if let Change::Activate { version, .. } = change {
                    self.judge_activation(&next, *version);
                }
                self.removed |= next.removed;
                self.ledger = Some(Ledger::parse(&next.to_json()).unwrap());
            }
            Action::WriteSecret { pipeline, version, .. } => {
                let ledger = self.ledger.as_ref().unwrap();
                let row = ledger.by_number(*version).unwrap();
                let held = row.private_key.as_ref().expect("a version without private key");
                let apart = held.secret.as_ref();
                assert!(apart.is_none_or(|secret| self.key_secrets.contains_key(secret)));
                assert!(ledger.publications.contains(pipeline), "{pipeline} was not written down");
                let fingerprint = row.fingerprint.clone();
                for rules in self.loaded.values().flatten() {
                    assert!(
                        rules.accepted.contains(&fingerprint),
                        "version {version} signs before Kyverno accepts it"
                    );
                }
                self.secrets.insert(pipeline.clone(), fingerprint);
            }
            Action::DeleteSecret(pipeline) => {
                self.secrets.remove(pipeline);
            }
            Action::RecordHighWater(mark) => self.recorded = Some(mark.clone()),
            Action::DeleteKeySecret(name) => {
                let ledger = self.ledger.as_ref().unwrap();
                let named = ledger
                    .versions
                    .iter()
                    .filter_map(|v| v.private_key.as_ref()?.secret.as_ref())
                    .any(|secret| secret == name);
                assert!(ledger.removed || !named, "the key of a version was deleted");
                self.key_secrets.remove(name);
            }
            Action::DeleteLedger => {
                let ledger = self.ledger.take().unwrap();
                assert!(ledger.removed, "a ledger in use was deleted");
                assert!(ledger.publications.is_empty(), "Secrets were forgotten");
                assert!(self.key_secrets.is_empty(), "standby keys were forgotten");
            }
        }
    }

    /// The policy controller.
    pub fn sync_policies(&mut self) {
        let Some(ledger) = self.ledger.clone() else { return };
        if !self.kyverno_up {
            return;
        }
        let placed: Vec<&str> = ledger.rule.settings.policies().collect();
        let rule = Rule {
            mark: ledger.mark(),
            high_water: ledger.high_water(),
            keys: ledger.accepted().map(|v| v.public_key.clone()).collect(),
            accepted: ledger.accepted().map(|v| v.fingerprint.clone()).collect(),
        };
        for name in ["signing-enforce-0001", "signing-audit-0001"] {
            let wanted = placed.contains(&name) && !ledger.removed;
            if wanted {
                self.policies.insert(name.into(), Some(rule.clone()));
            } else if self.policies.remove(name).is_some() && !ledger.removed {
                let elsewhere = placed.iter().any(|p| matches!(self.loaded.get(*p), Some(Some(_))));
                assert!(elsewhere, "the rule left {name} before Kyverno had it elsewhere");
            }
        }
        self.judge();
    }

    /// Kyverno reads the policies.
    pub fn load(&mut self) {
        if self.kyverno_up {
            self.loaded = self.policies.clone();
            self.judge();
        }
    }

    /// The gate is asked.
    pub fn ask(&mut self) {
        let Some(ledger) = &self.ledger else { return };
        let wanted = ledger.mark();
        for policy in ledger.rule.settings.policies() {
            let answer = match (self.kyverno_up, self.loaded.get(policy)) {
                (false, _) => Answer::Mute("down".into()),
                (true, None) => Answer::Open,
                (true, Some(rule)) => Answer::Answered {
                    mark: rule.as_ref().map(|rule| rule.mark.clone()),
                    held: Duration::ZERO,
                },
            };
            let said = |answer: &Answer| match answer {
                Answer::Answered { mark, .. } => mark.clone(),
                _ => None,
            };
            let since = match self.heard.get(policy) {
                Some((before, for_set, since, _))
                    if *for_set == wanted
                        && matches!(before, Answer::Answered { .. })
                        && said(before) == said(&answer) =>
                {
                    *since
                }
                _ => self.now,
            };
            self.heard.insert(policy.to_owned(), (answer, wanted.clone(), since, self.now));
        }
    }

    /// An operator that starts knows no answers.
    pub fn restart(&mut self) {
        self.heard.clear();
    }

    pub fn tick(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// Lets everything happen until nothing does; returns whether it came to rest.
    pub fn settle(&mut self) -> bool {
        for _ in 0..400 {
            let before = (self.ring.is_some(), self.ledger.clone(), self.secrets.clone());
            self.sync_policies();
            self.load();
            self.ask();
            self.pass(usize::MAX);
            self.tick(1);
            let after = (self.ring.is_some(), self.ledger.clone(), self.secrets.clone());
            let suspended = self.ring.as_ref().is_some_and(|ring| ring.suspend);
            let waiting = !suspended && self.ledger.as_ref().is_some_and(|l| l.pending().is_some());
            let planned = self.plan().is_some_and(|plan| !plan.actions.is_empty());
            if before == after && !planned && !waiting {
                return true;
            }
        }
        false
    }

    /// Invariant 5: what was revoked once is revoked for ever, and its private
    /// key is gone.
    fn judge_revocations(&self, next: &Ledger) {
        let rows = self.ledger.iter().flat_map(|ledger| &ledger.versions);
        for before in rows.filter(|v| v.state == State::Revoked) {
            let after = next.by_number(before.number);
            assert!(after.is_none_or(|after| after.state == State::Revoked));
        }
        let revoked = next.versions.iter().filter(|v| v.state == State::Revoked);
        assert!(revoked.into_iter().all(|v| v.private_key.is_none()));
    }

    /// A version becomes current only when no pipeline of the spec holds an
    /// older one.
    fn judge_activation(&self, ledger: &Ledger, version: u32) {
        let row = ledger.versions.iter().find(|v| v.number == version).unwrap();
        let spec = self.ring.as_ref().unwrap();
        for (pipeline, held) in &self.secrets {
            assert!(
                !spec.pipelines.contains_key(pipeline) || *held == row.fingerprint,
                "version {version} is current while {pipeline} signs with {held}"
            );
        }
    }

    /// Invariant 1, on every state: what a pipeline of a ring that is not being
    /// removed signs with, every policy of the ring accepts.
    fn judge(&self) {
        if self.removed {
            return;
        }
        for (pipeline, fingerprint) in &self.secrets {
            let spec = self.ring.as_ref().is_none_or(|ring| ring.pipelines.contains_key(pipeline));
            for (name, rule) in self.policies.iter().filter(|_| spec) {
                if let Some(rule) = rule {
                    assert!(
                        self.is_revoked(fingerprint) || rule.accepted.contains(fingerprint),
                        "{name} does not accept what {pipeline} signs with"
                    );
                }
            }
        }
        if let Some(ledger) = &self.ledger {
            let current = ledger.versions.iter().filter(|v| v.state == State::Current).count();
            assert!(current <= 1);
        }
    }
}

impl World {
    fn is_revoked(&self, fingerprint: &str) -> bool {
        let row = self.ledger.as_ref().and_then(|ledger| ledger.by_fingerprint(fingerprint));
        row.is_some_and(|row| row.state == State::Revoked)
    }
}

fn key(number: u32) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{number}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{number}"),
        private_key: PrivateKeyRef { digest: "00".into(), secret: None },
    }
}
