//! What a person does who reads a condition: by the command that its message
//! prints, or else by hand.

use signingkeyring_core::{
    ledger::PipelineRef, policy_ref::PolicyKind, promise::Act, snapshot::ImportFound,
};

use super::{ACCOUNT, LABEL, Obstacle, RING, World};

/// Its namespace and its ConfigMap.
const KYVERNO: Option<&str> = Some("kyverno");

impl World {
    /// Goes a way that a condition promises to lead on.
    pub fn obey(&mut self, act: &Act, said: &str) -> Result<(), String> {
        let snapshot = self.snapshot().unwrap();
        match act.command(&snapshot.operator, &snapshot.name) {
            Some(command) => {
                if !said.contains(&command) {
                    return Err(format!("nobody says {command}"));
                }
                command.split(" && ").for_each(|command| self.run(command));
            }
            None => self.by_hand(act),
        }
        Ok(())
    }

    fn by_hand(&mut self, act: &Act) {
        match act {
            Act::CorrectSpec => self.rid_of(|o| *o == Obstacle::Problem),
            Act::Unsuspend => self.ring_mut().suspend = false,
            Act::TakeOut(pipeline) => {
                self.ring_mut().pipelines.remove(pipeline);
            }
            Act::CorrectRevocation => self.ring_mut().revoked.clear(),
            Act::TakeImportOut => (self.import, self.shares_key_with) = (None, None),
            Act::CreateImport => self.import = Some(ImportFound::Present),
            Act::CorrectExclusions => self.rid_of(|o| *o == Obstacle::Rejected),
            Act::RestoreLedger => {
                self.ledger = self.backup.clone();
                self.rid_of(|o| {
                    let rest = [Obstacle::Damaged, Obstacle::DamagedAsAWhole, Obstacle::RaisedMark];
                    rest.contains(o)
                });
            }
            Act::EndNamespace(name) => {
                let ended: Vec<_> =
                    self.named_secrets().into_iter().filter(|p| p.namespace == *name).collect();
                self.namespaces_are_created_anew();
                ended.into_iter().for_each(|p| self.meets(Obstacle::NoNamespace(p)));
            }
            Act::ReleaseSecret(pipeline) => self.is_deleted(pipeline),
            Act::MendSecret(pipeline) => self.rid_of(|o| *o == Obstacle::Failed(pipeline.clone())),
            Act::MendPolicy => {
                self.stuck = None;
                self.rid_of(|o| matches!(o, Obstacle::Unwritable(_) | Obstacle::Uncreatable));
            }
            Act::MendKyverno => {
                self.kyverno_up = true;
                self.rid_of(|o| {
                    let silent =
                        matches!(o, Obstacle::Silent | Obstacle::Slow | Obstacle::NoQuestions);
                    silent
                        || matches!(o, Obstacle::NoKyverno | Obstacle::Outdated)
                        || matches!(o, Obstacle::NotServed(_) | Obstacle::OlderKyverno(_))
                        || matches!(o, Obstacle::Frozen(_) | Obstacle::NotLoaded(_))
                });
                self.load();
            }
            Act::CloseOmission => self.rid_of(|o| matches!(o, Obstacle::LeavesOut(_))),
            Act::MendGate => self.rid_of(|o| *o == Obstacle::Unreadable),
            Act::Serve(kind) => self.rid_of(|o| {
                [Obstacle::NotServed(*kind), Obstacle::OlderKyverno(*kind)].contains(o)
            }),
            other => panic!("{other:?} has a command"),
        }
    }

    fn named_secrets(&self) -> Vec<PipelineRef> {
        self.snapshot().unwrap().pipelines.into_keys().collect()
    }

    fn is_deleted(&mut self, secret: &PipelineRef) {
        self.secrets.remove(secret);
        self.fixed.remove(secret);
        self.rid_of(|o| match o {
            Obstacle::Foreign(p, _) | Obstacle::UnknownKey(p) | Obstacle::Leaving(p) => p == secret,
            _ => false,
        });
    }

