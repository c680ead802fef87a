//! The table of kinds: which renders a policy and reads it back. Nobody else asks
//! which kind a policy is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    cluster_policy::{self, ClusterPolicy},
    content::{Backend, Content, ContentRule, Source, Whole},
    image_validating::{self, ImageValidatingPolicy},
    object::{Metadata, Rendered},
    snapshot::{KeySeen, PolicySeen, RuleSeen},
    unknown::{CoverContent, CoverHeld, Covering},
};
use crate::{
    fingerprint::Fingerprint,
    ledger::{Exclusion, Ledger},
    marks::Mark,
    policy_ref::{PolicyKind, PolicyRef},
};

/// What the kinds render policies from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the cluster's exclusion lists hold.
    pub excluded: &'a [Exclusion],
    /// The operator's namespace.
    pub operator_namespace: &'a str,
    /// Where policies are asked that cannot be in the operator's namespace.
    pub probe_namespace: &'a str,
    /// The key of the namespace label that enrols.
    pub enrolment_label: &'a str,
    /// The UID and generation of the CRD of the gate's questions, while the cluster serves it.
    pub questions: Option<&'a str>,
    /// The UID of the exclusion lists' CRD, of which those are that count.
    pub lists: Option<&'a str>,
    /// Decides which exclusions have expired.
    pub now: Timestamp,
}

/// The kind that renders a policy.
#[derive(Clone, Debug)]
pub enum Renderer<'a> {
    /// A ClusterPolicy.
    ClusterPolicy(ClusterPolicy<'a>),
    /// An ImageValidatingPolicy.
    ImageValidatingPolicy(ImageValidatingPolicy<'a>),
}

impl<'a> Renderer<'a> {
    /// Of one policy.
    #[must_use]
    pub fn new(policy: PolicyRef, inputs: Inputs<'a>) -> Self {
        let Inputs { excluded, operator_namespace, probe_namespace, .. } = inputs;
        let Inputs { enrolment_label, questions, lists, now, .. } = inputs;
        match policy.kind() {
            PolicyKind::ClusterPolicy => Self::ClusterPolicy(ClusterPolicy {
                policy,
                excluded,
                operator_namespace,
                enrolment_label,
                questions,
                lists,
                now,
            }),
            PolicyKind::ImageValidatingPolicy => {
                Self::ImageValidatingPolicy(ImageValidatingPolicy {
                    policy,
                    excluded,
                    operator_namespace,
                    probe_namespace,
                    enrolment_label,
                    lists,
                    now,
                })
            }
        }
    }

    /// The policy that was planned. `seen` gives the `spec` of the object that was
    /// found, or that this process wrote.
    ///
    /// Nothing if it does not have a rule (any more) that stays as it is there.
    pub fn compose<'v>(
        &self,
        content: &Content,
        seen: impl Fn(&Source) -> Option<&'v Value>,
    ) -> Option<Rendered> {
        match self {
            Self::ClusterPolicy(kind) => kind.compose(content, |source, ring| {
                seen(source).map(|spec| cluster_policy::rules_of(spec, ring)).unwrap_or_default()
            }),
            Self::ImageValidatingPolicy(kind) => kind.compose(content, seen),
        }
    }

    /// The same for rules that stay as they were found, or with fewer keys, in the object
    /// as it was found: nothing else of it changes. Nothing if what the kind writes around
    /// rules cannot be what is refused.
    #[must_use]
    pub fn compose_in_place(&self, content: &Content, found: &Value) -> Option<Rendered> {
        match self {
            Self::ClusterPolicy(_) => None,
            Self::ImageValidatingPolicy(kind) => kind.compose_in_place(content, found),
        }
    }

    /// The policy for labels that name no ring that was planned.
    #[must_use]
    pub fn render_cover(&self, content: &CoverContent) -> Rendered {
        match self {
            Self::ClusterPolicy(kind) => kind.render_cover(content),
            Self::ImageValidatingPolicy(kind) => kind.render_cover(content),
        }
    }

    /// The object that goes with a policy of this `spec`, and with what it replaces:
    /// written before it, and taken away after it.
    #[must_use]
    pub fn companion(&self, spec: Option<&Value>, before: Option<&Value>) -> Option<Rendered> {
        match self {
            Self::ClusterPolicy(_) => None,
            Self::ImageValidatingPolicy(kind) => kind.pin(spec, before),
        }
    }
}

