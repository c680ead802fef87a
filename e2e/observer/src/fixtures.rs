//! Policies of each kind that verify, as tests show them to the checks.

use serde_json::{Value, json};

use crate::history::Kind;

/// The kinds that verify.
pub(crate) const KINDS: [Kind; 2] = [Kind::ClusterPolicy, Kind::ImageValidatingPolicy];

/// A policy that accepts these keys for a ring, with its marks.
pub(crate) fn policy(kind: Kind, ring: &str, keys: &[&str], marks: &str) -> Value {
    let spec = match kind {
        Kind::ImageValidatingPolicy => image_validating(ring, keys, marks),
        _ => cluster_policy(ring, keys),
    };
    json!({
        "metadata": {"name": "p", "annotations": {"signing.odj.cloud/rings": marks}},
        "spec": spec,
    })
}

/// A pin for a ring.
pub(crate) fn pin(ring: &str) -> Value {
    json!({"metadata": {"name": "pin"}, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": selector(&[ring]),
        "variables": [{"name": "pin", "expression": "cel.bind(excluded, {\"\":[\"quay.io/a/\"]}, x)"}],
    }})
}

fn selector(rings: &[&str]) -> Value {
    let ring = json!({"key": "signing.odj.cloud/ring", "operator": "In", "values": rings});
    json!({"namespaceSelector": {"matchExpressions": [ring]}})
}

fn cluster_policy(ring: &str, keys: &[&str]) -> Value {
    let entries: Vec<Value> = keys.iter().map(|key| json!({"keys": {"publicKeys": key}})).collect();
    json!({"rules": [{"name": ring, "verifyImages": [{
        "failureAction": "Enforce",
        "skipImageReferences": ["quay.io/a/*"],
        "attestors": [{"count": 1, "entries": entries}],
    }]}]})
}

fn image_validating(ring: &str, keys: &[&str], question: &str) -> Value {
    let attestor = |name: String, key: &str| {
        let ctlog = json!({"insecureIgnoreTlog": true, "insecureIgnoreSCT": true});
        json!({"name": name, "cosign": {"key": {"data": key}, "ctlog": ctlog}})
    };
    let attestors = keys.iter().flat_map(|key| {
        let mut twin = attestor(format!("k{key}b"), key);
        twin["cosign"]["annotations"] = json!({"dev.cosignproject.cosign/signature": ""});
        [attestor(format!("k{key}"), key), twin]
    });
    let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
    let mut constraints = selector(&[ring, "signing-gate"]);
    constraints["resourceRules"] = json!([
        {"operations": ["CREATE", "UPDATE"], "resources": ["pods", "pods/ephemeralcontainers"]},
        {"operations": ["CREATE"], "resources": ["configmaps"]},
    ]);
    let of_questions = "!(request.resource.resource == 'configmaps') || ";
    json!({
        "failurePolicy": "Fail",
        "validationActions": ["Deny"],
        "validationConfigurations":
            {"mutateDigest": false, "verifyDigest": true, "required": true},
        "matchConstraints": constraints,
        "matchConditions": [
            {"name": "question", "expression": format!("{of_questions}request.name == '{question}'")},
            {"name": "where", "expression": format!("{of_questions}request.namespace == 'probe'")},
            {"name": "changes", "expression": "x || request.operation == 'CREATE' || y"},
        ],
        "images": [{"name": "containers", "expression": "cel.bind(excluded, {\"\":[\"quay.io/a/\"]}, \
            object.spec.containers + object.spec.?initContainers + \
            object.spec.?ephemeralContainers + object.spec.?volumes)"}],
        "variables": [{"name": "accepted", "expression":
            format!("{}[?variables.ring].orValue([])", json!({ring: names}))}],
        "attestors": attestors.collect::<Vec<_>>(),
        "validations": [
            {"expression": "!(request.resource.resource == 'configmaps')", "message": question},
            {"expression": "images.containers.all(i, variables.accepted.exists(k, \
                verifyImageSignatures(i, [attestors[k]]) > 0 && \
                (!(verifyImageSignatures(i, [attestors[k + 'b']]) > 0) || \
                verifyAttestationSignatures(i, attestations.signature, [attestors[k]]) > 0)))"},
        ],
    })
}
