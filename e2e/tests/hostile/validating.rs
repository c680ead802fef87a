//! The same of ImageValidatingPolicies: but for names, keys and excluded images their
//! code is the same in all of them, and nothing that people wrote is in it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Map, Value, json};

use crate::{
    inert::{is_glob, is_label, is_public_key},
    texts::MARK,
};

/// Checks every policy.
pub fn check(policies: &[DynamicObject]) -> Result<()> {
    let mut codes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for policy in policies {
        let name = policy.name_any();
        ensure!(name.split('.').all(is_label), "policy {name:?}");
        let told =
            json!([policy.data["spec"], policy.metadata.annotations, policy.metadata.labels]);
        ensure!(!told.to_string().contains(MARK), "policy {name} has somebody's words");
        let code = code(&name, &policy.data["spec"]).with_context(|| format!("policy {name}"))?;
        // Policies of an action have one code; that for labels without a ring its own.
        let sort = name.trim_end_matches(|digit: char| digit != '0' && digit.is_ascii_digit());
        codes.entry(sort.to_owned()).or_default().insert(code);
    }
    ensure!(codes.values().all(|codes| codes.len() == 1), "not one code: {codes:#?}");
    Ok(())
}

/// A policy without its data, which is checked.
fn code(name: &str, spec: &Value) -> Result<String> {
    let mut spec = spec.clone();
    for attestor in spec["attestors"].take().as_array().context("no attestors")? {
        let key = attestor["cosign"]["key"]["data"].as_str().context("no key")?;
        ensure!(is_public_key(key), "a key {key:?}");
        ensure!(attestor["name"].as_str().is_some_and(is_label), "an attestor {attestor}");
    }
    let values = spec
        .pointer_mut("/matchConstraints/namespaceSelector/matchExpressions/0/values")
        .context("no values")?;
    for value in values.take().as_array().context("no values")? {
        ensure!(value.as_str().is_some_and(|v| v.is_empty() || is_label(v)), "a value {value}");
    }
    let excluded = data(&mut spec["images"][0]["expression"])?;
    let accepted = data(&mut spec["variables"][1]["expression"])?;
    for (ring, texts) in excluded {
        ensure!(ring.is_empty() || is_label(&ring), "a ring {ring:?}");
        for text in texts.as_array().context("no list")? {
            let text = text.as_str().context("an image that is no text")?;
            let glob = if text.ends_with('/') { format!("{text}*") } else { text.to_owned() };
            // A name alone is a repository.
            ensure!(is_glob(&glob) || is_glob(&format!("{glob}:*")), "an image {text:?}");
        }
    }
    for (ring, names) in accepted {
        let is_list = names.as_array().is_some_and(|names| !names.is_empty());
        ensure!((ring.is_empty() || is_label(&ring)) && is_list, "a ring {ring:?}: {names}");
    }
    let question = spec["validations"][0]["message"].as_str().context("no question")?.to_owned();
    let hash = question.strip_prefix(&format!("{name}.")).context("a question of another")?;
    ensure!(hash.chars().all(|c| c.is_ascii_hexdigit()), "a question {question:?}");
    Ok(spec.to_string().replace(&question, ""))
}

/// Takes the map out of an expression.
fn data(expression: &mut Value) -> Result<Map<String, Value>> {
    let text = expression.as_str().context("no expression")?.to_owned();
    let (before, _) = text.split_once('{').context("no map")?;
    let rest = &text[before.len()..];
    let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Map<String, Value>>();
    let map = stream.next().context("no map")??;
    *expression = json!(format!("{before}{}", &rest[stream.byte_offset()..]));
    Ok(map)
}
