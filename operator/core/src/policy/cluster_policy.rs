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
    snapshot::{KeySeen, RuleSeen},
};
use crate::{
    high_water::{HighWater, HighWaters},
    images::{self, Pattern},
    ledger::{Exclusion, Ledger},
    marks::{Mark, Marks},
    names,
    policy_ref::{Action, PolicyRef},
};

mod read;
mod references;
mod unknown;

pub use read::{Metadata, keys_of, read, rule_of, skipped};
pub use unknown::{covers, read_cover};

/// API version of the rendered kind.
pub const API_VERSION: &str = "kyverno.io/v1";

/// The seconds Kyverno may take for a Pod: registries are slow, and the maximum
/// that Kubernetes allows is 30.
const ENFORCE_TIMEOUT_SECONDS: u32 = 30;

/// With `failurePolicy: Ignore` a Pod has to outlive the time-outs of both the
/// mutating and the validating webhook, and the API server gives up on the
/// whole request after some 34 seconds.
const AUDIT_TIMEOUT_SECONDS: u32 = 10;

/// The public key of a ring with no accepted version. Its private key is known
/// to nobody: its point is the first on P-256 with the SHA-256 of "no key of
/// this ring is accepted", a space and a counter from 0 on as its x coordinate,
/// and the even y. A rule cannot go without a key, because Kyverno then
/// verifies nothing.
pub const NOBODYS_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/TrGMkRVrsVCx3vof5CBXIZ0YdZ2\nogRbMHVSSAs/idt2j/JtDaGtwboaqsja222d2wHDC3EKoNekBs095X0+rA==\n-----END PUBLIC KEY-----\n";

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
    /// The UID of the CRD of the gate's questions, while the cluster serves it.
    pub questions: Option<&'a str>,
    /// Decides which exclusions have expired.
    pub now: Timestamp,
}

/// A ring's rule, and what the policy says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What the policy says of it.
    pub mark: Mark,
    /// What the policy remembers of it.
    pub high_water: HighWater,
    /// The rule.
    pub rule: Value,
}

/// A rendered policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What it says of its rings.
    pub marks: Marks,
    /// Annotations, [`names::ANNOTATION_MARKS`] among them.
    pub annotations: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `spec`.
    pub spec: Value,
}

/// A pattern that no image fits: Kyverno takes no rule without one.
const NO_IMAGE: &str = "none.invalid/none";

impl ClusterPolicy<'_> {
    /// The rule that a ring's ledger calls for.
    #[must_use]
    pub fn ring_rule(&self, ring: &str, ledger: &Ledger) -> Rule {
        let rule = ring_rule(self, ring, ledger, &keys_of_ledger(ledger));
        let mark = Mark { state: ledger.rule_state(), rule: read::body_hash(&rule) };
        Rule { mark, high_water: ledger.high_water(), rule }
    }

    /// The policy that holds these rules.
    #[must_use]
    pub fn render(&self, rules: BTreeMap<String, Rule>) -> Rendered {
        let (marks, annotations, labels) =
            metadata(self, rules.iter().map(|(ring, rule)| (ring, &rule.mark, &rule.high_water)));
        let own = self.own_rules(&marks);
        let rules: Vec<Value> = rules.into_values().map(|rule| rule.rule).chain(own).collect();
        Rendered { marks, annotations, labels, spec: spec(self.policy.action(), &rules) }
    }

    /// The policy that was planned. `seen` gives the JSON of a rule that stays
    /// as it was found, or as this process wrote it.
    ///
    /// Nothing if it does not have such a rule (any more).
    pub fn compose<'v>(
        &self,
        content: &Content,
        seen: impl Fn(&Source, &str) -> Option<&'v Value>,
    ) -> Option<Rendered> {
        let rules = content.rules.iter().map(|(ring, ContentRule { source, rule })| {
            let value = match source {
                Source::Ledger(ledger) => ring_rule(self, ring, ledger, &keys_of_ledger(ledger)),
                Source::AllButKeys(ledger) => {
                    ring_rule(self, ring, ledger, &rule.public_keys().collect::<Vec<_>>())
                }
                Source::Found | Source::Written => read::narrowed(seen(source, ring)?, rule),
            };
            let (mark, high_water) = (rule.mark.clone(), rule.high_water.clone());
            Some((ring.clone(), Rule { mark, high_water, rule: value }))
        });
        Some(self.render(rules.collect::<Option<_>>()?))
    }

    /// The rules that belong to no ring, behind those that do.
    fn own_rules(&self, marks: &Marks) -> [Value; 2] {
        let rings: Vec<&str> = marks.0.keys().map(String::as_str).collect();
        let references = references::rule(self.policy.action(), self.enrolment_label, &rings);
        [references, gate_rule(self, marks)]
    }
}

