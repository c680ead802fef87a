//! Rings with ten rotations behind them, as an operator has left them.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use p256::{
    ProjectivePoint, PublicKey,
    pkcs8::{EncodePublicKey, LineEnding},
};
use serde_json::{Value, json};
use signingkeyring_core::{
    fingerprint::Fingerprint,
    ledger::{
        Cause, Change, Ledger, Mint, NewKey, PipelineRef, PrivateKeyRef, RuleSettings, token_hash,
    },
    names,
    policy_ref::{Action, PolicyRef},
};
use signingkeyring_operator::keys::{digest_of, fingerprint_of};

use crate::{PACK, api_server::Cluster};

/// How often each ring was rotated.
const ROTATIONS: u32 = 10;

/// What a sealed private key weighs.
const SEALED: &[u8] = &[b'k'; 653];

pub const RINGS: &str = "signing.odj.cloud/v1alpha1/signingkeyrings";

/// The name of the `number`th ring.
pub fn name(number: usize) -> String {
    format!("application-{number:05}")
}

/// A cluster with so many.
pub fn cluster(rings: usize) -> Result<Cluster> {
    let mut cluster = Cluster::default();
    let crd = json!({"metadata": {"name": names::QUESTION_CRD, "uid": "crd", "generation": 1}});
    cluster.store("apiextensions.k8s.io/v1/customresourcedefinitions", crd);
    for (half, plural) in [("mutat", "mutating"), ("validat", "validating")] {
        let collection = format!("admissionregistration.k8s.io/v1/{plural}webhookconfigurations");
        cluster.store(&collection, webhooks(half));
    }
    let mut keys = Keys(ProjectivePoint::GENERATOR);
    for number in 0..rings {
        let name = name(number);
        for namespace in [format!("{name}-dev"), format!("{name}-prod")] {
            cluster.store("v1/namespaces", self::namespace(&namespace, Some(&name)));
        }
        for namespace in ["ci", "cd"].map(|which| format!("{name}-{which}")) {
            cluster.store("v1/namespaces", self::namespace(&namespace, None));
        }
        let ledger = ledger(&name, number, &mut keys)?;
        for pipeline in ledger.publications.iter() {
            cluster.store("v1/secrets", pipeline_secret(&name, pipeline, &ledger)?);
        }
        cluster.store("v1/secrets", ledger_secret(&name, &ledger));
        cluster.store(RINGS, ring(&name));
    }
    cluster.settle();
    Ok(cluster)
}

/// What Kyverno tells the API server.
fn webhooks(half: &str) -> Value {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "scope": "Namespaced",
        "operations": ["CREATE", "UPDATE"], "resources": ["pods", "pods/ephemeralcontainers"]}]);
    let hook = json!({
        "name": format!("{half}e.kyverno.svc-fail"), "failurePolicy": "Fail", "rules": rules,
        "clientConfig": {"service": {"namespace": "kyverno", "name": "kyverno-svc"}},
        "sideEffects": "NoneOnDryRun", "admissionReviewVersions": ["v1"],
    });
    let name = format!("kyverno-resource-{half}ing-webhook-cfg");
    json!({"metadata": metadata(&name, json!({})), "webhooks": [hook]})
}

/// A ring's object.
pub fn ring(name: &str) -> Value {
    let pipelines = ["ci", "cd"].map(|which| {
        let namespace = format!("{name}-{which}");
        json!({"namespace": namespace, "secretName": "image-signing", "layout": "Cosign"})
    });
    json!({
        "apiVersion": names::API_VERSION,
        "kind": "SigningKeyRing",
        "metadata": metadata(name, json!({
            "annotations": {
                names::ANNOTATION_ROTATE: format!("{ROTATIONS}"),
                names::ANNOTATION_HIGH_WATER: format!("{name}={}", ROTATIONS + 1),
            },
            "finalizers": [names::FINALIZER],
            "generation": 1,
            "managedFields": managed_by_two(),
            "labels": {"argocd.argoproj.io/instance": "platform"},
        })),
        "spec": {
            "keepVersions": 3,
            "rotation": {"every": "90d", "soak": "10s"},
            "pipelines": pipelines,
            "policy": {"action": "Enforce"},
        },
    })
}

/// A namespace that is enrolled in a ring, or in none.
pub fn namespace(name: &str, ring: Option<&str>) -> Value {
    let mut labels = json!({
        "kubernetes.io/metadata.name": name,
        "pod-security.kubernetes.io/enforce": "restricted",
        "example.org/team": "platform",
    });
    if let Some(ring) = ring {
        labels[names::LABEL_RING] = json!(ring);
    }
    let fields = json!({"f:metadata": {"f:labels": {
        ".": {}, "f:example.org/team": {}, "f:kubernetes.io/metadata.name": {},
        "f:pod-security.kubernetes.io/enforce": {}, "f:signing.odj.cloud/ring": {},
    }}});
    let written = json!({"labels": labels, "managedFields": [managed("kubectl", &fields)]});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, written)})
}

