//! The policies that Kyverno gets, word for word.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use signingkeyring_core::{
    high_water::{HighWater, HighWaters},
    ledger::{Change, Exclusion, Ledger, Mint, NewKey, PrivateKeyRef, RuleSettings},
    marks::{Mark, RuleState},
    policy::{
        cluster_policy::{ClusterPolicy, NOBODYS_KEY, Rendered, Rule},
        unknown::{CoverContent, Covering},
    },
    policy_ref::{Action, PolicyRef},
};

const ENFORCE: PolicyRef = PolicyRef::new(Action::Enforce, 1);
const AUDIT: PolicyRef = PolicyRef::new(Action::Audit, 1);

fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn ledger(policy: PolicyRef, action: Action, versions: u32, exclude: Vec<Exclusion>) -> Ledger {
    let rule = RuleSettings { action, exclude, policy, leaving: None };
    let mut ledger = None;
    for version in 1..=versions {
        let key = NewKey {
            public_key: format!(
                "-----BEGIN PUBLIC KEY-----\nversion{version}\n-----END PUBLIC KEY-----\n"
            ),
            fingerprint: format!("SHA256:{version}").parse().unwrap(),
            private_key: PrivateKeyRef { digest: "00".into(), secret: None },
        };
        let mint = Mint::New { version, token: None, standby: false, rule: rule.clone() };
        let minted = Ledger::mint(ledger.as_ref(), &mint, key, now()).unwrap();
        let activate = Change::Activate { version, keep: 3 };
        ledger = Some(Ledger::apply(Some(&minted), &activate, now()).unwrap());
    }
    ledger.unwrap()
}

fn exclusion(image: &str, expires: Option<&str>) -> Exclusion {
    Exclusion { image: image.into(), expires: expires.map(|date| date.parse().unwrap()) }
}

fn rendered(
    policy: PolicyRef,
    rings: &[(&str, &Ledger)],
    kept: BTreeMap<String, Rule>,
) -> Rendered {
    let excluded = [
        exclusion("quay.io/jetstack/*", None),
        exclusion("prom/prometheus:*", None),
        exclusion("quay.io/gone/*", Some("2026-11-23")),
    ];
    let kind = ClusterPolicy {
        policy,
        excluded: &excluded,
        operator_namespace: "signing-system",
        enrolment_label: "signing.odj.cloud/ring",
        questions: Some("crd-1"),
        lists: Some("crd-2"),
        now: now(),
    };
    let mut rules = kept;
    for (ring, ledger) in rings {
        rules.insert((*ring).to_owned(), kind.ring_rule(ring, ledger));
    }
    kind.render(rules)
}

#[test]
fn an_enforce_policy_of_two_rings() {
    let policy = ENFORCE;
    let own = vec![exclusion("redis", Some("2026-11-24"))];
    let checkout = ledger(policy, Action::Enforce, 4, own);
    let shop = ledger(policy, Action::Enforce, 1, Vec::new());
    let rendered = rendered(policy, &[("checkout", &checkout), ("shop", &shop)], BTreeMap::new());
    insta::assert_yaml_snapshot!(json!({
        "annotations": rendered.annotations,
        "labels": rendered.labels,
        "spec": rendered.spec,
    }));
}

#[test]
fn policies_for_labels_that_name_no_ring() {
    let policies = [Action::Enforce, Action::Audit].map(|action| {
        let kind = ClusterPolicy {
            policy: PolicyRef::unknown(action),
            excluded: &[exclusion("quay.io/jetstack/*", None)],
            operator_namespace: "signing-system",
            enrolment_label: "signing.odj.cloud/ring",
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: now(),
        };
        let values = ["", "chekout"].map(str::to_owned).into();
        let mark = kind.cover_mark(&values, 3);
        let whole = kind.cover_whole(&values, &mark);
        let rendered = kind.render_cover(&CoverContent { values, mark, whole });
        json!({
            "annotations": rendered.annotations,
            "labels": rendered.labels,
            "spec": rendered.spec,
        })
    });
    insta::assert_yaml_snapshot!(policies);
}

#[test]
fn a_rule_that_moves_between_actions_writes_and_asks_once() {
    let (enforce, audit) = (ENFORCE, AUDIT);
    let moved = |action, policy, leaving| {
        let shop = ledger(policy, action, 1, Vec::new());
        let settings = shop.rule.settings.clone();
        let settings = RuleSettings { leaving: Some(leaving), ..settings };
        Ledger::apply(Some(&shop), &Change::Rule(settings), now()).unwrap()
    };
    let verify = |policy, ledger: &Ledger| {
        let rendered = rendered(policy, &[("shop", ledger)], BTreeMap::new());
        rendered.spec["rules"][1]["verifyImages"][0].clone()
    };
    let rests = verify(enforce, &ledger(enforce, Action::Enforce, 1, Vec::new()));
    for ledger in [moved(Action::Enforce, enforce, audit), moved(Action::Audit, audit, enforce)] {
        let (enforces, audits) = (verify(enforce, &ledger), verify(audit, &ledger));
        assert_eq!(
            (&enforces["required"], &enforces["verifyDigest"]),
            (&json!(false), &json!(false))
        );
        for same in ["failureAction", "mutateDigest", "attestors", "imageReferences"] {
            assert_eq!(enforces[same], rests[same], "{same}");
        }
        assert_eq!(audits["imageReferences"], json!(["none.invalid/none"]));
    }
    let crowded = moved(Action::Enforce, enforce, PolicyRef::new(Action::Enforce, 2));
    assert_eq!(verify(enforce, &crowded), rests, "both are verified in one call");
}

