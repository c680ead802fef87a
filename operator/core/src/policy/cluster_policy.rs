//! The ClusterPolicy that holds a pack of rings: one rule each, and the rule
//! that answers when the policy is asked.
//!
//! Every field is written out, those at Kyverno's defaults too: the result is
//! compared with what the API server holds, and a default filled in there
//! would look like somebody's edit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    content::{Backend, Content, ContentRule, Source, Whole},
    digest::Part,
    object::{AUDIT_TIMEOUT_SECONDS, ENFORCE_TIMEOUT_SECONDS, NOBODYS_KEY, Rendered, said},
    snapshot::{KeySeen, PolicySeen, RulePart, RuleSeen},
};
use crate::{
    high_water::HighWater,
    ledger::{Exclusion, Ledger},
    marks::{Mark, Marks, RuleState},
    names,
    policy_ref::{Action, PolicyRef},
};

mod extraction;
mod keys;
mod naming;
mod read;
mod references;
mod rules;
mod unknown;

pub use read::{keys_of, read, rule_names, rules_of, skipped, skipped_by, skipped_by_rings};
pub use unknown::{covers, read_cover};

/// API version of the rendered kind.
pub const API_VERSION: &str = "kyverno.io/v1";

/// What a ClusterPolicy is rendered from, its rings' rules aside.
#[derive(Clone, Debug)]
pub struct ClusterPolicy<'a> {
    /// Which one; it decides between Enforce and Audit.
    pub policy: PolicyRef,
    /// What the cluster's exclusion lists hold.
    pub excluded: &'a [Exclusion],
    /// Where the gate's dry runs take place.
    pub operator_namespace: &'a str,
    /// The key of the namespace label that enrols.
    pub enrolment_label: &'a str,
    /// The UID and generation of the CRD of the gate's questions, while the cluster serves it.
    pub questions: Option<&'a str>,
    /// The UID of the exclusion lists' CRD, of which those are that count.
    pub lists: Option<&'a str>,
    /// Decides which exclusions have expired.
    pub now: Timestamp,
}

/// A ring's rules, and what the policy says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What the policy says of them.
    pub mark: Mark,
    /// What the policy remembers of the ring.
    pub high_water: HighWater,
    /// The rules.
    pub rules: Vec<Value>,
}

impl ClusterPolicy<'_> {
    /// The rules that a ring's ledger calls for.
    #[must_use]
    pub fn ring_rule(&self, ring: &str, ledger: &Ledger) -> Rule {
        self.called_for(ring, ledger).0
    }

    fn called_for(&self, ring: &str, ledger: &Ledger) -> (Rule, RuleSeen) {
        let keys: Vec<_> = ledger.accepted().map(|version| version.public_key.text()).collect();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        self.rule_with_keys(ring, ledger, &keys, ledger.rule_state(), ledger.high_water())
    }

    fn rule_with_keys(
        &self,
        ring: &str,
        ledger: &Ledger,
        keys: &[&str],
        state: RuleState,
        high_water: HighWater,
    ) -> (Rule, RuleSeen) {
        let rules = rules::of_ring(self, ring, ledger, keys);
        let rules_seen: Vec<&Value> = rules.iter().collect();
        let mark = Mark { state, rule: read::body_hash(&rules_seen) };
        // Nobody asks for the fingerprint of a key that is rendered.
        let seen = read::rule_seen(&rules_seen, mark.clone(), high_water.clone(), |_| None);
        (Rule { mark, high_water, rules }, seen)
    }

    /// The policy that holds these rules.
    #[must_use]
    pub fn render(&self, rules: BTreeMap<String, Rule>) -> Rendered {
        let said = self.said(rules.iter().map(|(ring, rule)| (ring, &rule.mark, &rule.high_water)));
        let (first, last) = self.own_rules(&said.marks);
        let rules = rules.into_values().flat_map(|rule| rule.rules);
        let rules: Vec<Value> = [first].into_iter().chain(rules).chain(last).collect();
        Rendered { spec: spec(self.policy.action(), &rules), ..said }
    }

    /// The policy that was planned. `seen` gives the JSON of the rules that stay
    /// as they were found, or as this process wrote them.
    ///
    /// Nothing if it does not have such rules (any more).
    pub fn compose<'v>(
        &self,
        content: &Content,
        seen: impl Fn(&Source, &str) -> Vec<&'v Value>,
    ) -> Option<Rendered> {
        let rules = content.rules.iter().map(|(ring, ContentRule { source, rule })| {
            let (mark, high_water) = (rule.mark.clone(), rule.high_water.clone());
            let rendered = |ledger, keys: &[&str]| {
                self.rule_with_keys(ring, ledger, keys, mark.state.clone(), high_water.clone())
                    .0
                    .rules
            };
            let rules = match source {
                Source::Ledger(ledger) => self.ring_rule(ring, ledger).rules,
                Source::AllButKeys(ledger) => {
                    rendered(ledger, &rule.public_keys().collect::<Vec<_>>())
                }
                Source::Found | Source::Written => {
                    let seen = seen(source, ring);
                    if seen.len() != rule.parts.len() {
                        return None;
                    }
                    let parts = seen.into_iter().zip(&rule.parts);
                    parts.map(|(value, part)| read::narrowed(value, part)).collect()
                }
            };
            Some((ring.clone(), Rule { mark, high_water, rules }))
        });
        Some(self.render(rules.collect::<Option<_>>()?))
    }

    /// What the policy says of its rules, with no `spec` yet.
    fn said<'a>(
        &self,
        rules: impl Iterator<Item = (&'a String, &'a Mark, &'a HighWater)> + Clone,
    ) -> Rendered {
        // Only Pods are verified: rules derived for Deployments would verify the
        // same images twice and pin digests into what GitOps compares.
        let texts = ["none", self.questions.unwrap_or_default()];
        let own: Vec<_> = OWN_ANNOTATIONS.into_iter().zip(texts).collect();
        said(rules, self.lists, &own, Value::Null)
    }

    /// The rules that belong to no ring: the one before those that do, and those
    /// behind them.
    fn own_rules(&self, marks: &Marks) -> (Value, [Value; 2]) {
        let rings: Vec<&str> = marks.0.keys().map(String::as_str).collect();
        let images = extraction::rule(self.policy.action(), self.enrolment_label, &rings);
        let references = references::rule(self.policy.action(), self.enrolment_label, &rings);
        (images, [references, gate_rule(self, marks)])
    }
}