impl Backend for ClusterPolicy<'_> {
    fn rule(&self, ring: &str, ledger: &Ledger) -> RuleSeen {
        let Rule { mark, high_water, rule } = self.ring_rule(ring, ledger);
        // Nobody asks for the fingerprint of a key that the ledger knows.
        read::rule_seen(&rule, mark, high_water, |_| None)
    }

    fn rule_with_keys_of(&self, ring: &str, ledger: &Ledger, kept: &RuleSeen) -> RuleSeen {
        let rule = ring_rule(self, ring, ledger, &kept.public_keys().collect::<Vec<_>>());
        let mark = Mark { state: kept.mark.state.clone(), rule: read::body_hash(&rule) };
        read::rule_seen(&rule, mark, kept.high_water.clone(), |_| None)
    }

    fn nobody(&self) -> KeySeen {
        read::key_seen(&key_entry(NOBODYS_KEY), |_| None)
    }

    fn whole(&self, rules: &BTreeMap<String, ContentRule>) -> Whole {
        let said = rules.iter().map(|(ring, new)| (ring, &new.rule.mark, &new.rule.high_water));
        let (marks, annotations, labels) = metadata(self, said);
        let own = self.own_rules(&marks);
        let own = own.iter().map(read::rule_part);
        let frame = Part::of(&spec(self.policy.action(), &[]));
        let rules = rules.values().map(|new| new.rule.whole());
        Whole {
            spec: Part::with(frame, rules.chain(own)),
            own_metadata: Metadata { annotations: &annotations, labels: &labels }.own(),
        }
    }
}

/// What a policy says of its rules: the marks, and its annotations and labels.
fn metadata<'a>(
    input: &ClusterPolicy<'_>,
    rules: impl Iterator<Item = (&'a String, &'a Mark, &'a HighWater)> + Clone,
) -> (Marks, BTreeMap<String, String>, BTreeMap<String, String>) {
    let marks = rules.clone().map(|(ring, mark, _)| (ring.clone(), mark.clone()));
    let marks = Marks(marks.collect());
    let high_waters = rules.map(|(ring, _, high_water)| (ring.clone(), high_water.clone()));
    let high_waters = HighWaters(high_waters.collect());
    // Only Pods are verified: rules derived for Deployments would verify the
    // same images twice and pin digests into what GitOps compares.
    let questions = input.questions.unwrap_or_default().to_owned();
    let texts = ["none".to_owned(), marks.to_string(), high_waters.to_string(), questions];
    let annotations = OWN_ANNOTATIONS.map(str::to_owned).into_iter().zip(texts).collect();
    let labels = OWN_LABELS.map(|label| (label.to_owned(), names::MANAGER.to_owned())).into();
    (marks, annotations, labels)
}

/// The annotations of [`metadata`]: what is written is what is compared.
const OWN_ANNOTATIONS: [&str; 4] =
    [AUTOGEN, names::ANNOTATION_MARKS, names::ANNOTATION_HIGH_WATER, names::ANNOTATION_QUESTIONS];

/// The labels of [`metadata`].
const OWN_LABELS: [&str; 1] = [names::LABEL_MANAGED_BY];

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

