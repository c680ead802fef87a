//! Every name that the operator writes into the cluster.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::fingerprint::Fingerprint;

/// API group of both kinds.
pub const GROUP: &str = "signing.odj.cloud";

/// Field manager of every write.
pub const MANAGER: &str = "signingkeyring-operator";

/// The Lease, in the operator's namespace, by which replicas agree who works.
pub const LEASE: &str = "signingkeyring-operator";

/// The object that tells the guard which labels name no ring, where nothing of the
/// operator's looks at the pods of such namespaces.
pub const UNKNOWN_RINGS: &str = "signingkeyring-operator";

/// Standard label that marks an object as written by this operator.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Standard label that names what an object is part of.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";

/// Standard label that says which part it is.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// Default key of the namespace label whose value names the namespace's ring.
pub const LABEL_RING: &str = "signing.odj.cloud/ring";

/// API version of the operator's kinds.
pub const API_VERSION: &str = "signing.odj.cloud/v1alpha1";

/// Kind of the question to a policy's gate; its name is the policy's.
pub const QUESTION_KIND: &str = "GateQuestion";

/// The same as a resource.
pub const QUESTION_PLURAL: &str = "gatequestions";

/// The CRD of that kind.
pub const QUESTION_CRD: &str = "gatequestions.signing.odj.cloud";

/// Annotation of a policy: the UID and generation of that CRD when it was written.
/// Kyverno can be asked about a policy only if it has loaded it since the CRD is there.
pub const ANNOTATION_QUESTIONS: &str = "signing.odj.cloud/questions";

/// Annotation of a policy: the UID of the CRD of which the exclusion lists are that are
/// in force there. Where another is there by then, what is missing was not deleted.
pub const ANNOTATION_LISTS: &str = "signing.odj.cloud/exclusion-lists";

/// Annotation that a policy's gate rule stamps on the question.
pub const ANNOTATION_GATE_ANSWER: &str = "signing.odj.cloud/gate-answer";

/// Annotation of a policy: the marks of the rings it holds.
pub const ANNOTATION_MARKS: &str = "signing.odj.cloud/rings";

/// Annotation of a ring and of a policy: how far the rings had come, as a
/// witness for the day an older ledger is restored.
pub const ANNOTATION_HIGH_WATER: &str = "signing.odj.cloud/high-water";

/// Annotation of a ring whose keys are lost: the highest version that was
/// given out, to go on with a new one after it.
pub const ANNOTATION_RECOVER: &str = "signing.odj.cloud/recover-after-version";

/// Annotation of a ring: a new value asks for one rotation.
pub const ANNOTATION_ROTATE: &str = "signing.odj.cloud/rotate";

/// Annotation of a ring: `"true"` lets a deletion go on although namespaces are enrolled.
pub const ANNOTATION_ALLOW_UNENFORCED: &str = "signing.odj.cloud/allow-unenforced-deletion";

/// Annotation of a ledger: everything but the private keys, as JSON.
pub const ANNOTATION_LEDGER: &str = "signing.odj.cloud/ledger";

/// Annotation of a standby key's Secret: the ledger's sequence when it was
/// written. A later ledger that does not name the Secret never will.
pub const ANNOTATION_SEQUENCE: &str = "signing.odj.cloud/sequence";

/// Annotation of a pipeline Secret: the ring it belongs to.
pub const ANNOTATION_RING: &str = "signing.odj.cloud/ring";

/// Annotation of a pipeline Secret: the version it holds.
pub const ANNOTATION_VERSION: &str = "signing.odj.cloud/version";

/// Annotation of a pipeline Secret: the fingerprint of the key it holds.
pub const ANNOTATION_FINGERPRINT: &str = "signing.odj.cloud/fingerprint";

/// Annotation of a pipeline Secret: the layout of its entries.
pub const ANNOTATION_LAYOUT: &str = "signing.odj.cloud/layout";

/// Finalizer of a ring; taken off when its rule, Secrets and ledger are gone.
pub const FINALIZER: &str = "signing.odj.cloud/teardown";

/// Type of the ledger Secrets; watches select by it.
pub const LEDGER_TYPE: &str = "signing.odj.cloud/key-ring";

/// Name of the rule that answers when a policy is asked; no ring may have it.
pub(crate) const GATE_RULE: &str = "signing-gate";

/// Name of the rule that refuses images which are no references. No ring has a
/// dot in its name.
pub(crate) const REFERENCE_RULE: &str = "signing-gate.references";

/// Name of the rule that has all images of a Pod found.
pub(crate) const IMAGES_RULE: &str = "signing-gate.images";

/// Name of the rule for namespaces whose label names no ring, and of the mark of
/// its policy.
pub(crate) const UNKNOWN_RULE: &str = "signing-gate.unknown";

/// Name, in the manifests, of the ClusterRole that a namespace's owner binds to let
/// the operator publish there.
pub const PIPELINE_ROLE: &str = "signingkeyring-pipeline";

/// Name of the Secret that [`PIPELINE_ROLE`] covers.
pub(crate) const DEFAULT_SECRET_NAME: &str = "image-signing";

/// Name, in the manifests, of the operator's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "signingkeyring-operator";