impl Backend for Renderer<'_> {
    fn rule(&self, ring: &str, ledger: &Ledger) -> RuleSeen {
        match self {
            Self::ClusterPolicy(kind) => kind.rule(ring, ledger),
            Self::ImageValidatingPolicy(kind) => kind.rule(ring, ledger),
        }
    }

    fn rule_with_keys_of(&self, ring: &str, ledger: &Ledger, kept: &RuleSeen) -> RuleSeen {
        match self {
            Self::ClusterPolicy(kind) => kind.rule_with_keys_of(ring, ledger, kept),
            Self::ImageValidatingPolicy(kind) => kind.rule_with_keys_of(ring, ledger, kept),
        }
    }

    fn nobody(&self) -> KeySeen {
        match self {
            Self::ClusterPolicy(kind) => kind.nobody(),
            Self::ImageValidatingPolicy(kind) => kind.nobody(),
        }
    }

    fn name(&self, ring: &str, rule: &mut RuleSeen) {
        match self {
            Self::ClusterPolicy(kind) => kind.name(ring, rule),
            Self::ImageValidatingPolicy(kind) => kind.name(ring, rule),
        }
    }

    fn stays(&self, rule: RuleSeen, found: &PolicySeen) -> RuleSeen {
        match self {
            Self::ClusterPolicy(kind) => kind.stays(rule, found),
            Self::ImageValidatingPolicy(kind) => kind.stays(rule, found),
        }
    }

    fn whole(&self, rules: &BTreeMap<String, ContentRule>) -> Whole {
        match self {
            Self::ClusterPolicy(kind) => kind.whole(rules),
            Self::ImageValidatingPolicy(kind) => kind.whole(rules),
        }
    }

    fn size(&self, content: &Content) -> usize {
        match self {
            Self::ClusterPolicy(kind) => kind.size(content),
            Self::ImageValidatingPolicy(kind) => kind.size(content),
        }
    }
}

impl Covering for Renderer<'_> {
    fn cover_mark(&self, values: &BTreeSet<String>, sequence: u64) -> Mark {
        match self {
            Self::ClusterPolicy(kind) => kind.cover_mark(values, sequence),
            Self::ImageValidatingPolicy(kind) => kind.cover_mark(values, sequence),
        }
    }

    fn cover_whole(&self, values: &BTreeSet<String>, mark: &Mark) -> Whole {
        match self {
            Self::ClusterPolicy(kind) => kind.cover_whole(values, mark),
            Self::ImageValidatingPolicy(kind) => kind.cover_whole(values, mark),
        }
    }
}

/// How objects of the kind are read.
impl PolicyKind {
    /// Reads a policy. `fingerprint` gives that of a public key in PEM, if it is one.
    #[must_use]
    pub fn read(
        self,
        metadata: Metadata<'_>,
        spec: &Value,
        fingerprint: impl Fn(&str) -> Option<Fingerprint> + Copy,
    ) -> PolicySeen {
        match self {
            Self::ClusterPolicy => cluster_policy::read(metadata, spec, fingerprint),
            Self::ImageValidatingPolicy => image_validating::read(metadata, spec, fingerprint),
        }
    }

    /// The public keys that a policy's spec holds for a ring.
    #[must_use]
    pub fn keys_of(self, spec: &Value, ring: &str) -> BTreeSet<String> {
        match self {
            Self::ClusterPolicy => cluster_policy::keys_of(&cluster_policy::rules_of(spec, ring)),
            Self::ImageValidatingPolicy => image_validating::keys_of(spec, ring),
        }
    }

    /// The registry credentials that a policy's spec asks with, where it has one set for
    /// all of its rings.
    #[must_use]
    pub fn credentials_of(self, spec: &Value) -> BTreeSet<String> {
        match self {
            Self::ClusterPolicy => BTreeSet::new(),
            Self::ImageValidatingPolicy => image_validating::credentials_of(spec),
        }
    }

    /// Whether two specs hold the same for a ring.
    #[must_use]
    pub fn same_rule(self, old: &Value, new: &Value, ring: &str) -> bool {
        match self {
            Self::ClusterPolicy => {
                cluster_policy::rules_of(old, ring) == cluster_policy::rules_of(new, ring)
            }
            Self::ImageValidatingPolicy => image_validating::same_rule(old, new, ring),
        }
    }

    /// The globs of the images that a policy's spec excludes.
    #[must_use]
    pub fn skipped(self, spec: &Value) -> BTreeSet<String> {
        match self {
            Self::ClusterPolicy => cluster_policy::skipped(spec),
            Self::ImageValidatingPolicy => image_validating::skipped(spec),
        }
    }

    /// The globs of the images that a ring's rule in a policy excludes.
    #[must_use]
    pub fn skipped_by(self, spec: &Value, ring: &str) -> BTreeSet<String> {
        match self {
            Self::ClusterPolicy => cluster_policy::skipped_by(spec, ring),
            Self::ImageValidatingPolicy => image_validating::skipped_by(spec, ring),
        }
    }

    /// The globs that each ring's rule excludes, of the rules that are as this
    /// operator wrote them: one that somebody edited says nothing of the lists.
    #[must_use]
    pub fn skipped_by_rings(
        self,
        metadata: Metadata<'_>,
        spec: &Value,
    ) -> Vec<(String, BTreeSet<String>)> {
        match self {
            Self::ClusterPolicy => cluster_policy::skipped_by_rings(metadata, spec),
            Self::ImageValidatingPolicy => image_validating::skipped_by_rings(metadata, spec),
        }
    }

    /// Reads a policy for labels that name no ring.
    #[must_use]
    pub fn read_cover(self, metadata: Metadata<'_>, spec: &Value) -> CoverHeld {
        match self {
            Self::ClusterPolicy => cluster_policy::read_cover(metadata, spec),
            Self::ImageValidatingPolicy => image_validating::read_cover(metadata, spec),
        }
    }

    /// Whether such a policy selects a value.
    #[must_use]
    pub fn covers(self, spec: &Value, value: &str) -> bool {
        match self {
            Self::ClusterPolicy => cluster_policy::covers(spec, value),
            Self::ImageValidatingPolicy => image_validating::covers(spec, value),
        }
    }
}
