//! What is read back of a policy is what was written, and of a foreign one no more
//! than makes sense.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    data::{Data, KeyData, RingData},
    *,
};
use crate::{
    ledger::{Cause, Change, Leaving, Mint, NewKey, Phase, PrivateKeyRef, RuleSettings},
    policy::{
        object::Metadata,
        snapshot::{PolicySeen, RuleSeen},
    },
    policy_ref::PolicyKind,
};

const POLICY: PolicyRef =
    PolicyRef::new(Action::Enforce, 1).of_kind(PolicyKind::ImageValidatingPolicy);

const KIND: ImageValidatingPolicy<'_> = ImageValidatingPolicy {
    policy: POLICY,
    excluded: &[],
    operator_namespace: "signing-system",
    probe_namespace: "signing-probe",
    enrolment_label: "signing.odj.cloud/ring",
    lists: Some("crd-2"),
    now: Timestamp::UNIX_EPOCH,
};

fn pem(name: &str) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{name}\n-----END PUBLIC KEY-----\n")
}

/// A ledger of a ring whose first version has this key.
fn ledger(key: &str, exclude: &[&str]) -> Arc<Ledger> {
    let exclude = exclude.iter().map(|image| exclusion(image)).collect();
    let rule = RuleSettings { exclude, ..RuleSettings::of(POLICY) };
    let mint = Mint::New { version: 1, token: None, cause: Cause::First, rule };
    let key = NewKey {
        public_key: pem(key),
        fingerprint: format!("SHA256:{key}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: "00".into(), secret: None },
    };
    let minted = Ledger::mint(None, &mint, key, Timestamp::UNIX_EPOCH).unwrap();
    let activate = Change::Activate { version: 1, keep: 3 };
    Arc::new(Ledger::apply(Some(&minted), &activate, Timestamp::UNIX_EPOCH).unwrap())
}

fn exclusion(image: &str) -> Exclusion {
    Exclusion { image: image.to_owned(), expires: None }
}

/// Where each ring's rule comes from.
fn content(rules: Vec<(&str, Source, RuleSeen)>) -> Content {
    let rule = |(ring, source, rule): (&str, Source, RuleSeen)| {
        (ring.to_owned(), ContentRule { source, rule })
    };
    Content::of(&KIND, rules.into_iter().map(rule).collect())
}

fn from_ledger<'a>(ring: &'a str, ledger: &Arc<Ledger>) -> (&'a str, Source, RuleSeen) {
    (ring, Source::Ledger(Arc::clone(ledger)), KIND.rule(ring, ledger))
}

fn rendered(rings: &[(&str, &Arc<Ledger>)]) -> Rendered {
    let rules = rings.iter().map(|(ring, ledger)| from_ledger(ring, ledger)).collect();
    KIND.compose(&content(rules), |_| None).unwrap()
}

fn seen(found: &Rendered) -> PolicySeen {
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let fingerprint = |key: &str| format!("SHA256:{}", key.lines().nth(1)?).parse().ok();
    read(metadata, &found.spec, fingerprint)
}

/// An attestor is found by its name. Of a ring of which nobody knows anything the keys
/// stay as they stand, so a name that another ring uses has to stand for that ring's key.
#[test]
fn no_rings_key_hides_behind_the_name_of_anothers() {
    let shop = ledger("shops", &[]);
    let mut found = rendered(&[("lost", &ledger("losts", &[])), ("shop", &shop)]);
    let name = |key: &str| KeyData::new(&pem(key)).name;
    let text = found.spec.to_string().replace(&name("losts"), &name("shops"));
    found.spec = serde_json::from_str(&text).unwrap();
    // The first of two with a name counts: that of the other ring.
    let attestors = found.spec["attestors"].as_array_mut().unwrap();
    attestors.truncate(2);
    assert!(json!(attestors).to_string().contains("losts"));

    let lost = seen(&found).rules["lost"].clone();
    let content = content(vec![("lost", Source::Found, lost), from_ledger("shop", &shop)]);
    let written = KIND.compose(&content, |_| Some(&found.spec)).unwrap();
    assert_eq!(keys_of(&written.spec, "shop"), [pem("shops")].into());
    assert_eq!(keys_of(&written.spec, "lost"), [pem("losts")].into());
    assert_eq!(seen(&written).spec, content.whole.spec.digest);
}

