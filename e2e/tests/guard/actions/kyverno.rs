//! Kyverno's policies of one namespace.

use serde_json::{Value, json};

use super::{Action, POLICY, Verb, action, annotated, rules};
use crate::users::{ADMIN, NAMESPACES, PLATFORM, TENANT, User};

fn constraints() -> Value {
    json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]})
}

/// What is tried, who may, and whom the guard refuses.
pub fn all() -> Vec<Action> {
    use Verb::{Apply, Create, Delete, Patch};
    const NEW: (&str, &str) = ("guarded", "new");
    const HELD: (&str, &str) = ("shop-dev", "new");
    const OLD: (&str, &str) = ("guarded", "theirs");
    const MAY: &[User] = &[PLATFORM, ADMIN];
    const NOT: &[User] = &[TENANT];
    let of = |kind: &'static str, plural: &'static str| ("policies.kyverno.io", "v1", kind, plural);
    let spec = |spec: Value| Create(json!({"spec": spec}));
    let mutation = json!({"matchConstraints": constraints(), "mutations": [{"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: Object.metadata.labels{x: \"y\"}}}"}}]});
    let images = json!({"matchConstraints": constraints(), "attestors": [{"name": "a", "cosign": {"key": {"data": "x"}}}],
        "validations": [{"expression": "true"}]});
    let generation = json!({"matchConstraints": constraints(),
        "variables": [{"name": "made", "expression": "[{\"kind\": dyn(\"ConfigMap\"), \"apiVersion\": dyn(\"v1\"), \"metadata\": dyn({\"name\": \"made\"})}]"}],
        "generate": [{"expression": "generator.Apply(variables.made)"}]});
    let validation =
        json!({"matchConstraints": constraints(), "validations": [{"expression": "true"}]});
    let exception = json!({"exceptions": [{"policyName": "signing-enforce-0001", "ruleNames": ["*"]}],
        "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}});
    let exempt = json!({"policyRefs": [{"name": "x", "kind": "ImageValidatingPolicy"}]});
    vec![
        action("create a Policy", POLICY, NEW, spec(json!({"rules": rules()})), MAY, NOT),
        action(
            "create one where enrolled",
            POLICY,
            HELD,
            spec(json!({"rules": rules()})),
            MAY,
            NOT,
        ),
        action(
            "apply a new Policy",
            POLICY,
            NEW,
            Apply(json!({"spec": {"rules": rules()}})),
            MAY,
            NOT,
        ),
        action(
            "change a Policy",
            POLICY,
            OLD,
            Patch("", json!({"spec": {"background": false}})),
            MAY,
            NOT,
        ),
        action("annotate a Policy", POLICY, OLD, Patch("", annotated("a", "b")), MAY, NOT),
        action(
            "finalizers of a Policy",
            POLICY,
            OLD,
            Patch("", json!({"metadata": {"finalizers": ["a/b"]}})),
            &[TENANT, PLATFORM, ADMIN],
            &[],
        ),
        action("delete a Policy", POLICY, OLD, Delete, &[TENANT, PLATFORM, ADMIN, NAMESPACES], &[]),
        action(
            "NamespacedMutatingPolicy",
            of("NamespacedMutatingPolicy", "namespacedmutatingpolicies"),
            NEW,
            spec(mutation),
            MAY,
            NOT,
        ),
        action(
            "NamespacedImageValidatingPolicy",
            of("NamespacedImageValidatingPolicy", "namespacedimagevalidatingpolicies"),
            NEW,
            spec(images),
            MAY,
            NOT,
        ),
        action(
            "NamespacedGeneratingPolicy",
            of("NamespacedGeneratingPolicy", "namespacedgeneratingpolicies"),
            NEW,
            spec(generation),
            MAY,
            NOT,
        ),
        action(
            "NamespacedValidatingPolicy",
            of("NamespacedValidatingPolicy", "namespacedvalidatingpolicies"),
            NEW,
            spec(validation),
            MAY,
            NOT,
        ),
        action(
            "PolicyException (kyverno.io)",
            ("kyverno.io", "v2", "PolicyException", "policyexceptions"),
            NEW,
            spec(exception),
            MAY,
            NOT,
        ),
        action(
            "PolicyException (policies.…)",
            of("PolicyException", "policyexceptions"),
            NEW,
            spec(exempt),
            MAY,
            NOT,
        ),
    ]
}
