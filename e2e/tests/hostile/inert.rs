//! What the operator's policies may hold: names, keys and image globs, and not
//! a word of what people wrote beside them. Written from Kyverno's side, apart
//! from the renderer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{kind::Kind, world::wait_until};

use crate::{texts::MARK, validating};

async fn policies(client: &Client) -> Result<Vec<DynamicObject>> {
    let kind = Kind::under_test();
    let resource = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&resource, kind.plural());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// What a ring's rule skips.
pub async fn skipped(client: &Client, ring: &str) -> Result<BTreeSet<String>> {
    let kind = Kind::under_test();
    let policies = policies(client).await?;
    let specs = policies.iter().map(|policy| &policy.data["spec"]);
    let of_ring = specs.filter(|spec| kind.keys(spec, ring).is_some());
    let excluded = of_ring.flat_map(|spec| kind.excluded(spec, ring));
    Ok(excluded.map(|text| if text.ends_with('/') { text + "*" } else { text }).collect())
}

/// Checks every policy, and that Kyverno has taken each.
pub async fn check(client: &Client) -> Result<()> {
    let mut all = Vec::new();
    wait_until("Kyverno has taken every policy", async || {
        all = policies(client).await?;
        Ok(all.iter().all(|policy| {
            let status = &policy.data["status"];
            if status["conditionStatus"]["ready"] == true {
                return true;
            }
            let conditions = status["conditions"].as_array();
            conditions
                .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        }))
    })
    .await?;
    ensure!(!all.is_empty(), "there is no policy");
    if Kind::under_test() == Kind::ImageValidatingPolicy {
        return validating::check(&all);
    }
    let mut constants: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for policy in &mut all {
        let name = policy.name_any();
        ensure!(is_label(&name), "policy {name:?}");
        let rules = policy.data["spec"]["rules"].as_array_mut().context("no rules")?;
        for rule in rules {
            let rule_name = rule["name"].as_str().context("a rule without a name")?.to_owned();
            let rule_name = rule_name.as_str();
            ensure!(rule_name.split('.').all(is_word), "{name}: rule {rule_name:?}");
            // Constants with quotes and variables of their own: the same in every
            // policy of an action. The rest of a rule is judged as ever.
            for (what, pointer) in CONSTANTS {
                let Some(constant) = rule.pointer_mut(pointer) else { continue };
                for globs in pinned(constant) {
                    let globs = globs.take();
                    for glob in globs.as_array().context("globs that are no list")? {
                        let glob = glob.as_str().context("a glob that is no text")?;
                        ensure!(is_pinned(glob), "{name}, rule {rule_name}: glob {glob:?}");
                    }
                }
                constants.entry(what).or_default().insert(constant.take().to_string());
            }
            let globs = rule["verifyImages"][0]["skipImageReferences"].as_array();
            for glob in globs.into_iter().flatten() {
                let glob = glob.as_str().context("a glob that is no text")?;
                ensure!(is_glob(glob), "{name}, rule {rule_name}: glob {glob:?}");
            }
            let verifies = !rule["verifyImages"][0]["attestors"].is_null();
            let other = rule_name.ends_with(".tags") || rule_name.starts_with("signing-gate");
            ensure!(other || verifies, "{name}: rule {rule_name} verifies nothing");
        }
        let told =
            json!([policy.data["spec"], policy.metadata.annotations, policy.metadata.labels]);
        inert(&told).with_context(|| format!("policy {name}"))?;
    }
    for (what, texts) in constants {
        let most = if what == "preconditions" { 3 } else { 2 };
        ensure!((1..=most).contains(&texts.len()), "{what} is no constant: {texts:?}");
        ensure!(texts.iter().all(|text| !text.contains(MARK)), "{what}: {texts:?}");
    }
    Ok(())
}

/// What of the rules is code, and where.
const CONSTANTS: [(&str, &str); 4] = [
    ("validate", "/validate"),
    ("celPreconditions", "/celPreconditions"),
    ("preconditions", "/preconditions"),
    ("foreach", "/mutate/foreach"),
];

/// The lists of globs in the code that compares images by their tags.
fn pinned(constant: &mut Value) -> Vec<&mut Value> {
    let lists = constant.as_array_mut().into_iter().flatten();
    let globs = lists.filter_map(|list| list.pointer_mut("/preconditions/all/0/value"));
    globs.filter(|globs| globs.is_array()).collect()
}

