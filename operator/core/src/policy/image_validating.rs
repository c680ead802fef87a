//! The ImageValidatingPolicy that holds a pack of rings, and the MutatingPolicy that
//! pins their tags.
//!
//! Kyverno verifies in its validating half here, which nothing that is called later
//! can change, and it calls a policy for the namespaces alone that it selects: what a
//! Pod pays does not depend on how many policies there are. Kyverno's own pinning
//! (`mutateDigest`) looks at images that are excluded, and hangs; so a policy of
//! another kind pins.
//!
//! Every field is written out, as for a ClusterPolicy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use self::data::{Data, KeyData, RingData};
use super::{
    content::{Backend, Content, ContentRule, Source, Whole},
    digest::Part,
    object::{AUDIT_TIMEOUT_SECONDS, ENFORCE_TIMEOUT_SECONDS, NOBODYS_KEY, Rendered, said},
    packing::LARGEST_POLICY,
    snapshot::{KeySeen, PolicySeen, RulePart, RuleSeen},
};
use crate::{
    images::{self, Pattern},
    ledger::{Duty, Exclusion, Ledger},
    marks::{Mark, Marks, RuleState},
    names,
    policy_ref::{Action, PolicyRef},
};

mod data;
mod expressions;
pub mod pin;
mod read;
mod unknown;

pub use data::credentials_of;
pub use read::{keys_of, read, same_rule, skipped, skipped_by, skipped_by_rings};
pub use unknown::{covers, read_cover};

/// What an ImageValidatingPolicy is rendered from, its rings' rules aside.
#[derive(Clone, Debug)]
pub struct ImageValidatingPolicy<'a> {
    /// Which one; it decides between Enforce and Audit.
    pub policy: PolicyRef,
    /// What the cluster's exclusion lists hold.
    pub excluded: &'a [Exclusion],
    /// The operator's namespace, which no label that names no ring closes.
    pub operator_namespace: &'a str,
    /// Where the gate's dry runs take place.
    pub probe_namespace: &'a str,
    /// The key of the namespace label that enrols.
    pub enrolment_label: &'a str,
    /// The UID of the exclusion lists' CRD, of which those are that count.
    pub lists: Option<&'a str>,
    /// Decides which exclusions have expired.
    pub now: Timestamp,
}

