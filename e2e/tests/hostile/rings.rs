//! Hand-written rings, and what is to become of each.

use serde_json::{Value, json};

use crate::{
    batch::{Row, Wants},
    texts::{MARK, patterns, ring, spec, texts},
};

/// Every hand-written ring.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, text) in texts().iter().enumerate() {
        let exclude = json!([{"image": "quay.io/hostile/*", "reason": text, "owner": text}]);
        let mut object =
            ring(&format!("text-{index}"), &spec(&json!({"policy": {"exclude": exclude}})));
        let mark = json!({"signing.odj.cloud/rotate": text, "note": text});
        object["metadata"]["annotations"] = mark;
        // A token that no status could show asks for nothing, and the ring says so.
        let shown = !text.contains(char::is_control);
        let wants = Wants::Condition(if shown { "True" } else { "False SpecInvalid" });
        rows.push(Row::new("ring: free text, rotation token", object, wants));
    }
    for (index, pattern) in patterns().iter().enumerate().step_by(2) {
        let exclude = json!([{"image": pattern, "reason": MARK}]);
        let object =
            ring(&format!("pattern-{index}"), &spec(&json!({"policy": {"exclude": exclude}})));
        rows.push(Row::new("ring: widening or broken pattern", object, Wants::Refused("image")));
    }
    for name in
        ["signing-gate", "a.b", "A", "-a", "a-", "a_b", "", "ä", "{{x}}", "..", "a/b", "%2e"]
    {
        rows.push(Row::new("ring: name", ring(name, &spec(&json!({}))), Wants::Refused("name")));
    }
    for length in [64, 253, 254, 100_000] {
        let object = ring(&"n".repeat(length), &spec(&json!({})));
        rows.push(Row::new("ring: name", object, Wants::Refused("name")));
    }
    for name in
        ["n".repeat(63), "1".to_owned(), "true".to_owned(), "null".to_owned(), "0x1f".to_owned()]
    {
        let object = ring(&name, &spec(&json!({})));
        rows.push(Row::new("ring: name at the limits", object, Wants::Condition("True")));
    }
    rows.extend(wrong_types());
    rows.extend(sizes());
    rows
}

fn wrong_types() -> Vec<Row> {
    let specs = [
        json!({"keepVersions": "3"}),
        json!({"keepVersions": 3.5}),
        json!({"keepVersions": -1}),
        json!({"keepVersions": 4_294_967_299_u64}),
        json!({"keepVersions": 1e300}),
        json!({"keepVersions": []}),
        json!({"rotation": []}),
        json!({"rotation": {"every": 90}}),
        json!({"rotation": {"every": "{{x}}"}}),
        json!({"rotation": {"every": "99999999999999d"}}),
        json!({"rotation": {"soak": "１0s"}}),
        json!({"rotation": {"soak": "10s\n"}}),
        json!({"policy": "Enforce"}),
        json!({"policy": {"action": "enforce"}}),
        json!({"policy": {"action": "Enforce\n"}}),
        json!({"policy": {"exclude": {}}}),
        json!({"policy": {"exclude": [null]}}),
        json!({"policy": {"exclude": [[]]}}),
        json!({"policy": {"exclude": [{"image": "quay.io/x"}]}}),
        json!({"policy": {"exclude": [{"image": ["quay.io/x"], "reason": "x"}]}}),
        json!({"policy": {"exclude": [{"image": "quay.io/x", "reason": ""}]}}),
        json!({"policy": {"exclude": [{"image": "quay.io/x", "reason": "x", "expires": "9999-99-99"}]}}),
        json!({"policy": {"exclude": [{"image": "quay.io/x", "reason": "x", "expires": "2027-01-31T00:00:00Z"}]}}),
        json!({"pipelines": {}}),
        json!({"pipelines": ["ci"]}),
        json!({"pipelines": [{"namespace": "../kube-system"}]}),
        json!({"pipelines": [{"namespace": "ci", "secretName": "a/b"}]}),
        json!({"pipelines": [{"namespace": "ci", "secretName": "{{x}}"}]}),
        json!({"pipelines": [{"namespace": "ci"}, {"namespace": "ci"}]}),
    ];
    let row = |(index, fields): (usize, &Value)| {
        let object = ring(&format!("type-{index}"), &spec(fields));
        Row::new("ring: wrong type or value", object, Wants::Refused("spec"))
    };
    specs.iter().enumerate().map(row).collect()
}

