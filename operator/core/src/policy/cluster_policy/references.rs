//! The rule that refuses images which are no references.
//!
//! Where Kyverno 1.19 cannot parse one image of a Pod it verifies none of them
//! and admits the Pod (`failed to load data ... invalid reference format` in its
//! log). A Pod's other containers start although one has such an image, so it
//! would carry them past the signature check.

use serde_json::{Value, json};

use super::rules::LISTS;
use crate::{names, policy_ref::Action};

/// What Kyverno can parse, after github.com/distribution/reference, and no
/// more: an image that only some parsers read is refused.
const REFERENCE: &str = "^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?/)?\
    [a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*\
    (:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$";

/// A name has 255 characters at most, with the registry and `library/` that
/// Kyverno puts in front of a short one. The tag is counted too.
const LENGTH: &str = "^[^@]{1,237}(@|$)";

/// The rule for the rings of a policy. CEL rather than a pattern: it holds no
/// braces that Kyverno would take for a variable.
pub(super) fn rule(action: Action, enrolment_label: &str, rings: &[&str]) -> Value {
    let expression = LISTS
        .map(|list| {
            format!(
                "(!has(object.spec.{list}) || object.spec.{list}.all(c, !has(c.image) || \
                 (c.image.matches('{REFERENCE}') && c.image.matches('{LENGTH}'))))"
            )
        })
        .join(" && ");
    json!({
        "name": names::REFERENCE_RULE,
        "match": {"any": [{"resources": {
            "kinds": ["Pod", "Pod/ephemeralcontainers"],
            "operations": ["CREATE", "UPDATE"],
            "namespaceSelector": {"matchExpressions": [
                {"key": enrolment_label, "operator": "In", "values": rings},
            ]},
        }}]},
        "celPreconditions": [{"name": "what-runs-changes", "expression": changes()}],
        "skipBackgroundRequests": true,
        "validate": {
            "failureAction": match action {
                Action::Enforce => "Enforce",
                Action::Audit => "Audit",
            },
            "cel": {
                "generate": false,
                "expressions": [{
                    "expression": expression,
                    "message": "an image is no reference that can be verified; write \
                        HOST/PATH:TAG or HOST/PATH@sha256:DIGEST in lower case",
                }],
            },
        },
    })
}

/// Whether an update changes what runs, or when: a Pod that was there before may
/// still lose its finalizers. `allowExistingViolations` does nothing for CEL in
/// Kyverno 1.19. Taking a scheduling gate off counts, because of such a Pod Kyverno
/// verifies nothing.
fn changes() -> String {
    let images = |pod: &str| {
        let list = |list: &str| {
            format!(
                "(has({pod}.spec.{list}) ? {pod}.spec.{list}.map(c, has(c.image) ? c.image : '') \
                 : [])"
            )
        };
        format!("[{}]", LISTS.map(list).join(", "))
    };
    format!(
        "request.operation == 'CREATE' || {} != {} || (has(oldObject.spec.schedulingGates) && \
         (!has(object.spec.schedulingGates) || object.spec.schedulingGates != \
         oldObject.spec.schedulingGates))",
        images("object"),
        images("oldObject"),
    )
}