impl ImageValidatingPolicy<'_> {
    /// The policy that was planned. `seen` gives the `spec` of the object that was
    /// found, or that this process wrote.
    ///
    /// Nothing if it does not have a rule (any more) that stays as it is there.
    pub fn compose<'v>(
        &self,
        content: &Content,
        seen: impl Fn(&Source) -> Option<&'v Value>,
    ) -> Option<Rendered> {
        let ring = |(ring, ContentRule { source, rule }): (&String, &ContentRule)| {
            let data = match source {
                Source::Ledger(ledger) | Source::AllButKeys(ledger) => {
                    self.ring_data(ledger, rule.public_keys())
                }
                Source::Found | Source::Written => {
                    let mut data = Data::read(seen(source)?).rings.remove(ring)?;
                    let stays = |key: &KeyData| {
                        let entry = Part::of(&key.entry());
                        rule.keys().any(|planned| planned.entry == entry)
                    };
                    data.keys.retain(stays);
                    if data.keys.is_empty() {
                        data.keys.push(KeyData::new(NOBODYS_KEY));
                    }
                    data
                }
            };
            Some((ring.clone(), data))
        };
        let rings = content.rules.iter().map(ring).collect::<Option<_>>()?;
        let data = Data { rings, ..self.no_rings(credentials(&content.rules)) };
        Some(self.render(content, &data))
    }

    /// The found `spec` with fewer keys, and all else as it stands there. What stands
    /// around the rules may be what is refused, and is no reason to let a revoked key stay.
    #[must_use]
    pub fn compose_in_place(&self, content: &Content, found: &Value) -> Option<Rendered> {
        let mut content = content.clone();
        for new in content.rules.values_mut() {
            let rule = new.rule.clone();
            new.rule = read::moved(rule, self.frame(), read::frame(found));
        }
        let composed =
            self.compose(&content, |source| (*source == Source::Found).then_some(found))?;
        let rings = Data::read(&composed.spec).rings;
        let mut spec = found.clone();
        read::fill(&mut spec, &Data { rings, ..Data::read(found) });
        read::ask_for(&mut spec, &question(self.policy, &composed.marks));
        Some(Rendered { spec, ..composed })
    }

    fn render(&self, content: &Content, data: &Data) -> Rendered {
        let rules = content.rules.iter();
        let rules = rules.map(|(ring, new)| (ring, &new.rule.mark, &new.rule.high_water));
        let said = said(rules, self.lists, &[], Value::Null);
        let question = question(self.policy, &said.marks);
        let spec = self.spec(data, &question);
        Rendered { spec, ..said }
    }

    fn rule_with_keys<'k>(
        &self,
        ring: &str,
        ledger: &Ledger,
        keys: impl Iterator<Item = &'k str>,
        state: RuleState,
    ) -> RuleSeen {
        let data = self.ring_data(ledger, keys);
        // Nobody asks for the fingerprint of a key that is rendered.
        let part = read::part(ring, &data, |_| None);
        let frame = self.frame();
        let credentials = ledger.rule.settings.credentials_in(self.policy).clone();
        let mark = Mark { state, rule: read::body_hash(frame, &part, &credentials) };
        RuleSeen { mark, high_water: ledger.high_water(), credentials, parts: vec![part] }
    }

    /// What stands around all rings' rules, as their marks tell it.
    fn frame(&self) -> Part {
        Part::of(&self.spec(&self.no_rings(BTreeSet::new()), ""))
    }

    fn ring_data<'k>(&self, ledger: &Ledger, keys: impl Iterator<Item = &'k str>) -> RingData {
        let settings = &ledger.rule.settings;
        let exclude = match settings.duty(self.policy) {
            Duty::Nothing => vec![data::ALL_IMAGES.to_owned()],
            Duty::Whole | Duty::Beside => self.texts(&settings.exclude),
        };
        let mut keys: Vec<KeyData> = keys.map(KeyData::new).collect();
        if keys.is_empty() {
            keys.push(KeyData::new(NOBODYS_KEY));
        }
        RingData { exclude, keys }
    }

    fn lists(&self) -> Vec<String> {
        self.texts(self.excluded)
    }

    /// The exclusions that count now, as Kyverno compares them.
    fn texts(&self, exclusions: &[Exclusion]) -> Vec<String> {
        let counting = exclusions.iter().filter(|exclusion| exclusion.counts(self.now));
        let patterns = counting.filter_map(|exclusion| Pattern::parse(&exclusion.image).ok());
        images::minimal(patterns.collect()).iter().map(Pattern::resolved).collect()
    }

    fn no_rings(&self, credentials: BTreeSet<String>) -> Data {
        Data { lists: self.lists(), credentials, rings: BTreeMap::new() }
    }

    /// The `spec` of a policy with this data that answers a question of this name.
    fn spec(&self, data: &Data, question: &str) -> Value {
        let (failure_policy, action, timeout) = match self.policy.action() {
            Action::Enforce => ("Fail", "Deny", ENFORCE_TIMEOUT_SECONDS),
            // An error (a registry that is down) blocks whenever this is Fail.
            Action::Audit => ("Ignore", "Audit", AUDIT_TIMEOUT_SECONDS),
        };
        let asks = expressions::asks();
        let [a_question, in_place, changes, _] = names::CONDITIONS;
        let verified = expressions::verified(self.enrolment_label);
        let signature = json!({"type": "https://sigstore.dev/cosign/sign/v1"});
        let mut spec = json!({
            "failurePolicy": failure_policy,
            "validationActions": [action],
            "webhookConfiguration": {"timeoutSeconds": timeout},
            // Background scans only feed reports, and fetch every image again.
            "evaluation": {"background": {"enabled": false}},
            "validationConfigurations": {
                "mutateDigest": false,
                // A tag that is not pinned may be another image when it is pulled.
                // Where nothing is refused none is pinned.
                "verifyDigest": self.policy.action() == Action::Enforce,
                "required": true,
            },
            "matchConstraints": {
                "namespaceSelector": {"matchExpressions": [
                    {"key": self.enrolment_label, "operator": "In", "values": []},
                ]},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["pods", "pods/ephemeralcontainers"],
                    },
                    // A second rule also keeps Kyverno from deriving a policy for
                    // Deployments.
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": [expressions::QUESTIONS],
                    },
                ],
            },
            // The API server evaluates its copy and Kyverno its own: only if both are
            // of these rings' state a question is answered.
            "matchConditions": [
                {"name": a_question, "expression": expressions::is_question(question)},
                {"name": in_place, "expression": expressions::is_asked_in(self.probe_namespace)},
                {
                    "name": changes,
                    "expression": format!("{asks} || {}", expressions::changes()),
                },
            ],
            "images": [
                {"name": "containers", "expression": data.bind_excluded(&verified)},
                // What Kyverno would find by itself, exclusions or not.
                {"name": "initContainers", "expression": expressions::NO_IMAGES},
                {"name": "ephemeralContainers", "expression": expressions::NO_IMAGES},
            ],
            "variables": [
                {"name": "ring", "expression": expressions::ring(self.enrolment_label)},
                {"name": "accepted", "expression": data.accepted()},
            ],
            "attestors": [],
            "attestations": [{"name": "signature", "intoto": signature}],
            "validations": [
                {"expression": format!("!({asks})"), "message": question},
                {
                    "expression": expressions::is_signed(),
                    "messageExpression": expressions::refusal(),
                },
            ],
        });
        read::fill(&mut spec, data);
        spec
    }
}