fn ring_rule(input: &ClusterPolicy<'_>, ring: &str, ledger: &Ledger, keys: &[&str]) -> Value {
    let settings = &ledger.rule.settings;
    let moves = settings.policies().any(|policy| policy.action() != input.policy.action());
    let selector = json!({"matchLabels": {input.enrolment_label: ring}});
    image_rule(input, ring, &selector, keys, &settings.exclude, moves)
}

/// A rule that verifies images: of whom `selector` selects, by `keys`, without
/// what the lists and `exclude` name. `moves` if a policy of the other action
/// holds such a rule too.
fn image_rule(
    input: &ClusterPolicy<'_>,
    name: &str,
    selector: &Value,
    keys: &[&str],
    exclude: &[Exclusion],
    moves: bool,
) -> Value {
    let enforce = input.policy.action() == Action::Enforce;
    // Kyverno 1.19 verifies Enforce and Audit policies in two calls, and the
    // second replaces what the first wrote on the Pod: under both, a verified
    // image is refused as unverified. So while a ring's rule moves between the
    // two, the Audit one looks at no image, and the Enforce one verifies and
    // refuses, but does not ask for what was written.
    let images = if moves && !enforce { NO_IMAGE } else { "*" };
    let mut verify = json!({
        // `.sig` tags. Bundles would be another type, and the two cannot be
        // had at once: entries and rules are ANDed.
        "type": "Cosign",
        "failureAction": if enforce { "Enforce" } else { "Audit" },
        "imageReferences": [images],
        "required": !moves,
        // Kyverno refuses a policy that audits and pins. Where tags are not
        // pinned a missing digest must not be a finding of its own.
        "mutateDigest": enforce,
        "verifyDigest": enforce && !moves,
        // A hit by tag would skip verification and pin whatever the tag
        // points at by now. What this cannot switch off: an update that leaves
        // a verified image as it is passes by Kyverno's annotation on the Pod.
        "useCache": false,
        // count 1 is "any of"; left out it would be "all of". One entry per
        // key, newest first: verification stops at the first that fits.
        // Without entries Kyverno would refuse the policy, and without
        // attestors verify nothing.
        "attestors": [{"count": 1, "entries": entries(keys)}],
    });
    let skip = skipped_images(input, exclude);
    if let (false, Some(verify)) = (skip.is_empty(), verify.as_object_mut()) {
        verify.insert("skipImageReferences".to_owned(), json!(skip));
    }
    json!({
        "name": name,
        "match": {"any": [{"resources": {
            "kinds": ["Pod"],
            // DELETE and CONNECT are Kyverno's defaults too, and would make
            // the deletion of pods depend on Kyverno.
            "operations": ["CREATE", "UPDATE"],
            "namespaceSelector": selector,
        }}]},
        "skipBackgroundRequests": true,
        "verifyImages": [verify],
    })
}

/// The public keys that a ledger accepts, newest first.
fn keys_of_ledger(ledger: &Ledger) -> Vec<&str> {
    ledger.accepted().map(|v| v.public_key.as_str()).collect()
}

fn entries(keys: &[&str]) -> Vec<Value> {
    let keys = if keys.is_empty() { &[NOBODYS_KEY] } else { keys };
    keys.iter().map(|key| key_entry(key)).collect()
}

fn key_entry(public_key: &str) -> Value {
    json!({
        "keys": {
            "publicKeys": public_key,
            "signatureAlgorithm": "sha256",
            // Without both, Kyverno fetches Sigstore's public trust root.
            "rekor": {"ignoreTlog": true, "url": "https://rekor.sigstore.dev"},
            "ctlog": {"ignoreSCT": true},
        },
        "signatureAlgorithm": "sha256",
    })
}

/// The exclusions that count now, from the lists and the ring, as the globs
/// that Kyverno compares.
fn skipped_images(input: &ClusterPolicy<'_>, own: &[Exclusion]) -> Vec<String> {
    let patterns = input
        .excluded
        .iter()
        .chain(own)
        .filter(|exclusion| exclusion.counts(input.now))
        .filter_map(|exclusion| Pattern::parse(&exclusion.image).ok())
        .collect();
    images::minimal(patterns).iter().flat_map(Pattern::spellings).collect()
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
