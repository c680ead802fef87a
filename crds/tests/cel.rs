//! What the CRDs accept and refuse, without a server: the schema's bounds and
//! enums by a JSON Schema validator, the CEL rules by kube's evaluator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::Path;

use kube::{CustomResourceExt, core::cel::Validator};
use serde_json::{Value, json};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

/// Every complaint about an object.
fn complaints(object: &Value) -> Vec<String> {
    let crd = match object["kind"].as_str() {
        Some("SigningKeyRing") => SigningKeyRing::crd(),
        Some("ImageExclusionList") => ImageExclusionList::crd(),
        other => panic!("no such kind: {other:?}"),
    };
    let schema = crd.spec.versions[0].schema.as_ref().unwrap();
    let schema = serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap();
    let structural = jsonschema::validator_for(&schema).unwrap();
    let mut complaints: Vec<String> =
        structural.iter_errors(object).map(|error| error.to_string()).collect();
    if let Err(rules) = Validator::new().validate(&schema, object, None) {
        complaints.push(rules.to_string());
    }
    complaints
}

fn ring(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "signing.odj.cloud/v1alpha1",
        "kind": "SigningKeyRing",
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn excluding(entry: &Value) -> Value {
    let mut entry = entry.clone();
    entry["reason"] = json!("because");
    ring("shop", &json!({"policy": {"exclude": [entry]}}))
}

fn in_window(window: &Value) -> Value {
    ring("shop", &json!({"rotation": {"every": "90d", "windows": [window]}}))
}

fn with_credentials(secrets: &[&str]) -> Value {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"secretName": name})).collect();
    ring("shop", &json!({"policy": {"registryCredentials": secrets}}))
}

#[test]
fn good_objects_are_accepted() {
    let mut good = vec![
        ring("shop", &json!({})),
        ring(&"a".repeat(63), &json!({"keepVersions": 1})),
        ring("shop-2", &json!({"keepVersions": 10, "policy": {"action": "Audit"}})),
        ring(
            "shop",
            &json!({"pipelines": [
                {"namespace": "ci", "secretName": "a", "layout": "Cosign"},
                {"namespace": "ci", "secretName": "b", "layout": "Environment"},
            ]}),
        ),
    ];
    for every in ["1h", "60m", "3600s", "90d", "36h", "99999h"] {
        good.push(ring("shop", &json!({"rotation": {"every": every}})));
    }
    for soak in ["0s", "10s", "3600s", "60m", "1h"] {
        good.push(ring("shop", &json!({"rotation": {"soak": soak}})));
    }
    for window in [
        json!({"start": "22:00", "end": "22:00"}),
        json!({"days": ["Monday", "Sunday"], "start": "22:00", "end": "04:00"}),
        json!({"start": "00:00", "end": "24:00", "timeZone": "Europe/Berlin"}),
        json!({"start": "01:00", "end": "02:00", "timeZone": "America/Argentina/ComodRivadavia"}),
        json!({"start": "01:00", "end": "02:00", "timeZone": "Etc/GMT+12"}),
    ] {
        good.push(in_window(&window));
    }
    for date in ["2027-01-31", "2028-02-29", "2000-02-29", "2027-12-31"] {
        good.push(excluding(&json!({"image": "quay.io/x/y", "expires": date})));
    }
    for image in ["quay.io/x/*", "redis", "redis:7", "redis:7.*", "localhost:5000/x:*", "quay.io/*"]
    {
        good.push(excluding(&json!({"image": image})));
    }
    for secret in ["regcred", "a", "registry.example.pull-2", &"a".repeat(253)] {
        good.push(with_credentials(&[secret]));
    }
    for object in good {
        assert_eq!(complaints(&object), [] as [String; 0], "{object}");
    }
}

