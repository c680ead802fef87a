//! Every name that the operator writes into the cluster.

/// API group of both kinds.
pub const GROUP: &str = "signing.odj.cloud";

/// Field manager of every write.
pub const MANAGER: &str = "signingkeyring-operator";

/// Standard label that marks an object as written by this operator.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Default key of the namespace label whose value names the namespace's ring.
pub const LABEL_RING: &str = "signing.odj.cloud/ring";

/// Label of the gate's dry-run Pod; its value names the policy that is asked.
pub const LABEL_GATE: &str = "signing.odj.cloud/gate";

/// Annotation that a policy's gate rule stamps on that Pod.
pub const ANNOTATION_GATE_ANSWER: &str = "signing.odj.cloud/gate-answer";

/// Annotation of a policy: the marks of the rings it holds.
pub const ANNOTATION_MARKS: &str = "signing.odj.cloud/rings";

/// Annotation of a ring: a new value asks for one rotation.
pub const ANNOTATION_ROTATE: &str = "signing.odj.cloud/rotate";

/// Annotation of a ring: `"true"` lets a deletion go on although namespaces are enrolled.
pub const ANNOTATION_ALLOW_UNENFORCED: &str = "signing.odj.cloud/allow-unenforced-deletion";

/// Annotation of a ledger: everything but the private keys, as JSON.
pub const ANNOTATION_LEDGER: &str = "signing.odj.cloud/ledger";

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
pub const GATE_RULE: &str = "signing-gate";

/// Name of the ClusterRole that a namespace's owner binds to let the operator
/// publish there.
pub const PIPELINE_ROLE: &str = "signingkeyring-pipeline";

/// Name of the Secret that [`PIPELINE_ROLE`] covers.
pub const DEFAULT_SECRET_NAME: &str = "image-signing";

/// Name of the operator's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "signingkeyring-operator";

/// Prefix of the ledgers' names.
const LEDGER_PREFIX: &str = "ring-";

/// The name of a ring's ledger Secret.
#[must_use]
pub fn ledger(ring: &str) -> String {
    format!("{LEDGER_PREFIX}{ring}")
}

/// The ring whose ledger has this name. A Secret of another name is nobody's
/// ledger: its rule would have a name that Kyverno refuses, and with it the
/// policy of other rings.
#[must_use]
pub fn ring_of_ledger(secret: &str) -> Option<&str> {
    secret.strip_prefix(LEDGER_PREFIX).filter(|ring| is_ring(ring))
}

/// Whether a ring may have this name.
#[must_use]
pub fn is_ring(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name != GATE_RULE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_belongs_to_a_ring_that_may_exist() {
        assert_eq!(ring_of_ledger("ring-shop"), Some("shop"));
        assert_eq!(ring_of_ledger(&ledger(&"a".repeat(63))), Some("a".repeat(63).as_str()));
        for secret in ["ring-", "ring-signing-gate", "ring-a.b", "ring--a", "ring-a-", "shop"] {
            assert_eq!(ring_of_ledger(secret), None, "{secret}");
        }
        assert_eq!(ring_of_ledger(&ledger(&"a".repeat(64))), None);
    }
}