/// An older operator's, or somebody's: what this operator writes around a key is there
/// for every key that it writes.
#[test]
fn what_belongs_to_a_key_that_stays_is_written_anew() {
    let mut found = rendered(&[("lost", &ledger("losts", &[]))]);
    let whole = found.spec["attestors"].clone();
    let attestors = found.spec["attestors"].as_array_mut().unwrap();
    attestors.truncate(1);
    attestors[0]["cosign"]["ctlog"] = json!({"url": "https://rekor.example"});
    let before = seen(&found);
    let content = content(vec![("lost", Source::Found, before.rules["lost"].clone())]);
    assert_ne!(before.spec, content.whole.spec.digest);
    let written = KIND.compose(&content, |_| Some(&found.spec)).unwrap();
    assert_eq!(written.spec["attestors"], whole);
}

#[test]
fn a_rule_that_somebody_edited_tells_of_nothing_that_stands_around_it() {
    let lists = [exclusion("quay.io/jetstack/*")];
    let kind = ImageValidatingPolicy { excluded: &lists, ..KIND };
    let found = seen(&rendered(&[("lost", &ledger("losts", &["redis:7"]))]));
    let lost = &found.rules["lost"];
    assert_ne!(kind.stays(lost.clone(), &found).mark, lost.mark);
    assert_eq!(KIND.stays(lost.clone(), &found), *lost);
    let mut edited = lost.clone();
    edited.parts[0].body = Part::of(&json!(["*"]));
    assert_eq!(kind.stays(edited.clone(), &found), edited);
}

#[test]
fn two_rings_that_accept_one_key_share_what_stands_under_its_name() {
    let both = ledger("both", &[]);
    let found = rendered(&[("pay", &both), ("shop", &both)]);
    assert_eq!(found.spec["attestors"].as_array().unwrap().len(), 2);
    for ring in ["pay", "shop"] {
        assert_eq!(keys_of(&found.spec, ring), [pem("both")].into());
    }
    // The key leaves with the last of them.
    let other = ledger("other", &[]);
    for rings in [[("pay", &both), ("shop", &other)], [("pay", &other), ("shop", &both)]] {
        let found = rendered(&rings);
        assert_eq!(found.spec["attestors"].as_array().unwrap().len(), 4);
        assert_eq!(keys_of(&found.spec, "pay").len(), 1);
        assert_ne!(keys_of(&found.spec, "pay"), keys_of(&found.spec, "shop"));
    }
}

#[test]
fn a_policy_says_which_keys_it_holds_for_a_ring() {
    let found = rendered(&[("pay", &ledger("pays", &[])), ("shop", &ledger("shops", &[]))]);
    assert_eq!(keys_of(&found.spec, "pay"), [pem("pays")].into());
    for (spec, ring) in [(&found.spec, "pa"), (&found.spec, ""), (&json!({}), "pay")] {
        assert_eq!(keys_of(spec, ring), BTreeSet::new());
    }
}