#[test]
fn an_audit_policy_refuses_nothing() {
    let policy = AUDIT;
    let shop = ledger(policy, Action::Audit, 1, Vec::new());
    insta::assert_yaml_snapshot!(rendered(policy, &[("shop", &shop)], BTreeMap::new()).spec);
}

#[test]
fn a_rule_without_a_ledger_stays_word_for_word() {
    let policy = ENFORCE;
    let shop = ledger(policy, Action::Enforce, 1, Vec::new());
    let state = RuleState { sequence: 7, key_set: "0123abcd".into() };
    let mark = Mark { state, rule: String::new() };
    let rule = json!({"name": "lost", "anything": ["word", "for", "word"]});
    let kept = BTreeMap::from([(
        "lost".to_owned(),
        Rule { mark: mark.clone(), high_water: HighWater::default(), rules: vec![rule.clone()] },
    )]);
    let rendered = rendered(policy, &[("shop", &shop)], kept);
    assert_eq!(rendered.spec["rules"][1], rule);
    let name = |at: usize| rendered.spec["rules"][at]["name"].as_str().unwrap();
    assert!(name(2) == "shop" && (3..5).all(|at| name(at).starts_with("shop.")));
    assert_eq!(rendered.marks.0["lost"], mark);
    assert_eq!(name(5), "signing-gate.references");
    let covered = &rendered.spec["rules"][5]["match"]["any"][0]["resources"]["namespaceSelector"];
    assert_eq!(covered["matchExpressions"][0]["values"], json!(["lost", "shop"]));
    assert_eq!(name(6), "signing-gate");
}

#[test]
fn a_ring_without_an_accepted_version_keeps_its_rule_with_nobodys_key() {
    let policy = ENFORCE;
    let ledger = ledger(policy, Action::Enforce, 2, Vec::new());
    let before = rendered(policy, &[("shop", &ledger)], BTreeMap::new());
    let revoke = Change::Revoke { versions: [1, 2].into(), promote: None, keep: 3 };
    let ledger = Ledger::apply(Some(&ledger), &revoke, now()).unwrap();
    let after = rendered(policy, &[("shop", &ledger)], BTreeMap::new());

    let mut expected = before.spec["rules"][1].clone();
    let entries = expected["verifyImages"][0]["attestors"][0]["entries"].as_array_mut().unwrap();
    entries.truncate(1);
    entries[0]["keys"]["publicKeys"] = json!(NOBODYS_KEY);
    assert_eq!(after.spec["rules"][1], expected);
    let witness = &after.annotations["signing.odj.cloud/high-water"];
    assert_eq!(witness.parse::<HighWaters>().unwrap().0["shop"], ledger.high_water());
}

/// What Kyverno has let pass under a rule's name counts at later updates, so for
/// scheduling gates another name has to stand for whatever else would be verified.
/// The others stay: a Pod that is on its way while a policy changes meets one state
/// of it in the half that verifies and the other in the half that asks.
#[test]
fn the_name_of_a_rule_for_gates_says_what_it_verifies_with() {
    let names = |versions, own: &[&str], lists: &[Exclusion]| {
        let own = own.iter().map(|image| exclusion(image, None)).collect();
        let ledger = ledger(ENFORCE, Action::Enforce, versions, own);
        let kind = ClusterPolicy {
            policy: ENFORCE,
            excluded: lists,
            operator_namespace: "signing-system",
            enrolment_label: "signing.odj.cloud/ring",
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: now(),
        };
        let rules = kind.ring_rule("shop", &ledger).rules;
        let names = rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let first = names(1, &[], &[]);
    assert_eq!(first[..2], ["shop", "shop.debug"]);
    assert!(first[2].starts_with("shop.gates-") && first.len() == 3, "{first:?}");
    assert_eq!(first, names(1, &[], &[]));
    for other in [
        names(2, &[], &[]),
        names(1, &["quay.io/org/app:*"], &[]),
        names(1, &[], &[exclusion("quay.io/org/app:*", None)]),
    ] {
        assert!(other[..2] == first[..2] && other[2] != first[2], "{other:?}");
    }
    assert_eq!(names(1, &["quay.io/org/app:7"], &[])[3], "shop.tags");
}