/// A glob by tag with a digest behind it; short names stand without a host.
fn is_pinned(glob: &str) -> bool {
    let tagged = glob.strip_suffix("@sha256:*");
    tagged
        .filter(|tagged| tagged.rsplit('/').next().is_some_and(|end| end.contains(':')))
        .is_some_and(|tagged| is_glob(tagged) || is_glob(&format!("docker.io/{tagged}")))
}

/// A part of a rule's name.
fn is_word(word: &str) -> bool {
    is_label(&word.replace('_', "-"))
}

fn inert(value: &Value) -> Result<()> {
    match value {
        Value::String(text) => {
            for bad in [MARK, "{{", "}}", "$(", "${", "`", "\"", "'", "&", "#"] {
                ensure!(!text.contains(bad), "{bad:?} is in {text:?}");
            }
            ensure!(
                is_public_key(text) || text.chars().all(|c| (' '..='~').contains(&c)),
                "{text:?} has characters that nothing needs"
            );
        }
        Value::Array(values) => values.iter().try_for_each(inert)?,
        Value::Object(fields) => {
            for (key, value) in fields {
                inert(&json!(key))?;
                inert(value)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

pub fn is_public_key(text: &str) -> bool {
    let body = text
        .strip_prefix("-----BEGIN PUBLIC KEY-----\n")
        .and_then(|rest| rest.strip_suffix("\n-----END PUBLIC KEY-----\n"));
    body.is_some_and(|body| {
        body.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n'))
    })
}

pub fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(|c| plain(c) || c == '-')
}

/// `HOST/PATH/*`, `HOST/*`, `HOST/PATH:TAG`, `:TAG*`, `:*`, `@*`, `@DIGEST`,
/// the host of Docker Hub written out.
pub fn is_glob(glob: &str) -> bool {
    let Some((host, rest)) = glob.split_once('/') else { return false };
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let is_host = (name.contains('.') || host.contains(':') || name == "localhost")
        && name.split('.').all(is_label)
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    let (path, end) = match rest.find([':', '@']) {
        Some(at) => rest.split_at(at),
        None => match rest.strip_suffix('*') {
            Some("") => return is_host,
            Some(path) => (path.strip_suffix('/').unwrap_or("?"), ""),
            None => return false,
        },
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_path = path.split('/').all(|segment| {
        segment.starts_with(plain)
            && segment.ends_with(plain)
            && !segment.contains("..")
            && segment.chars().all(|c| plain(c) || "._-".contains(c))
    });
    let tag = |tag: &str| {
        tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let is_end = match end.split_at_checked(1) {
        None => true,
        Some((_, "*")) => true,
        Some((":", text)) => tag(text.strip_suffix('*').unwrap_or(text)),
        Some((_, digest)) => {
            digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && tag(hex))
        }
    };
    is_host && is_path && is_end
}

#[test]
fn the_checks_can_fail() {
    for glob in ["quay.io/a/*", "quay.io/*", "docker.io/a:*", "localhost:5000/a/b:1.*", "a.b/c@*"] {
        assert!(is_glob(glob), "{glob}");
    }
    for glob in [
        "*",
        "a/*",
        "quay.io*",
        "quay.io/a*",
        "quay.io/*/a",
        "quay.io/../a:*",
        "quay.io./a:*",
        "[::1]:5/a:*",
        "quay.io/A:*",
        "quay.io/a:{{x}}",
        "quay.io/a:1\n",
        "quay.io/%2f:*",
    ] {
        assert!(!is_glob(glob), "{glob}");
    }
    for glob in ["quay.io/a:1*@sha256:*", "redis:7@sha256:*", "library/redis:7@sha256:*"] {
        assert!(is_pinned(glob), "{glob}");
    }
    for glob in ["*@sha256:*", "quay.io/a:1", "{{x}}:1@sha256:*", "a b:1@sha256:*"] {
        assert!(!is_pinned(glob), "{glob}");
    }
    for text in [
        MARK,
        "a{{b}}",
        "a\nb",
        "ä",
        "$(x)",
        "-----BEGIN PUBLIC KEY-----\n{\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(inert(&json!({"a": [text]})).is_err(), "{text:?}");
        assert!(inert(&json!({text: 1})).is_err(), "{text:?}");
    }
    assert!(
        inert(&json!({"a": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"}))
            .is_ok()
    );
}
