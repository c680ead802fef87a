//! The rules that verify images: those of a ring, and those for namespaces whose
//! label names none.
//!
//! There are several for one owner, because Kyverno 1.19 verifies where Pods are
//! changed and looks at what was written on them where they are admitted, and
//! requests differ in what reaches the second half.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ClusterPolicy, keys::entries, naming::Purpose, read};
use crate::{
    images::{self, Pattern},
    ledger::{Duty, Exclusion, Ledger},
    policy_ref::Action,
};

/// A pattern that no image fits: Kyverno takes no rule without one.
pub(super) const NO_IMAGE: &str = "none.invalid/none";

/// The annotation of a Pod in which Kyverno notes what was verified. What it holds
/// is read again at every later update.
pub(super) const NOTE: &str = "kyverno.io/verify-images-scoped";

/// A Pod's lists of containers.
pub(super) const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// What rules that verify have in common.
struct Verification<'a> {
    action: Action,
    /// Whom they concern.
    selector: &'a Value,
    images: &'static str,
    entries: Vec<Value>,
    skipped: Vec<Pattern>,
    /// The Secrets with which registries are asked.
    credentials: &'a BTreeSet<String>,
    /// Whether the other half of Kyverno asks for what was written on the Pod.
    required: bool,
}

/// A ring's rules with these keys.
pub(super) fn of_ring(
    input: &ClusterPolicy<'_>,
    ring: &str,
    ledger: &Ledger,
    keys: &[&str],
) -> Vec<Value> {
    let settings = &ledger.rule.settings;
    let duty = settings.duty(input.policy);
    let selector = json!({"matchLabels": {input.enrolment_label: ring}});
    let own = Own { exclude: &settings.exclude, credentials: &settings.credentials };
    rules(input, ring, &selector, keys, own, duty)
}

/// What is an owner's own beside keys.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// What it excludes.
    pub(super) exclude: &'a [Exclusion],
    /// The Secrets in Kyverno's namespace with which its images are looked up.
    pub(super) credentials: &'a BTreeSet<String>,
}

impl Own<'_> {
    /// Nothing.
    pub(super) const NOTHING: Own<'static> = Own { exclude: &[], credentials: &BTreeSet::new() };
}

/// The rules for the namespaces that `selector` selects: images pass that one of
/// the keys has signed, or that the lists or `own` exclude.
pub(super) fn rules(
    input: &ClusterPolicy<'_>,
    owner: &str,
    selector: &Value,
    keys: &[&str],
    own: Own<'_>,
    duty: Duty,
) -> Vec<Value> {
    let action = input.policy.action();
    let verification = Verification {
        action,
        selector,
        images: if duty == Duty::Nothing { NO_IMAGE } else { "*" },
        entries: entries(keys),
        skipped: skipped_images(input, own.exclude),
        credentials: own.credentials,
        // Of a Pod that met the half that verifies before it had the rule nothing was
        // written: the other half is not to miss it while a rule arrives.
        required: duty == Duty::Whole,
    };
    let rules = [
        (Purpose::Pods, Some(verification.of_pods())),
        (Purpose::Debug, Some(verification.of_ephemeral_containers())),
        (Purpose::Gates, verification.of_released_pods()),
        (Purpose::Tags, verification.by_tag()),
    ];
    let rules = rules.into_iter().filter_map(|(purpose, rule)| Some((purpose, rule?)));
    rules.map(|(purpose, rule)| named(owner, purpose, rule)).collect()
}

/// Names a rule that was rendered for this purpose.
fn named(owner: &str, purpose: Purpose, mut rule: Value) -> Value {
    let name = |rule: &mut Value, name: String| {
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("name".to_owned(), json!(name));
        }
    };
    name(&mut rule, String::new());
    let right = purpose.name(owner, &read::part_seen(&rule, |_| None));
    name(&mut rule, right);
    rule
}

