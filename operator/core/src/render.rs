//! The ClusterPolicy that holds a pack of rings: one rule each, and the rule
//! that answers when the policy is asked.
//!
//! Every field is written out, those at Kyverno's defaults too: the result is
//! compared with what the API server holds, and a default filled in there
//! would look like somebody's edit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    hex,
    high_water::{HighWater, HighWaters},
    images::{self, Pattern},
    ledger::{Action, Exclusion, Ledger},
    marks::{Mark, Marks},
    names, packing,
};

mod references;

/// API version of the rendered kind.
pub const API_VERSION: &str = "kyverno.io/v1";

/// The rendered kind.
pub const KIND: &str = "ClusterPolicy";

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

/// What a policy is rendered from.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The policy's name; it decides between Enforce and Audit.
    pub policy: &'a str,
    /// The ledgers placed here, by ring.
    pub ledgers: BTreeMap<&'a str, &'a Ledger>,
    /// Rules that stay word for word.
    pub kept: BTreeMap<&'a str, KeptRule>,
    /// What the cluster's exclusion lists hold.
    pub excluded: &'a [Exclusion],
    /// Where the gate's dry runs take place.
    pub operator_namespace: &'a str,
    /// The key of the namespace label that enrols.
    pub enrolment_label: &'a str,
    /// Decides which exclusions have expired.
    pub now: Timestamp,
}

/// A rule as it was found in a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRule {
    /// What the policy said of it.
    pub mark: Mark,
    /// What the policy remembered of it.
    pub high_water: HighWater,
    /// The rule.
    pub rule: Value,
}

impl KeptRule {
    /// The rule with none but the public keys that `accepts` takes: one that
    /// cannot be rendered anew keeps no revoked key. Its mark changes with its
    /// keys, so that Kyverno's answer tells whether it has loaded them.
    #[must_use]
    pub fn narrowed(mut self, accepts: impl Fn(&str) -> bool) -> Self {
        let accepts = |entry: &Value| entry["keys"]["publicKeys"].as_str().is_some_and(&accepts);
        let entries = &mut self.rule["verifyImages"][0]["attestors"][0]["entries"];
        let Some(entries) = entries.as_array_mut().filter(|e| !e.iter().all(accepts)) else {
            return self;
        };
        entries.retain(accepts);
        if entries.is_empty() {
            entries.push(key_entry(NOBODYS_KEY));
        }
        let left: Vec<String> = keys_of(&self.rule).into_iter().collect();
        self.mark.key_set = hex(&Sha256::digest(left.concat().as_bytes())[..4]);
        self
    }
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

/// Renders a policy, or nothing if no ring is left in it.
#[must_use]
pub fn render(input: &Input<'_>) -> Option<Rendered> {
    let action = packing::action(input.policy)?;
    let mut rules: BTreeMap<&str, KeptRule> = input.kept.clone();
    for (ring, ledger) in &input.ledgers {
        let rule = ring_rule(input, action, ring, ledger);
        let high_water = ledger.high_water();
        rules.insert(ring, KeptRule { mark: ledger.mark(), high_water, rule });
    }
    if rules.is_empty() {
        return None;
    }
    let name = |ring: &&str| (*ring).to_owned();
    let marks = Marks(rules.iter().map(|(ring, rule)| (name(ring), rule.mark.clone())).collect());
    let high_waters =
        HighWaters(rules.iter().map(|(ring, r)| (name(ring), r.high_water.clone())).collect());
    let rings: Vec<&str> = rules.keys().copied().collect();
    let references = references::rule(action, input.enrolment_label, &rings);
    let mut rules: Vec<Value> = rules.into_values().map(|rule| rule.rule).collect();
    rules.push(references);
    rules.push(gate_rule(input, &marks));
    let annotations = BTreeMap::from([
        // Only Pods are verified: rules derived for Deployments would verify
        // the same images twice and pin digests into what GitOps compares.
        ("pod-policies.kyverno.io/autogen-controllers".to_owned(), "none".to_owned()),
        (names::ANNOTATION_MARKS.to_owned(), marks.to_string()),
        (names::ANNOTATION_HIGH_WATER.to_owned(), high_waters.to_string()),
    ]);
    let labels = BTreeMap::from([(names::LABEL_MANAGED_BY.to_owned(), names::MANAGER.to_owned())]);
    Some(Rendered { marks, annotations, labels, spec: spec(action, &rules) })
}

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

fn ring_rule(input: &Input<'_>, action: Action, ring: &str, ledger: &Ledger) -> Value {
    let enforce = action == Action::Enforce;
    // Kyverno 1.19 verifies Enforce and Audit policies in two calls, and the
    // second replaces what the first wrote on the Pod: under both, a verified
    // image is refused as unverified. So while a ring's rule moves between the
    // two, the Audit one looks at no image, and the Enforce one verifies and
    // refuses, but does not ask for what was written.
    let mut policies = ledger.rule.settings.policies();
    let moves = policies.any(|policy| packing::action(policy) != Some(action));
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
        "attestors": [{"count": 1, "entries": entries(ledger)}],
    });
    let skip = skipped_images(input, &ledger.rule.settings.exclude);
    if !skip.is_empty() {
        verify["skipImageReferences"] = json!(skip);
    }
    json!({
        "name": ring,
        "match": {"any": [{"resources": {
            "kinds": ["Pod"],
            // DELETE and CONNECT are Kyverno's defaults too, and would make
            // the deletion of pods depend on Kyverno.
            "operations": ["CREATE", "UPDATE"],
            "namespaceSelector": {"matchLabels": {input.enrolment_label: ring}},
        }}]},
        "skipBackgroundRequests": true,
        "verifyImages": [verify],
    })
}

fn entries(ledger: &Ledger) -> Vec<Value> {
    let mut keys: Vec<&str> = ledger.accepted().map(|v| v.public_key.as_str()).collect();
    if keys.is_empty() {
        keys.push(NOBODYS_KEY);
    }
    keys.into_iter().map(key_entry).collect()
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

/// The public keys in a ring's rule as it stands in a policy's spec.
#[must_use]
pub fn keys_of(rule: &Value) -> BTreeSet<String> {
    let entries = rule["verifyImages"][0]["attestors"][0]["entries"].as_array();
    let keys = entries.into_iter().flatten().filter_map(|e| e["keys"]["publicKeys"].as_str());
    keys.map(str::to_owned).collect()
}

/// The exclusions that count now, from the lists and the ring, as the globs
/// that Kyverno compares.
fn skipped_images(input: &Input<'_>, own: &[Exclusion]) -> Vec<String> {
    let patterns = input
        .excluded
        .iter()
        .chain(own)
        .filter(|exclusion| exclusion.counts(input.now))
        .filter_map(|exclusion| Pattern::parse(&exclusion.image).ok())
        .collect();
    images::minimal(patterns).iter().flat_map(Pattern::spellings).collect()
}

/// Answers the dry run of a Pod with what the policy says of its rings. A
/// mutation, because ClusterPolicy verifies images in its mutating handler:
/// the answer comes from where the verification does.
fn gate_rule(input: &Input<'_>, marks: &Marks) -> Value {
    json!({
        "name": names::GATE_RULE,
        "match": {"any": [{"resources": {
            "kinds": ["Pod"],
            "operations": ["CREATE"],
            "namespaces": [input.operator_namespace],
            "selector": {"matchLabels": {names::LABEL_GATE: input.policy}},
        }}]},
        "skipBackgroundRequests": true,
        "mutate": {"patchStrategicMerge": {"metadata": {"annotations": {
            names::ANNOTATION_GATE_ANSWER: marks.to_string(),
        }}}},
    })
}