#[test]
fn rules_of_a_ring_are_the_same_whatever_becomes_of_another() {
    let pay = ledger("pays", &["quay.io/org/app:*"]);
    let old = rendered(&[("pay", &pay), ("shop", &ledger("shops", &[]))]).spec;
    for other in [
        vec![("pay", &pay)],
        vec![("pay", &pay), ("shop", &ledger("other", &[]))],
        vec![("pay", &pay), ("shop", &ledger("shops", &["quay.io/org/app:*"]))],
        vec![("pay", &pay), ("a", &ledger("a", &[])), ("shop", &ledger("shops", &[]))],
    ] {
        let new = rendered(&other).spec;
        assert!(same_rule(&old, &new, "pay"), "{new}");
        assert!(!same_rule(&old, &new, "shop") || other.len() == 3, "{new}");
    }
    let shop = ledger("shops", &[]);
    for pay in [ledger("other", &["quay.io/org/app:*"]), ledger("pays", &["quay.io/org/app:1"])] {
        assert!(!same_rule(&old, &rendered(&[("pay", &pay), ("shop", &shop)]).spec, "pay"));
    }
    for (place, edit) in [
        ("/failurePolicy", json!("Ignore")),
        ("/validations/1/expression", json!("true")),
        ("/attestors/0/cosign/ctlog", json!({})),
        ("/matchConstraints/namespaceSelector/matchExpressions/0/operator", json!("NotIn")),
        ("/matchConstraints/namespaceSelector/matchExpressions/0/values", json!(["pay"])),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(place).unwrap() = edit;
        assert!(!same_rule(&old, &new, "pay"), "{place}");
        assert!(same_rule(&new, &new, "pay"), "{place}");
    }
}

