//! The rule that refuses images which are no references.
//!
//! Where Kyverno 1.19 cannot parse one image of a Pod it verifies none of them
//! and admits the Pod (`failed to load data ... invalid reference format` in its
//! log). A Pod's other containers start although one has such an image, so it
//! would carry them past the signature check.

use serde_json::{Value, json};

use super::rules::{LISTS, NOTE};
use crate::{names, policy::object::REFERENCE, policy_ref::Action};

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
            // The API server's default: where it adds what we leave out, each start would write
            // every policy once more.
            "allowExistingViolations": true,
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
/// verifies nothing; and so does a note in Kyverno's place, which would count once
/// its images can be read.
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
    let note = |pod: &str| {
        format!(
            "(has({pod}.metadata.annotations) && '{NOTE}' in {pod}.metadata.annotations ? \
             {pod}.metadata.annotations['{NOTE}'] : '')"
        )
    };
    let (new, old) = (note("object"), note("oldObject"));
    format!(
        "request.operation == 'CREATE' || {} != {} || (has(oldObject.spec.schedulingGates) && \
         (!has(object.spec.schedulingGates) || object.spec.schedulingGates != \
         oldObject.spec.schedulingGates)) || ({new} != {old} && \
         ({new}.contains('/signing-') || {new}.contains('\\\\')))",
        images("object"),
        images("oldObject"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_takes_the_same_for_references() {
        let marks = include_str!("../../../../../manifests/guard/marks.yaml");
        for expression in [REFERENCE, LENGTH] {
            assert!(marks.contains(&format!("i.matches('{expression}')")), "{expression}");
        }
    }
}
