//! What happens: actions, Kyverno and its gate.

use std::{collections::BTreeMap, time::Duration};

use signingkeyring_core::{
    ledger::{Cause, Change, Ledger, Mint, NewKey, PrivateKeyRef},
    marks::RuleState,
    plan::Action,
    policy_ref::PolicyRef,
    snapshot::{Answer, ImportFound, known_to},
};

use super::{Obstacle, World, judge::accepts};

impl World {
    /// Executes an action that was planned from `seen`, as the API server
    /// would: a commit from an older ledger is refused.
    pub fn execute_from(&mut self, seen: Option<u64>, action: &Action) {
        let sequence = self.ledger.as_ref().map(|ledger| ledger.sequence);
        let needs_ledger = !matches!(
            action,
            Action::AddFinalizer(None) | Action::DeleteSecret(_) | Action::DeleteKeySecret(_)
        );
        // Nothing is created in a namespace that is being deleted by now.
        let is_refused = matches!(action, Action::WriteSecret { pipeline, .. }
            if !self.secrets.contains_key(pipeline)
                && self.terminating.contains(&pipeline.namespace));
        if (!needs_ledger || seen == sequence) && !is_refused {
            self.execute(action);
            self.judge();
        }
    }

    pub(super) fn execute(&mut self, action: &Action) {
        self.writes += 1;
        match action {
            Action::AddFinalizer(mark) => {
                self.ring_mut().finalizer = true;
                self.recorded = mark.clone().or(self.recorded.take());
            }
            Action::RemoveFinalizer => self.ring = None,
            Action::Mint(Mint::Import { .. }) if self.shares_key_with.is_some() => {
                self.import =
                    self.shares_key_with.take().map(|r| ImportFound::Failed(known_to(&r)));
            }
            Action::Mint(mint) => {
                if matches!(mint, Mint::Recover(_)) {
                    let was = [Obstacle::Damaged, Obstacle::DamagedAsAWhole];
                    self.rid_of(|obstacle| was.contains(obstacle));
                }
                self.minted += 1;
                let mut key = key(mint.version());
                self.keys.insert(key.public_key.clone());
                if matches!(mint, Mint::New { cause: Cause::Standby, .. }) {
                    self.standbys += 1;
                    let sequence = self.ledger.as_ref().map_or(0, |ledger| ledger.sequence);
                    let secret = format!("standby-{}", mint.version());
                    self.key_secrets.insert(
                        secret.clone(),
                        signingkeyring_core::snapshot::KeySecret { sequence, is_fit: true },
                    );
                    key.private_key.secret = Some(secret);
                }
                self.commit(&Ledger::mint(self.ledger.as_ref(), mint, key, self.now).unwrap());
            }
            Action::Commit(change) => {
                let next = Ledger::apply(self.ledger.as_ref(), change, self.now).unwrap();
                if let Change::Remove { .. } = change {
                    self.rid_of(|obstacle| *obstacle == Obstacle::Damaged);
                }
                if let Change::Activate { version, .. } = change {
                    self.judge_activation(&next, *version);
                }
                self.commit(&next);
            }
            Action::WriteSecret { pipeline, version, .. } => {
                let ledger = self.ledger.as_ref().unwrap();
                let row = ledger.by_number(*version).unwrap();
                let held = row.private_key().expect("a version without private key");
                let secret = held.secret.as_ref();
                assert!(secret.is_none_or(|secret| self.key_secrets.contains_key(secret)));
                assert!(ledger.publications.contains(pipeline), "{pipeline} was not written down");
                let creates = !self.secrets.contains_key(pipeline);
                let ends = self.terminating.contains(&pipeline.namespace);
                assert!(!(creates && ends), "nothing can be created where {pipeline} was to be");
                assert!(!self.fixed.contains(pipeline), "{pipeline} cannot be changed");
                let fingerprint = row.fingerprint.clone();
                for rule in self.loaded.values().filter_map(|policy| policy.rule()) {
                    assert!(
                        accepts(rule, &fingerprint),
                        "version {version} signs before Kyverno accepts it"
                    );
                }
                self.secrets.insert(pipeline.clone(), fingerprint);
            }
            Action::DeleteSecret(pipeline) => {
                self.secrets.remove(pipeline);
                self.fixed.remove(pipeline);
            }
            Action::RecordHighWater(mark) => self.recorded = Some(mark.clone()),
            Action::DeleteKeySecret(name) => {
                let ledger = self.ledger.as_ref().unwrap();
                let named = ledger
                    .versions
                    .iter()
                    .filter_map(|v| v.private_key()?.secret.as_ref())
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

    fn commit(&mut self, next: &Ledger) {
        self.judge_revocations(next);
        self.removed |= next.removed;
        self.ledger = Some(Ledger::parse(&next.to_json()).unwrap());
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
        let wanted: BTreeMap<PolicyRef, RuleState> = match &self.ledger {
            Some(ledger) => {
                let places = ledger.rule.settings.policies();
                places.map(|policy| (policy, ledger.rule_state())).collect()
            }
            None => {
                let found = self.policies.iter();
                found
                    .filter_map(|(name, policy)| Some((*name, policy.rule()?.mark.state.clone())))
                    .collect()
            }
        };
        for (policy, wanted) in wanted {
            let answer = match (self.kyverno_up, self.loaded.get(&policy)) {
                (false, _) => Answer::Unreachable("down".into()),
                (true, None) => Answer::Open(Duration::from_secs(60)),
                (true, Some(loaded)) => Answer::Answered {
                    mark: loaded.rule().map(|rule| rule.mark.clone()),
                    held: Duration::ZERO,
                    behind: Duration::ZERO,
                },
            };
            let said = |answer: &Answer| match answer {
                Answer::Answered { mark, .. } => mark.clone(),
                _ => None,
            };
            let since = match self.heard.get(&policy) {
                Some((before, for_set, since, _))
                    if *for_set == wanted
                        && matches!(before, Answer::Answered { .. })
                        && said(before) == said(&answer) =>
                {
                    *since
                }
                _ => self.now,
            };
            self.heard.insert(policy, (answer, wanted, since, self.now));
        }
    }
}

fn key(number: u32) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{number}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{number}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: "00".into(), secret: None },
    }
}
