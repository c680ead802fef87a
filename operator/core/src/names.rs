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
pub const GATE_RULE: &str = "signing-gate";

/// Name of the rule that refuses images which are no references. No ring has a
/// dot in its name.
pub const REFERENCE_RULE: &str = "signing-gate.references";

/// Name of the ClusterRole that a namespace's owner binds to let the operator
/// publish there.
pub const PIPELINE_ROLE: &str = "signingkeyring-pipeline";

/// Name of the Secret that [`PIPELINE_ROLE`] covers.
pub const DEFAULT_SECRET_NAME: &str = "image-signing";

/// Name of the operator's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "signingkeyring-operator";

/// Prefix of the ledgers' names.
const LEDGER_PREFIX: &str = "ring-";

/// Prefix of the names of Secrets that hold one standby key each.
const STANDBY_PREFIX: &str = "standby-";

/// The name of the Secret of one standby key. It has a part of the key's
/// fingerprint, so that two replicas never write the same one.
#[must_use]
pub fn standby(ring: &str, version: u32, fingerprint: &str) -> String {
    format!("{STANDBY_PREFIX}{ring}.v{version}-{}", crate::high_water::short(fingerprint))
}

/// The ring whose standby key the Secret of this name holds. A ring's name has
/// no dot, so it ends at the first.
#[must_use]
pub fn ring_of_standby(secret: &str) -> Option<&str> {
    let (ring, _) = secret.strip_prefix(STANDBY_PREFIX)?.split_once('.')?;
    is_ring(ring).then_some(ring)
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