#[test]
fn bad_objects_are_refused_with_a_sentence() {
    let keep = "keepVersions must be between 1 and 10";
    let every = "rotation.every must be a whole number and one unit (s, m, h or d), at least 1h, for example 90d";
    let soak = "rotation.soak must be a whole number and one unit (s, m or h), at most 1h, for example 10s";
    let date = "expires must be a date that exists, such as 2027-01-31";
    let wildcard = "a wildcard stands only at the end, after a slash (quay.io/org/*) or in the tag (quay.io/org/app:*), never in the host";
    let reference = "image must be an image reference in lower case without a scheme";
    let name = "metadata.name must be a DNS label of at most 63 characters";
    let in_window = |part: &Value| {
        let mut window = json!({"start": "22:00", "end": "04:00"});
        window.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        in_window(&window)
    };
    let mut bad = vec![
        (ring("shop", &json!({"keepVersions": 0})), keep),
        (ring("shop", &json!({"keepVersions": 11})), keep),
        (ring("shop.dev", &json!({})), name),
        (ring(&"a".repeat(64), &json!({})), name),
        (ring("-shop", &json!({})), name),
        (ring("signing-gate", &json!({})), "metadata.name signing-gate is reserved"),
        (
            ring("shop", &json!({"pipelines": [{"namespace": "No"}]})),
            "namespace must be the name of a namespace",
        ),
        (
            ring("shop", &json!({"pipelines": [{"namespace": "ci", "secretName": "_"}]})),
            "secretName must be the name of a Secret",
        ),
        (ring("shop", &json!({"pipelines": [{"namespace": "ci", "layout": "Plain"}]})), "Plain"),
        (ring("shop", &json!({"policy": {"action": "Warn"}})), "Warn"),
    ];
    for text in ["often", "59m", "3599s", "0d", "1", "1.5h", "1h30m", "-1d", "1w", "999999999999d"]
    {
        bad.push((ring("shop", &json!({"rotation": {"every": text}})), every));
    }
    for text in ["ten", "10", "2h", "61m", "3601s", "-1s"] {
        bad.push((ring("shop", &json!({"rotation": {"soak": text}})), soak));
    }
    for (window, sentence) in [
        (json!({"days": ["Mon"]}), "Mon"),
        (json!({"start": "24:00"}), "start must be hours and minutes from 00:00 to 23:59"),
        (json!({"start": "9:00"}), "start must be hours and minutes"),
        (json!({"end": "24:01"}), "end must be hours and minutes from 00:00 to 24:00"),
        (json!({"end": "4am"}), "end must be hours and minutes"),
        (json!({"timeZone": "../Berlin"}), "timeZone must be a name of the IANA time zone"),
        (json!({"timeZone": ""}), "timeZone must be a name of the IANA time zone"),
        (json!({"end": null}), "null"),
    ] {
        bad.push((in_window(&window), sentence));
    }
    for text in
        ["soon", "2027-02-29", "2027-04-31", "2100-02-29", "2027-13-01", "27-01-01", "2027-1-1"]
    {
        bad.push((excluding(&json!({"image": "quay.io/x/y", "expires": text})), date));
    }
    for text in
        ["quay.io/*/x", "quay.io/jetstack*", "*.io/x/*", "quay.io/x/?", "quay.io*", "quay.io/x:*:*"]
    {
        bad.push((excluding(&json!({"image": text})), wildcard));
    }
    for text in ["https://quay.io/x%2f", "/x/", "quay.io/ä", "quay.io/x:1@sha256:0"] {
        bad.push((excluding(&json!({"image": text})), reference));
    }
    for text in ["https://quay.io/x", "Quay io/x", "/x", "quay.io./x", "[::1]:5000/x", "q.io:0/x"] {
        bad.push((excluding(&json!({"image": text})), "what stands before the first slash"));
    }
    // Kyverno would take what stands before a slash for another namespace.
    for text in ["other/regcred", "/regcred", "", "Regcred", "reg cred", "-a", "a..b"] {
        bad.push((with_credentials(&[text]), "secretName must be the name of a Secret"));
    }
    bad.push((with_credentials(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), "8"));
    bad.push((excluding(&json!({"image": "library/*"})), "pods name official images without"));
    for (object, sentence) in bad {
        let complaints = complaints(&object);
        assert!(
            complaints.iter().any(|complaint| complaint.contains(sentence)),
            "{sentence:?} is not in {complaints:?} of {object}"
        );
    }
}

#[test]
fn credentials_are_told_apart_by_their_secrets() {
    let crd = serde_json::to_value(SigningKeyRing::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let policy = &schema["properties"]["spec"]["properties"]["policy"]["properties"];
    assert_eq!(policy["registryCredentials"]["x-kubernetes-list-type"], "map");
    assert_eq!(policy["registryCredentials"]["x-kubernetes-list-map-keys"], json!(["secretName"]));
}

#[test]
fn pipelines_are_told_apart_by_namespace_and_name() {
    let crd = serde_json::to_value(SigningKeyRing::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let pipelines = &schema["properties"]["spec"]["properties"]["pipelines"];
    assert_eq!(pipelines["x-kubernetes-list-type"], "map");
    assert_eq!(pipelines["x-kubernetes-list-map-keys"], json!(["namespace", "secretName"]));
}

#[test]
fn a_field_of_a_later_schema_cannot_be_read() {
    let later = ring("shop", &json!({"escrow": true}));
    let error = serde_json::from_value::<SigningKeyRing>(later).unwrap_err().to_string();
    assert!(error.contains("escrow"), "{error}");
}

#[test]
fn every_manifest_is_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let mut found = 0;
    for folder in [root.clone(), root.join("example")] {
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            for document in std::fs::read_to_string(&file).unwrap().split("\n---\n") {
                let Ok(object) = serde_saphyr::from_str::<Value>(document) else { continue };
                if object["apiVersion"] == "signing.odj.cloud/v1alpha1" {
                    found += 1;
                    assert_eq!(complaints(&object), [] as [String; 0], "{}", file.display());
                }
            }
        }
    }
    assert!(found >= 2, "only {found} manifests of ours were found");
}