impl Verification<'_> {
    /// Images of Pods: those of new ones, and those that an update puts in.
    fn of_pods(&self) -> Value {
        // DELETE and CONNECT are Kyverno's defaults too, and would make the
        // deletion of pods depend on Kyverno.
        let operations = ["CREATE", "UPDATE"];
        // Whenever another rule writes a note, this one does, too: Kyverno replaces
        // the note as a whole, and what is not in the new one is forgotten.
        let when = [CREATED, &images_change(), &released(), &forged()];
        self.of_whole_pods(&operations, &when, self.required)
    }

    /// Images of Pods that an update lets be scheduled: whatever passed long ago,
    /// they start now. And of those on which an update writes a note in Kyverno's
    /// place: one that names a policy of ours, or that hides behind an escape whom
    /// it names. Where it changes an image as well, Kyverno replaces that note; and
    /// its own would look like one where a later webhook has it called again.
    ///
    /// The half that verifies refuses by itself, so the other is not asked: it may
    /// have loaded another state of the policy, with another name.
    ///
    /// Nothing where nothing is refused.
    fn of_released_pods(&self) -> Option<Value> {
        let alone = format!("{} && !({})", forged(), images_change());
        let rule = || self.of_whole_pods(&["UPDATE"], &[&released(), &alone], false);
        (self.action == Action::Enforce).then(rule)
    }

    fn of_whole_pods(&self, operations: &[&str], when: &[&str], required: bool) -> Value {
        json!({
            "match": {"any": [{"resources": {
                "kinds": ["Pod"],
                "operations": operations,
                "namespaceSelector": self.selector,
            }}]},
            // Kyverno takes a Pod's subresource for a Pod.
            "exclude": {"any": [{"resources": {"kinds": ["Pod/ephemeralcontainers"]}}]},
            "preconditions": preconditions(when),
            "skipBackgroundRequests": true,
            "verifyImages": [self.images(required)],
        })
    }

    /// Images of ephemeral containers alone, and by one half of Kyverno alone: the
    /// API server drops what is written on the Pod by such a request, and images
    /// that were admitted long ago are not what it asks for.
    fn of_ephemeral_containers(&self) -> Value {
        json!({
            "match": {"any": [{"resources": {
                "kinds": ["Pod/ephemeralcontainers"],
                "operations": ["UPDATE"],
                "namespaceSelector": self.selector,
            }}]},
            "imageExtractors": {"Pod": [{"path": "/spec/ephemeralContainers/*/image"}]},
            "skipBackgroundRequests": true,
            "verifyImages": [self.images(false)],
        })
    }

    fn images(&self, required: bool) -> Value {
        let enforce = self.action == Action::Enforce;
        let mut verify = json!({
            // `.sig` tags. Bundles would be another type, and the two cannot be
            // had at once: entries and rules are ANDed.
            "type": "Cosign",
            "failureAction": if enforce { "Enforce" } else { "Audit" },
            "imageReferences": [self.images],
            "required": required,
            // Kyverno refuses a policy that audits and pins. Where tags are not
            // pinned a missing digest must not be a finding of its own.
            "mutateDigest": enforce,
            "verifyDigest": enforce && required,
            // A hit by tag would skip verification and pin whatever the tag
            // points at by now.
            "useCache": false,
            // count 1 is "any of"; left out it would be "all of". One entry per
            // key, newest first: verification stops at the first that fits.
            // Without entries Kyverno would refuse the policy, and without
            // attestors verify nothing.
            "attestors": [{"count": 1, "entries": self.entries}],
        });
        let skip: Vec<String> = self.skipped.iter().flat_map(Pattern::spellings).collect();
        if let (false, Some(verify)) = (skip.is_empty(), verify.as_object_mut()) {
            verify.insert("skipImageReferences".to_owned(), json!(skip));
        }
        self.with_credentials(verify)
    }

    /// What asks registries, with the credentials for them if there are some.
    fn with_credentials(&self, mut asks: Value) -> Value {
        if let (false, Some(asks)) = (self.credentials.is_empty(), asks.as_object_mut()) {
            let credentials = json!({"secrets": self.credentials});
            asks.insert("imageRegistryCredentials".to_owned(), credentials);
        }
        asks
    }

    /// Lets an image that is excluded by its tag be compared by it: Kyverno drops
    /// a tag beside a digest, and a digest is what it put there itself. It is taken
    /// off only while the tag still points to it, and put there again afterwards,
    /// so that nothing else starts than what the Pod asked for.
    ///
    /// Nothing if no image is excluded so, or none is ever pinned.
    fn by_tag(&self) -> Option<Value> {
        let globs: Vec<String> = self.skipped.iter().flat_map(Pattern::pinned_spellings).collect();
        if globs.is_empty() || self.action == Action::Audit {
            return None;
        }
        let foreach = LISTS.map(|list| {
            json!({
                "list": format!("request.object.spec.{list} || `[]`"),
                "context": [{"name": "now", "imageRegistry": self.with_credentials(json!({
                    "reference": "{{ split(element.image, '@')[0] }}",
                    "jmesPath": "resolvedImage",
                }))}],
                "preconditions": {"all": [
                    {"key": "{{ element.image }}", "operator": "AnyIn", "value": globs},
                    {
                        "key": "{{ split(element.image, '@')[1] }}",
                        "operator": "Equals",
                        "value": "{{ split(now, '@')[1] }}",
                    },
                ]},
                "patchesJson6902": format!(
                    "- {{op: replace, path: /spec/{list}/{{{{elementIndex}}}}/image, \
                     value: \"{{{{ split(element.image, '@')[0] }}}}\"}}"
                ),
            })
        });
        Some(json!({
            "match": {"any": [{"resources": {
                "kinds": ["Pod", "Pod/ephemeralcontainers"],
                "operations": ["CREATE", "UPDATE"],
                "namespaceSelector": self.selector,
            }}]},
            "preconditions":
                preconditions(&[CREATED, &images_change(), &released(), &forged()]),
            "skipBackgroundRequests": true,
            "mutate": {"foreach": foreach},
        }))
    }
}

