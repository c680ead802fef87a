//! The policies that Kyverno gets, word for word.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use signingkeyring_core::{
    high_water::{HighWater, HighWaters},
    ledger::{
        Cause, Change, Exclusion, Leaving, Ledger, Mint, NewKey, Phase, PrivateKeyRef, RuleSettings,
    },
    marks::{Mark, RuleState, Short},
    policy::{
        Inputs, NOBODYS_KEY, PolicySnapshot, Rendered, Renderer, Step,
        cluster_policy::{ClusterPolicy, Rule},
        plan_policy,
        snapshot::{ObjectSeen, RingSeen},
        unknown::{CoverContent, Covering},
    },
    policy_ref::{Action, PolicyKind, PolicyRef},
};

const ENFORCE: PolicyRef = PolicyRef::new(Action::Enforce, 1);
const AUDIT: PolicyRef = PolicyRef::new(Action::Audit, 1);

fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn ledger(policy: PolicyRef, action: Action, versions: u32, exclude: Vec<Exclusion>) -> Ledger {
    let rule = RuleSettings { action, exclude, ..RuleSettings::of(policy) };
    let mut ledger = None;
    for version in 1..=versions {
        let key = NewKey {
            public_key: format!(
                "-----BEGIN PUBLIC KEY-----\nversion{version}\n-----END PUBLIC KEY-----\n"
            ),
            fingerprint: format!("SHA256:{version}").parse().unwrap(),
            private_key: PrivateKeyRef { digest: "00".into(), secret: None },
        };
        let mint = Mint::New { version, token: None, cause: Cause::First, rule: rule.clone() };
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

/// An ImageValidatingPolicy, and what pins tags for it.
fn validating(policy: PolicyRef, rings: &[(&str, &Ledger)]) -> Value {
    let excluded = [
        exclusion("quay.io/jetstack/*", None),
        exclusion("prom/prometheus:*", None),
        exclusion("quay.io/gone/*", Some("2026-11-23")),
    ];
    let kind = Renderer::new(policy, inputs(&excluded));
    let ring = |(name, ledger): &(&str, &Ledger)| {
        let ring = RingSeen {
            table: Some(Arc::new((*ledger).clone())),
            sound: true,
            was_removed: false,
            exists: true,
            revoked: Vec::new(),
            remembered: HighWater::default(),
            reported: BTreeSet::new(),
            read_anew: true,
        };
        ((*name).to_owned(), ring)
    };
    let snapshot = PolicySnapshot {
        policy,
        served: true,
        executed: true,
        can_be_asked: true,
        found: ObjectSeen::Absent,
        written: None,
        rings: rings.iter().map(ring).collect(),
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: now(),
    };
    let Step::Write(write) = plan_policy(&snapshot, &kind).step else { unreachable!() };
    let rendered = kind.compose(&write.content, |_| None).unwrap();
    let pin = kind.companion(Some(&rendered.spec), None);
    json!({"policy": object(&rendered), "pin": pin.as_ref().map(object)})
}

/// Wherever a registry is asked, and in what tells one rule from another.
#[test]
fn registry_credentials_stand_where_a_registry_is_asked() {
    let credentials = json!({"secrets": ["registry-a", "registry-b"]});
    let of = |policy: PolicyRef, secrets: &[&str]| {
        let mut ledger = ledger(policy, policy.action(), 1, vec![exclusion("redis:7", None)]);
        let secrets = secrets.iter().map(|name| (*name).to_owned());
        ledger.rule.settings.credentials = secrets.collect();
        ledger
    };
    for policy in [ENFORCE, AUDIT] {
        let [without, with] = [&[][..], &["registry-b", "registry-a"]]
            .map(|secrets| rendered(policy, &[("shop", &of(policy, secrets))], BTreeMap::new()));
        assert_ne!(without.marks.0["shop"].rule, with.marks.0["shop"].rule);
        assert!(!without.spec.to_string().contains("imageRegistryCredentials"));
        let rules = with.spec["rules"].as_array().unwrap();
        let of_ring = |rule: &&Value| rule["name"].as_str().is_some_and(|n| n.starts_with("shop"));
        let asked = rules.iter().filter(of_ring).flat_map(|rule| {
            let verified = rule["verifyImages"].as_array().into_iter().flatten();
            let tags = rule["mutate"]["foreach"].as_array().into_iter().flatten();
            verified.chain(tags.filter_map(|list| list.pointer("/context/0/imageRegistry")))
        });
        let asked: Vec<&Value> = asked.collect();
        assert!(asked.len() >= 2 || policy == AUDIT, "{}", with.spec);
        assert!(asked.iter().all(|asks| asks["imageRegistryCredentials"] == credentials));

        let policy = policy.of_kind(VALIDATING);
        let object = validating(policy, &[("shop", &of(policy, &["registry-b", "registry-a"]))]);
        assert_eq!(object["policy"]["spec"]["credentials"], credentials);
    }
}

fn inputs(excluded: &[Exclusion]) -> Inputs<'_> {
    Inputs {
        excluded,
        operator_namespace: "signing-system",
        probe_namespace: "signing-probe",
        enrolment_label: "signing.odj.cloud/ring",
        questions: Some("crd-1"),
        lists: Some("crd-2"),
        now: now(),
    }
}

fn object(rendered: &Rendered) -> Value {
    json!({
        "annotations": rendered.annotations,
        "labels": rendered.labels,
        "spec": rendered.spec,
    })
}

const VALIDATING: PolicyKind = PolicyKind::ImageValidatingPolicy;

#[test]
fn an_image_validating_policy_of_two_rings_and_its_pin() {
    let policy = ENFORCE.of_kind(VALIDATING);
    let own = vec![
        exclusion("redis", Some("2026-11-24")),
        exclusion("quay.io/org/app:1.*", None),
        exclusion("quay.io/org/gone:1", Some("2026-11-23")),
    ];
    let checkout = ledger(policy, Action::Enforce, 4, own);
    let shop = ledger(policy, Action::Enforce, 1, Vec::new());
    insta::assert_yaml_snapshot!(validating(policy, &[("checkout", &checkout), ("shop", &shop)]));
}

#[test]
fn an_image_validating_policy_that_refuses_nothing() {
    let policy = AUDIT.of_kind(VALIDATING);
    let shop = ledger(policy, Action::Audit, 1, Vec::new());
    insta::assert_yaml_snapshot!(validating(policy, &[("shop", &shop)]));
}

#[test]
fn image_validating_policies_for_labels_that_name_no_ring() {
    let policies = [Action::Enforce, Action::Audit].map(|action| {
        let excluded = [exclusion("quay.io/jetstack/*", None)];
        let kind = PolicyRef::unknown(action).of_kind(VALIDATING);
        let kind = Renderer::new(kind, inputs(&excluded));
        let values = ["", "chekout"].map(str::to_owned).into();
        let mark = kind.cover_mark(&values, 3);
        let whole = kind.cover_whole(&values, &mark);
        object(&kind.render_cover(&CoverContent { values, mark, whole }))
    });
    insta::assert_yaml_snapshot!(policies);
}

#[test]
fn a_ring_of_another_kind_without_an_accepted_version_accepts_nobodys_key() {
    let policy = ENFORCE.of_kind(VALIDATING);
    let ledger = ledger(policy, Action::Enforce, 2, Vec::new());
    let revoke = Change::Revoke { versions: [1, 2].into(), promote: None, keep: 3 };
    let ledger = Ledger::apply(Some(&ledger), &revoke, now()).unwrap();
    let after = validating(policy, &[("shop", &ledger)]);
    let keys = VALIDATING.keys_of(&after["policy"]["spec"], "shop");
    assert_eq!(keys, [NOBODYS_KEY.to_owned()].into());
}

#[test]
fn a_rule_that_moves_between_actions_writes_and_asks_once() {
    let (enforce, audit) = (ENFORCE, AUDIT);
    let moved = |action, policy, leaving| {
        let shop = ledger(policy, action, 1, Vec::new());
        let settings = shop.rule.settings.clone();
        let settings = RuleSettings { leaving: Some(Leaving::beginning(leaving)), ..settings };
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
}

/// A Pod that met the half that verifies before the rule was there has no note of it.
#[test]
fn a_rule_arrives_before_it_asks_and_looks_away_before_it_leaves() {
    let (from, to) = (PolicyRef::new(Action::Enforce, 2), ENFORCE);
    let other = ENFORCE.of_kind(VALIDATING);
    let in_phase = |policy, old, phase| {
        let shop = ledger(policy, Action::Enforce, 1, vec![exclusion("redis:7", None)]);
        let leaving = Some(Leaving { policy: old, phase });
        let settings = RuleSettings { leaving, ..shop.rule.settings.clone() };
        Ledger::apply(Some(&shop), &Change::Rule(settings), now()).unwrap()
    };
    let verify = |policy, ledger: &Ledger| {
        let rendered = rendered(policy, &[("shop", ledger)], BTreeMap::new());
        let verify = &rendered.spec["rules"][1]["verifyImages"][0];
        let fields = ["imageReferences", "required", "verifyDigest"].map(|name| &verify[name]);
        assert_eq!(verify["failureAction"], "Enforce");
        fields.map(Value::to_string).join(" ")
    };
    let [all, some, none] =
        [r#"["*"] true true"#, r#"["*"] false false"#, r#"["none.invalid/none"] false false"#];
    for (phase, new, old) in
        [(Phase::Arriving, some, all), (Phase::Arrived, all, all), (Phase::Released, all, none)]
    {
        let ledger = in_phase(to, from, phase);
        assert_eq!([verify(to, &ledger), verify(from, &ledger)], [new, old], "{phase:?}");
        assert_eq!(verify(to, &in_phase(to, other, phase)), new, "{phase:?}");
        // The newer kind asks nobody, and is told that all images are excluded.
        let excluded = |ledger: &Ledger| {
            let found = validating(other, &[("shop", ledger)]);
            let images = found["policy"]["spec"]["images"][0]["expression"].to_string();
            let pin = found["pin"]["spec"]["variables"][0]["expression"].to_string();
            let all = [images, pin].map(|text| text.contains(r#"\"shop\":[\"*\"]"#));
            assert_eq!(all[0], all[1]);
            all[0]
        };
        assert_eq!(excluded(&in_phase(to, other, phase)), phase == Phase::Released, "{phase:?}");
        assert!(!excluded(&in_phase(other, to, phase)), "{phase:?}");
    }
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
    let mark = Mark { state, rule: Short::default() };
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
