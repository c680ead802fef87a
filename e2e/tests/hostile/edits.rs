//! Edits of an ImageValidatingPolicy, with data and code that nobody writes.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use signingkeyring_e2e_observer::marks::ANNOTATION as MARKS;
use signingkeyring_e2e_testbed::kind::Kind;

use crate::policies::{HIGH_WATER, STRANGER, VICTIM};

/// An edit of a policy, told to its annotations and its spec.
pub struct Edit {
    pub class: &'static str,
    edit: fn(&mut Value, &mut Value),
}

/// Annotations, and the spec.
pub const EDITS: &[Edit] = &[
    Edit { class: "accepted: no map", edit: |_, spec| *accepted(spec) = json!("[]") },
    Edit {
        class: "accepted: empty",
        edit: |_, spec| *accepted(spec) = json!("{}[?variables.ring].orValue([])"),
    },
    Edit {
        class: "accepted: without the victim",
        edit: |_, spec| replace(accepted(spec), VICTIM, "nobody"),
    },
    Edit { class: "accepted: no end", edit: |_, spec| replace(accepted(spec), "}", "") },
    Edit {
        class: "accepted: numbers",
        edit: |_, spec| *accepted(spec) = json!("{\"victim\":[7]}[?variables.ring].orValue([])"),
    },
    Edit {
        class: "accepted: deep",
        edit: |_, spec| *accepted(spec) = json!(format!("{}1{}", "[".repeat(900), "]".repeat(900))),
    },
    Edit {
        class: "excluded: everything",
        edit: |_, spec| *containers(spec) = json!("[''].filter(i, i != '')"),
    },
    Edit {
        class: "excluded: no map",
        edit: |_, spec| *containers(spec) = json!("cel.bind(excluded, 7, [''].filter(i, i != ''))"),
    },
    Edit {
        class: "excluded: huge",
        edit: |_, spec| {
            let images: Vec<String> = (0..5_000).map(|n| format!("quay.io/huge-{n}/")).collect();
            let images = json!({"": images});
            *containers(spec) =
                json!(format!("cel.bind(excluded, {images}, [''].filter(i, i != ''))"));
        },
    },
    Edit { class: "variables gone", edit: |_, spec| spec["variables"] = json!([]) },
    Edit { class: "images gone", edit: |_, spec| spec["images"] = json!([]) },
    Edit {
        class: "attestors without the victim's",
        edit: |_, spec| spec["attestors"] = json!([spec["attestors"][0]]),
    },
    Edit {
        class: "a key that is none",
        edit: |_, spec| spec["attestors"][0]["cosign"]["key"]["data"] = json!("{{x}}"),
    },
    Edit {
        class: "an attestor of another kind",
        edit: |_, spec| {
            spec["attestors"][0] = json!({"name": "x", "notary": {"certs": {"value": "x"}}});
        },
    },
    Edit {
        class: "an attestor twice",
        edit: |_, spec| {
            let first = spec["attestors"][0].clone();
            if let Some(attestors) = spec["attestors"].as_array_mut() {
                attestors.push(first);
            }
        },
    },
    Edit {
        class: "validations that pass",
        edit: |_, spec| spec["validations"] = json!([{"expression": "true"}]),
    },
    Edit {
        class: "another question",
        edit: |_, spec| spec["validations"][0]["message"] = json!("x"),
    },
    Edit {
        class: "a condition that is never met",
        edit: |_, spec| spec["matchConditions"][0]["expression"] = json!("false"),
    },
    Edit {
        class: "no namespace",
        edit: |_, spec| {
            spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"x": "y"}});
        },
    },
    Edit { class: "audits", edit: |_, spec| spec["validationActions"] = json!(["Audit"]) },
    Edit { class: "fails open", edit: |_, spec| spec["failurePolicy"] = json!("Ignore") },
    Edit {
        class: "tags pass",
        edit: |_, spec| spec["validationConfigurations"]["verifyDigest"] = json!(false),
    },
    Edit { class: "marks gone", edit: |notes, _| drop(notes[MARKS].take()) },
    Edit { class: "marks empty", edit: |notes, _| notes[MARKS] = json!("") },
    Edit { class: "marks no marks", edit: |notes, _| notes[MARKS] = json!("a=b=c =.=") },
    Edit { class: "marks huge", edit: |notes, _| notes[MARKS] = json!("x=1.y ".repeat(20_000)) },
    Edit { class: "high-water gone", edit: |notes, _| drop(notes[HIGH_WATER].take()) },
    Edit {
        class: "high-water out of range",
        edit: |notes, _| notes[HIGH_WATER] = json!("victim=4294967295 victim=x"),
    },
];

/// What somebody does to the victim's rule who raises its mark besides.
pub const RAISED: &[Edit] = &[
    Edit {
        class: "raised with a stranger's key",
        edit: |_, spec| {
            let mut policy = json!({"spec": spec.take()});
            // Nothing is edited if there is no rule, and the test fails.
            let _ = Kind::ImageValidatingPolicy.accept(&mut policy, VICTIM, STRANGER);
            *spec = policy["spec"].take();
        },
    },
    Edit {
        class: "raised with everything skipped",
        edit: |_, spec| *containers(spec) = json!("[''].filter(i, i != '')"),
    },
    Edit {
        class: "raised and audited",
        edit: |_, spec| spec["validationActions"] = json!(["Audit"]),
    },
];

fn accepted(spec: &mut Value) -> &mut Value {
    &mut spec["variables"][1]["expression"]
}

fn containers(spec: &mut Value) -> &mut Value {
    &mut spec["images"][0]["expression"]
}

fn replace(text: &mut Value, from: &str, to: &str) {
    *text = json!(text.as_str().unwrap_or_default().replace(from, to));
}

/// Edits a policy.
pub fn edited(object: &mut DynamicObject, edit: &Edit) {
    let mut notes = json!(object.metadata.annotations.clone().unwrap_or_default());
    (edit.edit)(&mut notes, &mut object.data["spec"]);
    let texts = notes.as_object().into_iter().flatten();
    let texts = texts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
    object.metadata.annotations = Some(texts.collect());
}

/// What a policy holds for a ring, and what is done with it.
pub fn rule(spec: &Value, ring: &str) -> Option<Value> {
    let kind = Kind::ImageValidatingPolicy;
    let frame = [
        "failurePolicy",
        "validationActions",
        "validationConfigurations",
        "images",
        "matchConstraints",
    ];
    let frame: Vec<&Value> = frame.iter().map(|field| &spec[field]).collect();
    let is_asked = spec["validations"].as_array()?.len() == 2
        && spec["matchConditions"][0]["expression"] != "false"
        && spec["validations"][0]["message"] != "x";
    let attestors = spec["attestors"].as_array()?.len();
    Some(json!([kind.keys(spec, ring)?, frame, is_asked, attestors % 2]))
}