fn sizes() -> Vec<Row> {
    let entries = |count: usize, length: usize| -> Vec<Value> {
        let entry = |n| {
            let image = format!("quay.io/{}/{n}:*", "x".repeat(length));
            json!({"image": image, "reason": MARK})
        };
        (0..count).map(entry).collect()
    };
    let pipelines = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({"namespace": format!("no-such-{n}")})).collect()
    };
    let exclude = |entries: Value| spec(&json!({"policy": {"exclude": entries}}));
    let reason = |length: usize| json!([{"image": "quay.io/hostile/*", "reason": format!("{MARK}{}", "𝕫".repeat(length))}]);
    let (refused, class) = ("may not be", "ring: absurd size");
    let mut rows = vec![
        Row::new(
            class,
            ring("many-101", &exclude(json!(entries(101, 9)))),
            Wants::Refused("must have at most"),
        ),
        Row::new(
            class,
            ring("many-100", &exclude(json!(entries(100, 9)))),
            Wants::Condition("True"),
        ),
        Row::new(class, ring("reason-499", &exclude(reason(499))), Wants::Condition("True")),
        Row::new(class, ring("reason-500", &exclude(reason(500))), Wants::Refused(refused)),
        Row::new(class, ring("reason-big", &exclude(reason(400_000))), Wants::Refused("")),
        Row::new(
            class,
            ring("pipes-33", &spec(&json!({"pipelines": pipelines(33)}))),
            Wants::Refused("must have at most"),
        ),
        Row::new(
            class,
            ring("pipes-32", &spec(&json!({"pipelines": pipelines(32)}))),
            Wants::Condition("False NamespaceMissing"),
        ),
    ];
    for (length, wants) in
        [(253, "True"), (254, "False SpecInvalid"), (200_000, "False SpecInvalid")]
    {
        let mut object = ring(&format!("token-{length}"), &spec(&json!({})));
        object["metadata"]["annotations"] = json!({"signing.odj.cloud/rotate": "t".repeat(length)});
        rows.push(Row::new(class, object, Wants::Condition(wants)));
    }
    let own = spec(
        &json!({"pipelines": [{"namespace": "signing-system", "secretName": "ring-control"}]}),
    );
    rows.push(Row::new("ring: pipeline", ring("own", &own), Wants::Condition("False SpecInvalid")));
    let system = spec(&json!({"pipelines": [{"namespace": "kube-system", "secretName": "a"}]}));
    rows.push(Row::new(
        "ring: pipeline",
        ring("system", &system),
        Wants::Condition("False AccessNotGranted"),
    ));
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let head = r#"{"apiVersion":"signing.odj.cloud/v1alpha1","kind":"SigningKeyRing","metadata":{"name":"deep"},"spec":"#;
    rows.push(Row::raw("ring: broken JSON", format!("{head}{deep}}}"), Wants::Refused("")));
    rows.push(Row::raw("ring: broken JSON", format!("{head}{{"), Wants::Refused("")));
    rows.push(Row::raw(
        "ring: broken JSON",
        format!("{head}{{\"keepVersions\":NaN}}}}"),
        Wants::Refused(""),
    ));
    rows.push(Row::raw("ring: broken JSON", String::new(), Wants::Refused("")));
    rows.push(Row::raw("ring: broken JSON", "null".to_owned(), Wants::Refused("")));
    rows
}