/// Looks only at requests of which one of these holds: otherwise Pods that were
/// admitted by another rule, or by none, could not lose a finalizer or complete.
fn preconditions(any: &[&str]) -> Value {
    let key = format!("{{{{ {} }}}}", any.join(" || "));
    // With another operator a key that comes to nothing would skip the rule.
    json!({"all": [{"key": key, "operator": "Equals", "value": true}]})
}

/// In JMESPath: whether a Pod is new.
const CREATED: &str = "request.operation == 'CREATE'";

/// In JMESPath: whether an update changes an image.
fn images_change() -> String {
    let images = format!("[{}][].image", LISTS.join(", "));
    format!("request.object.spec.{images} != request.oldObject.spec.{images}")
}

/// In JMESPath: whether an update takes a Pod's last scheduling gate off. While one is
/// left the Pod does not start, and the guard takes for forged what lets it go.
fn released() -> String {
    let gates = |pod: &str| format!("(request.{pod}.spec.schedulingGates || `[]`)");
    format!("({} != `[]` && {} == `[]`)", gates("oldObject"), gates("object"))
}

/// In JMESPath: whether an update writes a note that may count for us.
fn forged() -> String {
    let note = |pod: &str| format!("(request.{pod}.metadata.annotations.\"{NOTE}\" || '')");
    let (new, old) = (note("object"), note("oldObject"));
    format!(
        "(to_string(contains({new}, '/signing-') || contains({new}, `\"\\\\\"`)) == 'true' \
         && {new} != {old})"
    )
}

/// The exclusions that count now, from the lists and the ring.
fn skipped_images(input: &ClusterPolicy<'_>, own: &[Exclusion]) -> Vec<Pattern> {
    let counting = input.excluded.iter().chain(own).filter(|e| e.counts(input.now));
    images::minimal(counting.filter_map(|e| Pattern::parse(&e.image).ok()).collect())
}