/// Default of Kyverno's namespace.
pub const KYVERNO_NAMESPACE: &str = "kyverno";

/// The value of the enrolment label of the namespace in which policies are asked. It is
/// no ring's name.
pub const PROBE: &str = GATE_RULE;

/// Default of the namespace in which policies are asked.
pub const PROBE_NAMESPACE: &str = "signing-probe";

/// The names of the conditions that an ImageValidatingPolicy has.
pub(crate) const CONDITIONS: [&str; 4] = ["question", "where", "what-runs-changes", "elsewhere"];

/// Prefix of the ledgers' names.
const LEDGER_PREFIX: &str = "ring-";

/// Prefix of the names of Secrets that hold one standby key each.
const STANDBY_PREFIX: &str = "standby-";

/// The name of the Secret of one standby key. It has a part of the key's
/// fingerprint, so that two replicas never write the same one.
#[must_use]
pub fn standby(ring: &RingName, version: u32, fingerprint: &Fingerprint) -> String {
    let short = crate::high_water::short(fingerprint.as_str());
    format!("{STANDBY_PREFIX}{ring}.v{version}-{short}")
}

/// The ring whose standby key the Secret of this name holds. A ring's name has
/// no dot, so it ends at the first.
#[must_use]
pub fn ring_of_standby(secret: &str) -> Option<RingName> {
    let (ring, _) = secret.strip_prefix(STANDBY_PREFIX)?.split_once('.')?;
    ring.parse().ok()
}

/// The entry of a Secret's data that holds a version's sealed private key.
#[must_use]
pub fn key_entry(version: u32) -> String {
    format!("v{version}.key")
}

/// The entry of a Secret's data that holds the password of that key.
#[must_use]
pub fn password_entry(version: u32) -> String {
    format!("v{version}.password")
}

/// The name of a ring's ledger Secret.
#[must_use]
pub fn ledger(ring: &RingName) -> String {
    format!("{LEDGER_PREFIX}{ring}")
}

/// The ring whose ledger has this name. A Secret of another name is nobody's
/// ledger: its rule would have a name that Kyverno refuses, and with it the
/// policy of other rings.
#[must_use]
pub fn ring_of_ledger(secret: &str) -> Option<RingName> {
    secret.strip_prefix(LEDGER_PREFIX)?.parse().ok()
}

/// Whether a Secret may have this name.
#[must_use]
pub fn is_secret_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What is said of a text that is no label's key.
pub const NO_LABEL_KEY: &str = "must be a label key such as odj.cloud/application";

/// Whether a text is a label's key: an optional DNS prefix and a slash, then a name.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("", text));
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let name_fits = name.len() <= 63
        && name.chars().all(inner)
        && edge(name.chars().next())
        && edge(name.chars().next_back());
    let prefix_fits = prefix.len() <= 253
        && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    name_fits && prefix_fits && !text.starts_with('/')
}

/// The name of a ring: a DNS label, because it is a label's value and the name
/// of a rule, and none that a rule of the operator's own has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingName(Arc<str>);

/// A name that no ring may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its name is no DNS label of at most 63 characters, or {GATE_RULE}")]
pub struct NoRingName;

impl RingName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is keyed by rings can be asked for any text.
impl Borrow<str> for RingName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for RingName {
    type Err = NoRingName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let legal = (1..=63).contains(&name.len())
            && name.bytes().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name != GATE_RULE;
        legal.then(|| Self(name.into())).ok_or(NoRingName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys() {
        for good in ["signing.odj.cloud/ring", "odj.cloud/application", "ring"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/ring", "a/", "A.b/ring", "ring!", "-ring", "a b"] {
            assert!(!is_label_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_standby_key_belongs_to_a_ring_that_may_exist() {
        let ring: RingName = "shop".parse().unwrap();
        let secret = standby(&ring, 2, &"SHA256:2".parse().unwrap());
        assert!(secret.starts_with("standby-shop.v2-"), "{secret}");
        assert_eq!(ring_of_standby(&secret), Some(ring));
        for secret in ["standby-shop", "standby-.v2-00", "standby-signing-gate.v2-00", "shop.v2"] {
            assert_eq!(ring_of_standby(secret), None, "{secret}");
        }
    }

    #[test]
    fn a_secrets_name_has_no_namespace() {
        for name in ["regcred", "a.b-c.0", &"a".repeat(253)] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["", "other/regcred", "/a", "A", "a..b", "-a", "a-", "a b", &"a".repeat(254)] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_ledger_belongs_to_a_ring_that_may_exist() {
        for name in ["shop", &"a".repeat(63), "0-0"] {
            let ring: RingName = name.parse().unwrap();
            assert_eq!(ring.to_string(), name);
            assert_eq!(ring_of_ledger(&ledger(&ring)), Some(ring));
        }
        assert_eq!(ledger(&"shop".parse().unwrap()), "ring-shop");
        for secret in ["ring-", "ring-signing-gate", "ring-a.b", "ring--a", "ring-a-", "shop"] {
            assert_eq!(ring_of_ledger(secret), None, "{secret}");
        }
        assert_eq!(ring_of_ledger(&format!("ring-{}", "a".repeat(64))), None);
    }
}