fn metadata(name: &str, more: Value) -> Value {
    let hash = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut metadata = json!({
        "name": name,
        "uid": format!("5c9b3e1e-7a7e-4a3c-{:04x}-{:012x}", hash % 0xffff, hash % 0xffff_ffff_ffff),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    if let (Value::Object(metadata), Value::Object(more)) = (&mut metadata, more) {
        metadata.extend(more);
    }
    metadata
}

fn managed(manager: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": "Apply", "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// What the API server keeps of who wrote what of a ring.
fn managed_by_two() -> Value {
    let kinds = [
        "EnforcementComplete",
        "KeysAvailable",
        "PipelinesPublished",
        "PolicyEnforced",
        "Ready",
        "RevocationsApplied",
    ];
    let condition = json!({".": {}, "f:lastTransitionTime": {}, "f:message": {},
        "f:observedGeneration": {}, "f:reason": {}, "f:status": {}, "f:type": {}});
    let conditions: serde_json::Map<String, Value> = kinds
        .iter()
        .map(|kind| (format!("k:{{\"type\":\"{kind}\"}}"), condition.clone()))
        .collect();
    let status = json!({"f:status": {
        "f:acceptedVersions": {}, "f:conditions": conditions, "f:currentVersion": {},
        "f:enrolledNamespaces": {}, "f:nextRotationTime": {}, "f:observedGeneration": {},
        "f:observedRotation": {}, "f:pipelines": {}, "f:policy": {}, "f:versions": {},
    }});
    let spec = json!({"f:metadata": {"f:annotations": {"f:signing.odj.cloud/rotate": {}}},
        "f:spec": {"f:keepVersions": {}, "f:pipelines": {}, "f:policy": {"f:action": {}},
            "f:rotation": {"f:every": {}, "f:soak": {}}}});
    json!([managed("argocd", &spec), managed(names::MANAGER, &status)])
}

/// Public keys, each another one: of nobody's private key.
struct Keys(ProjectivePoint);

impl Keys {
    fn next(&mut self) -> Result<(String, Fingerprint)> {
        self.0 += ProjectivePoint::GENERATOR;
        let key = PublicKey::from_affine(self.0.to_affine())?;
        let pem = key.to_public_key_pem(LineEnding::LF)?;
        let fingerprint = fingerprint_of(&pem)?;
        Ok((pem, fingerprint))
    }
}

fn password(number: u32) -> Vec<u8> {
    format!("password-{number:035}").into_bytes()
}

fn ledger(name: &str, number: usize, keys: &mut Keys) -> Result<Ledger> {
    let policy =
        PolicyRef::new(Action::Enforce, u32::try_from(number / usize::try_from(PACK)?)? + 1);
    let now = "2026-11-01T00:00:00Z".parse()?;
    let mut ledger: Option<Ledger> = None;
    for version in 1..=ROTATIONS + 1 {
        let token = (version > 1).then(|| token_hash(&(version - 1).to_string()));
        let rule = RuleSettings::of(policy);
        let mint = Mint::New { version, token, cause: Cause::First, rule };
        let (public_key, fingerprint) = keys.next()?;
        let digest = digest_of(SEALED, &password(version));
        let private_key = PrivateKeyRef { digest, secret: None };
        let key = NewKey { public_key, fingerprint, private_key };
        let minted = Ledger::mint(ledger.as_ref(), &mint, key, now)?;
        let known = Ledger::apply(
            Some(&minted),
            &Change::Acknowledge { version, add: BTreeSet::new() },
            now,
        )?;
        let activate = Change::Activate { version, keep: 3 };
        ledger = Some(Ledger::apply(Some(&known), &activate, now)?);
    }
    let mut ledger = ledger.context("no version")?;
    for which in ["cd", "ci"] {
        let namespace = format!("{name}-{which}");
        ledger.publications.hold(PipelineRef { namespace, name: "image-signing".to_owned() });
    }
    Ok(ledger)
}

fn ledger_secret(name: &str, ledger: &Ledger) -> Value {
    let version = ROTATIONS + 1;
    let fields = json!({"f:data": {format!("f:v{version}.key"): {}, "f:v1.password": {}},
        "f:metadata": {"f:annotations": {"f:signing.odj.cloud/ledger": {}}}, "f:type": {}});
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": names::LEDGER_TYPE,
        "metadata": metadata(&format!("ring-{name}"), json!({
            "namespace": "signing-system",
            "labels": {names::LABEL_MANAGED_BY: names::MANAGER},
            "annotations": {names::ANNOTATION_LEDGER: ledger.to_json()},
            "managedFields": [managed(names::MANAGER, &fields)],
        })),
        "data": {
            names::key_entry(version): Base64::encode_string(SEALED),
            names::password_entry(version): Base64::encode_string(&password(version)),
        },
    })
}

fn pipeline_secret(name: &str, pipeline: &PipelineRef, ledger: &Ledger) -> Result<Value> {
    let current = ledger.current().context("no version signs")?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata(&pipeline.name, json!({
            "namespace": pipeline.namespace,
            "labels": {names::LABEL_MANAGED_BY: names::MANAGER},
            "annotations": {
                names::ANNOTATION_RING: name,
                names::ANNOTATION_VERSION: current.number.to_string(),
                names::ANNOTATION_FINGERPRINT: current.fingerprint.to_string(),
                names::ANNOTATION_LAYOUT: "Cosign",
            },
        })),
        "data": {
            "cosign.key": Base64::encode_string(SEALED),
            "cosign.password": Base64::encode_string(&password(current.number)),
            "cosign.pub": Base64::encode_string(current.public_key.text().as_bytes()),
        },
    }))
}