#[test]
fn what_is_excluded_is_said_of_rules_that_are_as_they_were_written() {
    let lists = [exclusion("quay.io/jetstack/*")];
    let kind = ImageValidatingPolicy { excluded: &lists, ..KIND };
    let rings = [("pay", ledger("pays", &["redis:7"])), ("shop", ledger("shops", &[]))];
    let compose = |rings: &[(&str, Arc<Ledger>)]| {
        let rules = rings.iter().map(|(ring, ledger)| {
            let rule = kind.rule(ring, ledger);
            ((*ring).to_owned(), ContentRule { source: Source::Ledger(Arc::clone(ledger)), rule })
        });
        let content = Content::of(&kind, rules.collect());
        kind.compose(&content, |_| None).unwrap()
    };
    let found = compose(&rings);
    let said = |found: &Rendered| {
        let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
        skipped_by_rings(metadata, &found.spec)
    };
    let globs = |images: &[&str]| {
        let patterns = images.iter().map(|image| Pattern::parse(image).unwrap());
        patterns.flat_map(|pattern| pattern.spellings()).collect::<BTreeSet<_>>()
    };
    let of_lists = globs(&["quay.io/jetstack/*"]);
    let of_pay = globs(&["quay.io/jetstack/*", "redis:7"]);
    assert_eq!(skipped(&found.spec), of_pay);
    assert_eq!(said(&found), [("pay".to_owned(), of_pay), ("shop".to_owned(), of_lists.clone())]);

    // That nothing is looked at while a rule leaves is no exclusion.
    let mut leaves = (*rings[0].1).clone();
    leaves.rule.settings.policy = PolicyRef::new(Action::Enforce, 1);
    leaves.rule.settings.leaving = Some(Leaving { policy: POLICY, phase: Phase::Released });
    let without = compose(&[("pay", Arc::new(leaves))]);
    assert!(without.spec["images"][0]["expression"].as_str().unwrap().contains(r#""pay":["*"]"#));
    assert_eq!(said(&without), [("pay".to_owned(), of_lists.clone())]);

    // Keys are not what it is about, and another ring's exclusions are not this ring's.
    let mut edited = found;
    let text = edited.spec["images"][0]["expression"].to_string();
    let text = text.replace("library/redis:7", "library/redis:8");
    edited.spec["images"][0]["expression"] = serde_json::from_str(&text).unwrap();
    edited.spec["attestors"] = json!([]);
    assert_eq!(said(&edited), [("shop".to_owned(), of_lists)]);
    let text = text.replace("quay.io/jetstack/", "quay.io/");
    edited.spec["images"][0]["expression"] = serde_json::from_str(&text).unwrap();
    assert_eq!(said(&edited), []);
}

/// CEL takes no expression of more than 100,000 characters.
#[test]
fn a_policy_is_full_before_its_longest_expression_is() {
    let own: Vec<String> =
        (0..40).map(|n| format!("registry.example/org/application-{n:04}:*")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let rings: Vec<_> =
        (0..25).map(|n| (format!("ring-{n}"), ledger(&format!("key{n}"), &own))).collect();
    let rules = rings.iter().map(|(ring, ledger)| from_ledger(ring, ledger)).collect();
    let content = content(rules);
    let found = KIND.compose(&content, |_| None).unwrap();
    let longest = found.spec["images"][0]["expression"].as_str().unwrap().len();
    let size = KIND.size(&content);
    let bytes = content.whole.spec.bytes;
    assert!(size > bytes, "{size} {bytes}");
    let share = |part: usize, of: usize| part * 1000 / of;
    let (size, longest) = (share(size, LARGEST_POLICY), share(longest, 100_000));
    assert!(size >= longest && size <= longest + 50, "{size} {longest}");

    let few: Vec<_> = rings.iter().map(|(ring, _)| (ring, ledger("few", &[]))).collect();
    let rules = few.iter().map(|(ring, ledger)| from_ledger(ring, ledger)).collect();
    let content = self::content(rules);
    assert!(KIND.size(&content) < LARGEST_POLICY / 20);
}

#[test]
fn however_many_values_are_covered_no_expression_grows() {
    use crate::policy::unknown::{CoverContent, Covering};
    let policy = PolicyRef::unknown(Action::Enforce).of_kind(PolicyKind::ImageValidatingPolicy);
    let kind = ImageValidatingPolicy { policy, ..KIND };
    let values: BTreeSet<String> = (0..3000).map(|n| format!("{n:063}")).collect();
    let mark = kind.cover_mark(&values, 1);
    let whole = kind.cover_whole(&values, &mark);
    let found = kind.render_cover(&CoverContent { values, mark, whole });
    let mut all = Vec::new();
    places(&found.spec, "", &mut all);
    let texts = all.iter().filter_map(|place| found.spec.pointer(place)?.as_str());
    assert!(texts.map(str::len).max().unwrap() < 5000);
}

#[test]
fn the_empty_value_can_be_covered() {
    use crate::policy::unknown::{CoverContent, Covering};
    let lists = [exclusion("quay.io/jetstack/*")];
    let kind = ImageValidatingPolicy {
        policy: PolicyRef::unknown(Action::Enforce).of_kind(PolicyKind::ImageValidatingPolicy),
        excluded: &lists,
        ..KIND
    };
    let values: BTreeSet<String> = ["", "chekout"].map(str::to_owned).into();
    let mark = kind.cover_mark(&values, 3);
    let whole = kind.cover_whole(&values, &mark);
    let found = kind.render_cover(&CoverContent { values: values.clone(), mark, whole });
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let held = read_cover(metadata, &found.spec);
    assert_eq!((held.values, held.spec), (values, whole.spec.digest));
    assert_eq!(held.own_metadata, whole.own_metadata);
    assert!(covers(&found.spec, "") && covers(&found.spec, "chekout"));
    assert!(!covers(&found.spec, "other") && !covers(&found.spec, names::PROBE));
    assert_eq!(Data::read(&found.spec).lists, ["quay.io/jetstack/"]);
}

/// A ring with registry credentials.
fn with_credentials(key: &str, credentials: &[&str]) -> Arc<Ledger> {
    let mut ledger = Ledger::clone(&ledger(key, &[]));
    ledger.rule.settings.credentials = credentials.iter().map(|name| (*name).into()).collect();
    Arc::new(ledger)
}

#[test]
fn what_registries_are_asked_with_is_the_policys_and_in_the_mark_of_each_ring() {
    let none = rendered(&[("pay", &ledger("pays", &[]))]);
    assert_eq!(none.spec.get("credentials"), None);
    let found = rendered(&[("pay", &with_credentials("pays", &["b", "a"]))]);
    assert_eq!(found.spec["credentials"], json!({"secrets": ["a", "b"]}));
    let (before, after) = (&none.marks.0["pay"], &found.marks.0["pay"]);
    assert_eq!(before.state, after.state);
    assert_ne!(before.rule, after.rule);
    assert!(!same_rule(&none.spec, &found.spec, "pay"));
    // A rule that has to stay keeps them.
    let lost = seen(&found).rules["pay"].clone();
    assert_eq!(lost.credentials, ["a", "b"].map(str::to_owned).into());
    let content = content(vec![("pay", Source::Found, lost)]);
    let kept = KIND.compose(&content, |_| Some(&found.spec)).unwrap();
    assert_eq!(kept.spec, found.spec);
    assert_eq!(seen(&kept).spec, content.whole.spec.digest);
}

/// A name of another namespace's Secret is nobody's word.
#[test]
fn what_somebody_has_put_among_the_credentials_is_written_out() {
    let ours = rendered(&[("lost", &with_credentials("losts", &["a"]))]);
    for edit in [
        json!({"secrets": ["a", "kube-system/token"]}),
        json!({"secrets": ["a"], "allowInsecureRegistry": true}),
        json!({"secrets": ["a"], "providers": ["google"]}),
    ] {
        let mut found = ours.clone();
        found.spec["credentials"] = edit;
        let lost = seen(&found).rules["lost"].clone();
        let content = content(vec![("lost", Source::Found, lost)]);
        assert_ne!(seen(&found).spec, content.whole.spec.digest);
        let written = KIND.compose(&content, |_| Some(&found.spec)).unwrap();
        assert_eq!(written.spec, ours.spec);
    }
}

/// So it is while a ring has yet to leave whose ledger was restored.
#[test]
fn rings_that_should_not_share_a_policy_do_not_have_it_written_for_ever() {
    let (pay, shop) = (with_credentials("pays", &["a"]), with_credentials("shops", &["b"]));
    let rules = vec![from_ledger("pay", &pay), from_ledger("shop", &shop)];
    let content = content(rules);
    let found = KIND.compose(&content, |_| None).unwrap();
    assert_eq!(found.spec["credentials"], json!({"secrets": ["a", "b"]}));
    assert_eq!(seen(&found).spec, content.whole.spec.digest);
    assert_eq!(seen(&found).rules["pay"].mark, content.rules["pay"].rule.mark);
}

#[test]
fn a_ring_leaves_a_policy_with_what_it_had_there() {
    let mut leaves = Ledger::clone(&with_credentials("pays", &["b"]));
    leaves.rule.settings.policy = PolicyRef::new(Action::Enforce, 2).of_kind(POLICY.kind());
    leaves.rule.settings.leaving = Some(Leaving::beginning(POLICY));
    leaves.rule.settings.left_credentials = ["a".to_owned()].into();
    let stays = with_credentials("shops", &["a"]);
    let found = rendered(&[("pay", &Arc::new(leaves)), ("shop", &stays)]);
    assert_eq!(found.spec["credentials"], json!({"secrets": ["a"]}));
}

/// The pin of a policy, with the rings that it selects and what it excludes.
fn pinned(spec: &Value, before: Option<&Value>) -> (BTreeSet<String>, Data) {
    let pin = KIND.pin(Some(spec), before).unwrap().spec;
    let values = pin.pointer("/matchConstraints/namespaceSelector/matchExpressions/0/values");
    let values = values.unwrap().as_array().unwrap().iter();
    let values = values.map(|value| value.as_str().unwrap().to_owned()).collect();
    // Read as the other policy's: it has the same text.
    let text = pin["variables"][0]["expression"].clone();
    let alike = json!({
        "images": [{"name": "containers", "expression": text}],
        "variables": [{"name": "accepted", "expression": r#"{"pay": [], "shop": []}"#}],
    });
    (values, Data::read(&alike))
}

#[test]
fn a_pin_has_the_rings_that_are_and_those_that_are_leaving() {
    let pay = ledger("pays", &["redis:7"]);
    let both = rendered(&[("pay", &pay), ("shop", &ledger("shops", &["redis:8"]))]).spec;
    let one = rendered(&[("pay", &pay)]).spec;
    let none = json!({});
    for (next, before, expected) in [
        (&one, None, &["pay"][..]),
        (&one, Some(&one), &["pay"]),
        (&both, Some(&one), &["pay", "shop"]),
        (&one, Some(&both), &["pay", "shop"]),
        (&none, Some(&one), &["pay"]),
    ] {
        let (values, data) = pinned(next, before);
        assert_eq!(values.iter().collect::<Vec<_>>(), expected);
        assert_eq!(data.rings["pay"].exclude, ["index.docker.io/library/redis:7"]);
        let of_shop = if expected.len() > 1 { 1 } else { 0 };
        assert_eq!(data.rings["shop"].exclude.len(), of_shop);
    }
    assert_eq!(KIND.pin(Some(&none), None), None);
    assert_eq!(KIND.pin(None, None), None);
    let audit = PolicyRef::new(Action::Audit, 1).of_kind(PolicyKind::ImageValidatingPolicy);
    let cover = PolicyRef::unknown(Action::Enforce).of_kind(PolicyKind::ImageValidatingPolicy);
    for policy in [audit, cover] {
        let kind = ImageValidatingPolicy { policy, ..KIND };
        assert_eq!(kind.pin(Some(&one), None), None);
        assert_eq!(pin::name(policy), None);
    }
}

/// A selector that the API server does not take would keep Kyverno from writing the
/// webhooks of all policies.
#[test]
fn a_pin_selects_no_value_that_is_no_ring() {
    let one = rendered(&[("pay", &ledger("pays", &[]))]).spec;
    let mut before = one.clone();
    let accepted = before["variables"][1]["expression"].as_str().unwrap();
    let accepted = accepted.replacen('{', r#"{"a b": [], "": [], "signing-gate": [], "#, 1);
    before["variables"][1]["expression"] = json!(accepted);
    assert_eq!(Data::read(&before).rings.len(), 4);
    assert_eq!(pinned(&one, Some(&before)).0, ["pay".to_owned()].into());
    assert_eq!(pinned(&before, None).0, ["pay".to_owned()].into());
}

#[test]
fn a_pin_is_named_after_its_policy() {
    let pin = pin::name(POLICY).unwrap();
    assert_eq!(pin, "signing.pin-0001");
    assert_eq!(pin::policy_of(&pin), Some(POLICY));
    for other in ["signing.pin-0000", "signing.pin-1", "signing.enforce-0001", "pin-0001", ""] {
        assert_eq!(pin::policy_of(other), None, "{other}");
    }
}

#[test]
fn a_pin_that_somebody_edits_is_another() {
    let one = rendered(&[("pay", &ledger("pays", &["redis:7"]))]).spec;
    let pin = KIND.pin(Some(&one), None).unwrap();
    let digest = |spec: &Value| {
        let metadata = Metadata { annotations: &pin.annotations, labels: &pin.labels };
        pin::digest(metadata, spec).0
    };
    for edited in edits(&pin.spec) {
        assert_ne!(digest(&edited), digest(&pin.spec), "{edited}");
    }
}

/// The pointers to all places in a value.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    let mut below = |name: &str, item: &Value| {
        let name = name.replace('~', "~0").replace('/', "~1");
        places(item, &format!("{at}/{name}"), all);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, item)| below(name, item)),
        _ => {}
    }
}

/// Everything that one edit makes of a value.
fn edits(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let edited = |(pointer, how): (&String, usize)| {
        let mut edited = value.clone();
        let place = edited.pointer_mut(pointer)?;
        match (how, place) {
            (0, place) => *place = Value::Null,
            (1, place) => *place = json!({}),
            (2, place) => *place = json!([place.clone()]),
            (3, Value::String(text)) => text.push(' '),
            (4, Value::String(text)) => text.insert(0, ' '),
            (5, Value::String(text)) => *text = text.replacen("{\"", "{ \"", 1),
            (6, Value::String(text)) => *text = text.replacen("k", "\\u006b", 1),
            (7, Value::String(text)) => *text = text.replacen('}', r#","x":[]}"#, 1),
            (8, Value::String(text)) => text.push('b'),
            (3, Value::Array(items)) => items.push(json!({"name": "x", "expression": "true"})),
            (4, Value::Array(items)) => items.extend(items.clone()),
            (5, Value::Array(items)) => items.reverse(),
            (6, Value::Array(items)) => drop(items.pop()),
            (3, Value::Object(fields)) => drop(fields.insert("more".to_owned(), json!("x"))),
            (4, Value::Object(fields)) => drop(fields.remove(&fields.keys().next()?.clone())),
            (4, Value::Bool(yes)) => *yes = !*yes,
            _ => return None,
        }
        (edited != *value).then_some(edited)
    };
    all.iter().flat_map(|place| (0..9).map(move |how| (place, how))).filter_map(edited).collect()
}

#[test]
fn whatever_one_edit_changes_tells_a_policy_from_what_was_written() {
    let rings = [("pay", ledger("pays", &["redis:7"])), ("shop", ledger("shops", &[]))];
    let rings: Vec<_> = rings.iter().map(|(ring, ledger)| (*ring, ledger)).collect();
    let found = rendered(&rings);
    let rules = rings.iter().map(|(ring, ledger)| from_ledger(ring, ledger)).collect();
    let content = content(rules);
    assert_eq!(seen(&found).spec, content.whole.spec.digest);
    let edits = edits(&found.spec);
    assert!(edits.len() > 500, "{}", edits.len());
    let mut digests = BTreeMap::from([(seen(&found).spec, found.spec.clone())]);
    for spec in edits {
        let edited = Rendered { spec, ..found.clone() };
        let before = digests.entry(seen(&edited).spec).or_insert_with(|| edited.spec.clone());
        assert_eq!(*before, edited.spec);
        // Whatever is made of it is written back to what was planned.
        let kept = seen(&edited).rules;
        let rules = kept.iter().map(|(ring, rule)| (ring.as_str(), Source::Found, rule.clone()));
        let content = self::content(rules.collect());
        let written = KIND.compose(&content, |_| Some(&edited.spec)).unwrap();
        assert_eq!(seen(&written).spec, content.whole.spec.digest, "{}", edited.spec);
    }
}

#[test]
fn foreign_texts_are_nothing() {
    let nothing = [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "x",
        r#"{"shop"}"#,
        r#"{"shop":"k"}"#,
        r#"{"shop":[1]}"#,
        r#"{"shop":{"k":1}}"#,
        r#"["shop"]"#,
        "{'shop':['k']}",
    ];
    for text in nothing {
        let spec = json!({
            "images": [{"name": "containers", "expression": format!("cel.bind(excluded, {text}")}],
            "variables": [{"name": "accepted", "expression": text}],
            "attestors": text,
            "credentials": {"secrets": text},
        });
        assert_eq!(Data::read(&spec), Data::default(), "{text}");
        let mut filled = spec.clone();
        read::fill(&mut filled, &Data::default());
    }
    for spec in [json!(null), json!([]), json!("x"), json!({"images": {}, "credentials": []})] {
        assert_eq!(Data::read(&spec), Data::default());
        let metadata = Metadata { annotations: &BTreeMap::new(), labels: &BTreeMap::new() };
        assert_eq!(read(metadata, &spec, |_| None).rules, BTreeMap::new());
    }
}

#[test]
fn a_name_with_nothing_under_it_is_no_key() {
    let mut found = rendered(&[("lost", &ledger("losts", &[]))]);
    for attestors in [
        json!([]),
        json!({}),
        json!([{"name": KeyData::new(&pem("losts")).name, "cosign": {"key": {"data": 7}}}]),
        json!([{"name": "other", "cosign": {"key": {"data": pem("losts")}}}]),
    ] {
        found.spec["attestors"] = attestors;
        assert_eq!(keys_of(&found.spec, "lost"), BTreeSet::new());
        let rule = seen(&found).rules["lost"].clone();
        assert!(rule.parts[0].keys.iter().all(|key| key.public_key.is_none()));
        // With none of its keys left it accepts nobody's.
        let mut narrowed = rule;
        narrowed.parts[0].keys = vec![KIND.nobody()];
        let content = content(vec![("lost", Source::Found, narrowed)]);
        let written = KIND.compose(&content, |_| Some(&found.spec)).unwrap();
        assert_eq!(keys_of(&written.spec, "lost"), [NOBODYS_KEY.to_owned()].into());
        assert_eq!(seen(&written).spec, content.whole.spec.digest);
    }
}

/// Texts with what JSON and CEL escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z\"'\\\\/\\n\\t{}\\[\\], :]{0,12}",
        Just("\u{0}\u{7f}\u{2028}\u{10ffff}".to_owned()),
    ]
}

fn ring_data() -> impl Strategy<Value = RingData> {
    let keys = proptest::collection::vec(text(), 0..3);
    (proptest::collection::vec(text(), 0..3), keys).prop_map(|(exclude, keys)| {
        let mut seen = BTreeSet::new();
        let keys = keys.iter().filter(|key| seen.insert((*key).clone()));
        RingData { exclude, keys: keys.map(|key| KeyData::new(key)).collect() }
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(
        lists in proptest::collection::vec(text(), 0..3),
        credentials in proptest::collection::btree_set("[a-z0-9]{1,9}([.-][a-z]{1,9})?", 0..3),
        rings in proptest::collection::btree_map(
            text().prop_filter("no ring", |ring| !ring.is_empty()),
            ring_data(),
            0..4,
        ),
    ) {
        let data = Data { lists, credentials, rings };
        let spec = KIND.spec(&data, "signing.enforce-0001.0123456789abcdef");
        prop_assert_eq!(&Data::read(&spec), &data);
        let mut again = spec.clone();
        read::fill(&mut again, &data);
        prop_assert_eq!(&again, &spec);
        let frame = KIND.spec(&Data { rings: BTreeMap::new(), ..data.clone() }, "signing.enforce-0001.0123456789abcdef");
        let parts = data.rings.iter().map(|(ring, data)| read::part(ring, data, |_| None).whole());
        let planned = Part::with(Part::of(&frame), parts);
        prop_assert_eq!(read::digest(&spec, &data), planned.digest);
        // What it weighs is what is sent, but for escapes and what two rings share.
        let sent = Part::of(&spec).bytes;
        prop_assert!(sent <= 8 * planned.bytes, "{sent} {}", planned.bytes);
    }
}

#[test]
fn a_key_leaves_with_all_else_as_it_stands() {
    let old = [exclusion("quay.io/old/*")];
    let kind = ImageValidatingPolicy { excluded: &old, ..KIND };
    let of = |ledger: Arc<Ledger>| {
        let rule = kind.rule("shop", &ledger);
        Content::of(
            &kind,
            [("shop".to_owned(), ContentRule { source: Source::Ledger(ledger), rule })].into(),
        )
    };
    let found = kind.compose(&of(ledger("leaked", &["redis"])), |_| None).unwrap();
    // What stands around the rules is to change as well.
    let new = [exclusion("quay.io/new/*")];
    let kind = ImageValidatingPolicy { excluded: &new, ..KIND };
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let mut rule = read(metadata, &found.spec, |_| None).rules.remove("shop").unwrap();
    rule.parts[0].keys = vec![kind.nobody()];
    rule.mark.state.key_set = "none".into();
    let rules = [("shop".to_owned(), ContentRule { source: Source::Found, rule })].into();
    let content = Content::of(&kind, rules);
    let narrowed = kind.compose_in_place(&content, &found.spec).unwrap();
    assert_eq!(keys_of(&narrowed.spec, "shop"), [NOBODYS_KEY.to_owned()].into());
    assert_eq!(skipped(&narrowed.spec), skipped(&found.spec));
    let text = narrowed.spec.to_string();
    assert!(!text.contains("leaked") && !text.contains("quay.io/new"), "{text}");
    // It answers as the state that it is in.
    assert!(text.contains(&question(POLICY, &narrowed.marks)));
    assert_ne!(narrowed.marks, found.marks);
}