impl Backend for ClusterPolicy<'_> {
    fn rule(&self, ring: &str, ledger: &Ledger) -> RuleSeen {
        self.called_for(ring, ledger).1
    }

    fn rule_with_keys_of(&self, ring: &str, ledger: &Ledger, kept: &RuleSeen) -> RuleSeen {
        let keys: Vec<&str> = kept.public_keys().collect();
        let (state, high_water) = (kept.mark.state.clone(), kept.high_water.clone());
        self.rule_with_keys(ring, ledger, &keys, state, high_water).1
    }

    fn nobody(&self) -> KeySeen {
        read::key_seen(&keys::key_entry(NOBODYS_KEY), |_| None)
    }

    fn name(&self, ring: &str, rule: &mut RuleSeen) {
        naming::rename(ring, rule);
    }

    fn stays(&self, rule: RuleSeen, _: &PolicySeen) -> RuleSeen {
        // It has all that its mark tells of.
        rule
    }

    fn whole(&self, rules: &BTreeMap<String, ContentRule>) -> Whole {
        let said = rules.iter().map(|(ring, new)| (ring, &new.rule.mark, &new.rule.high_water));
        let said = self.said(said);
        let (first, last) = self.own_rules(&said.marks);
        let frame = Part::of(&spec(self.policy.action(), &[]));
        let rules = rules.values().flat_map(|new| &new.rule.parts).map(RulePart::whole);
        let rules = [read::rule_part(&first)].into_iter().chain(rules);
        Whole {
            spec: Part::with(frame, rules.chain(last.iter().map(read::rule_part))),
            own_metadata: said.metadata().own(&OWN_ANNOTATIONS),
        }
    }

    fn size(&self, content: &Content) -> usize {
        content.whole.spec.bytes
    }
}

/// The annotations that are this kind's own.
const OWN_ANNOTATIONS: [&str; 2] = [AUTOGEN, names::ANNOTATION_QUESTIONS];

/// Kyverno's annotation that says for which controllers it derives rules.
const AUTOGEN: &str = "pod-policies.kyverno.io/autogen-controllers";

fn spec(action: Action, rules: &[Value]) -> Value {
    // An error (a registry that is down) blocks whenever this is Fail, in
    // Audit too, so only Enforce rings get it.
    let (failure_policy, timeout) = match action {
        Action::Enforce => ("Fail", ENFORCE_TIMEOUT_SECONDS),
        Action::Audit => ("Ignore", AUDIT_TIMEOUT_SECONDS),
    };
    json!({
        "admission": true,
        // Background scans only feed reports, and fetch every image again.
        "background": false,
        "emitWarning": false,
        // Deprecated and defaulted by the CRD; each rule says its own.
        "validationFailureAction": "Audit",
        // matchConditions must never be set here: Kyverno 1.19 would then
        // verify nothing and refuse every pod as "unverified".
        "webhookConfiguration": {
            "failurePolicy": failure_policy,
            "timeoutSeconds": timeout,
        },
        "rules": rules,
    })
}

/// Answers the dry run of a question with what the policy says of its rings. A
/// mutation, because ClusterPolicy verifies images in its mutating handler: the
/// answer comes from where the verification does. A kind of its own, because
/// what a platform asks of Pods (quotas, labels, other webhooks) would refuse a
/// Pod that asks, and says nothing of Kyverno.
fn gate_rule(input: &ClusterPolicy<'_>, marks: &Marks) -> Value {
    json!({
        "name": names::GATE_RULE,
        "match": {"any": [{"resources": {
            "kinds": [format!("{}/{}", names::API_VERSION, names::QUESTION_KIND)],
            "operations": ["CREATE"],
            "namespaces": [input.operator_namespace],
            "names": [input.policy.to_string()],
        }}]},
        "skipBackgroundRequests": true,
        "mutate": {"patchStrategicMerge": {"metadata": {"annotations": {
            names::ANNOTATION_GATE_ANSWER: marks.to_string(),
        }}}},
    })
}