/// The credentials that these rules ask for. They ask for the same, as rings are placed;
/// where a ledger has come back from a backup, all of them are there until its ring has
/// moved.
fn credentials(rules: &BTreeMap<String, ContentRule>) -> BTreeSet<String> {
    rules.values().flat_map(|new| &new.rule.credentials).cloned().collect()
}

/// The name of the question that a policy with these marks answers.
#[must_use]
pub fn question(policy: PolicyRef, marks: &Marks) -> String {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(marks.to_string()).into();
    format!("{policy}.{}", base16ct::lower::encode_string(&digest).get(..16).unwrap_or_default())
}

impl Backend for ImageValidatingPolicy<'_> {
    fn rule(&self, ring: &str, ledger: &Ledger) -> RuleSeen {
        let keys: Vec<_> = ledger.accepted().map(|version| version.public_key.text()).collect();
        self.rule_with_keys(ring, ledger, keys.iter().map(|key| &**key), ledger.rule_state())
    }

    fn rule_with_keys_of(&self, ring: &str, ledger: &Ledger, kept: &RuleSeen) -> RuleSeen {
        let rule = self.rule_with_keys(ring, ledger, kept.public_keys(), kept.mark.state.clone());
        RuleSeen { high_water: kept.high_water.clone(), ..rule }
    }

    fn nobody(&self) -> KeySeen {
        read::key(&KeyData::new(NOBODYS_KEY), |_| None)
    }

    /// Names say nothing here.
    fn name(&self, _: &str, _: &mut RuleSeen) {}

    fn stays(&self, rule: RuleSeen, found: &PolicySeen) -> RuleSeen {
        match found.frame {
            Some(frame) => read::moved(rule, frame, self.frame()),
            None => rule,
        }
    }

    fn whole(&self, rules: &BTreeMap<String, ContentRule>) -> Whole {
        let of_rings = rules.iter();
        let of_rings = of_rings.map(|(ring, new)| (ring, &new.rule.mark, &new.rule.high_water));
        let said = said(of_rings, self.lists, &[], Value::Null);
        let question = question(self.policy, &said.marks);
        let frame = Part::of(&self.spec(&self.no_rings(credentials(rules)), &question));
        let parts = rules.values().flat_map(|new| &new.rule.parts).map(RulePart::whole);
        Whole { spec: Part::with(frame, parts), own_metadata: said.metadata().own(&[]) }
    }

    /// All that is excluded stands in one expression.
    fn size(&self, content: &Content) -> usize {
        let verified = expressions::verified(self.enrolment_label);
        let expression = self.no_rings(BTreeSet::new()).bind_excluded(&verified).len();
        let own = content.rules.iter().flat_map(|(ring, new)| {
            new.rule.parts.iter().map(|part| ring.len() + part.body.bytes + ENTRY)
        });
        let expression = expression + own.sum::<usize>();
        content.whole.spec.bytes.max(expression * LARGEST_POLICY / LONGEST_EXPRESSION)
    }
}

/// The characters of the longest expression that CEL takes are more than these.
const LONGEST_EXPRESSION: usize = 97_000;

/// What stands around a ring's name and its exclusions: two quotes, a colon, a comma.
const ENTRY: usize = 4;

#[cfg(test)]
mod tests;