    /// As kubectl and the API server would. What is not known here is a command
    /// that no test has run.
    fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let flag = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let in_namespace = |name: &str| PipelineRef {
            namespace: flag("--namespace").expect("a namespace").to_owned(),
            name: name.to_owned(),
        };
        let account = ACCOUNT.replace("system:serviceaccount", "--serviceaccount");
        let account = account.replacen("--serviceaccount:", "--serviceaccount=", 1);
        match words.get(1..).unwrap() {
            ["label", "namespace", selector, label] => {
                assert_eq!(*selector, format!("--selector={LABEL}={RING}"));
                assert_eq!(*label, format!("{LABEL}-"));
                self.enrolled.clear();
            }
            ["annotate", "--overwrite", "skr", ring, annotation] => {
                assert_eq!(*ring, RING);
                match annotation.split_once('=') {
                    Some(("signing.odj.cloud/allow-unenforced-deletion", "true")) => {
                        self.ring_mut().allow_unenforced = true;
                    }
                    Some(("signing.odj.cloud/recover-after-version", version)) => {
                        self.ring_mut().recover_after = version.parse().ok();
                    }
                    other => panic!("{other:?}"),
                }
            }
            ["annotate", "clusterpolicy", policy, "signing.odj.cloud/rings-"] => {
                assert_eq!(*policy, super::ENFORCE.to_string());
                self.rid_of(|o| *o == Obstacle::RaisedMark);
            }
            ["patch", "skr", ring, "--type=merge", patch] => {
                assert_eq!(*ring, RING);
                let is_asked = |kind: &PolicyKind| {
                    let spec = format!(r#"{{"spec":{{"policy":{{"kind":"{}"}}}}}}"#, kind.as_str());
                    *patch == format!("--patch={spec}")
                };
                let kind = PolicyKind::ALL.into_iter().find(is_asked).expect("a kind");
                let seen = self.snapshot().unwrap();
                assert!(seen.executes(kind), "it would move where nothing is executed");
                assert!(!seen.unusable.contains_key(&kind), "it would move where nothing changes");
                let is_asked = kind.has_question_kind() || seen.probe_missing.is_none();
                assert!(is_asked, "nobody would answer there");
                self.ring_mut().kind = kind;
            }
            ["apply", "-k", "manifests/probe"] => self.rid_of(|o| *o == Obstacle::NoProbe),
            ["delete", "clusterpolicy", policy] => {
                assert_eq!(*policy, super::ENFORCE.to_string());
                self.rid_of(|o| *o == Obstacle::ForeignPolicy);
            }
            ["create", "namespace", name] => {
                self.rid_of(|o| matches!(o, Obstacle::NoNamespace(p) if p.namespace == *name));
            }
            ["delete", "secret", name, _] => {
                let secret = in_namespace(name);
                if secret.name == format!("ring-{RING}") {
                    assert_eq!(secret.namespace, super::NAMESPACE);
                    self.ledger = None;
                    self.rid_of(|o| *o == Obstacle::ForeignLedger);
                } else {
                    self.is_deleted(&secret);
                }
            }
            ["create", "role", "signingkeyring-kyverno-access", ..] => {
                assert_eq!(flag("--resource"), Some("configmaps"));
                assert_eq!((flag("--namespace"), flag("--resource-name")), (KYVERNO, KYVERNO));
            }
            ["create", "rolebinding", "signingkeyring-kyverno-access", .., subject] => {
                assert_eq!((*subject, flag("--namespace")), (account.as_str(), KYVERNO));
                self.rid_of(|o| matches!(o, Obstacle::LeavesOut(_)));
            }
            ["create", "role", ..] => {
                assert!(flag("--resource-name").is_some() && flag("--resource") == Some("secrets"));
            }
            ["create", "rolebinding", name, .., subject] => {
                assert_eq!(*subject, account);
                let role = flag("--clusterrole").or_else(|| flag("--role")).unwrap();
                let secret = role.strip_prefix("signingkeyring-pipeline-");
                let secret = secret.unwrap_or("image-signing");
                if name.starts_with("signingkeyring-import-") {
                    self.import = Some(ImportFound::Present);
                } else {
                    self.forbidden.remove(&in_namespace(secret));
                }
            }
            other => panic!("nothing here runs {other:?}"),
        }
    }
}
