//! Policies and exceptions of others.

use serde_json::{Value, json};

use super::*;

fn rule(kinds: &Value, more: &Value) -> Value {
    let mut rule = json!({"name": "r", "match": {"any": [{"resources": {"kinds": kinds}}]}});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

fn read(kind: TenantKind, spec: &Value) -> Option<TenantPolicy> {
    TenantPolicy::read(kind, "shop-dev", "p", spec)
}

#[test]
fn policies_that_may_change_pods() {
    let mutate = json!({"mutate": {"patchStrategicMerge": {}}});
    let validate = json!({"validate": {"pattern": {}}});
    let changes = |rules: Value| read(TenantKind::Policy, &json!({"rules": rules})).is_some();
    for kinds in [json!(["Pod"]), json!(["v1/Pod"]), json!(["*"]), json!(["ConfigMap", "Po?"])] {
        assert!(changes(json!([rule(&kinds, &validate), rule(&kinds, &mutate)])), "{kinds}");
        assert!(!changes(json!([rule(&kinds, &validate)])), "{kinds}");
    }
    assert!(!changes(json!([rule(&json!(["Deployment", "v1/Service"]), &mutate)])));
    assert!(changes(json!([{"mutate": {}, "match": {"all": [{"subjects": []}]}}])));
    assert!(changes(json!([{"mutate": {}, "match": {"resources": {"kinds": ["Pod"]}}}])));
    let all = json!([{"resources": {"kinds": ["Pod"]}}, {"resources": {"kinds": ["Secret"]}}]);
    assert!(!changes(json!([{"mutate": {}, "match": {"all": all}}])));
    // What is in the cluster already, which is verified when it is written.
    let existing = json!({"mutate": {"targets": [{"kind": "Pod"}]}});
    assert!(!changes(json!([rule(&json!(["Pod"]), &existing)])));
    let extracts = json!({"verifyImages": [{}], "imageExtractors": {"Pod": []}});
    assert!(changes(json!([rule(&json!(["Pod"]), &extracts)])));
    assert!(!changes(json!([rule(&json!(["Pod"]), &json!({"verifyImages": [{}]}))])));
    let scans = json!({"admission": false, "rules": [rule(&json!(["Pod"]), &mutate)]});
    assert_eq!(read(TenantKind::Policy, &scans), None);
    assert!(!changes(json!("nonsense")) && !changes(json!([7, null])));

    let spec = |resources: Value| json!({"matchConstraints": {"resourceRules": [{"resources": resources}]}});
    let mutating = |resources| read(TenantKind::NamespacedMutatingPolicy, &spec(resources));
    assert!(mutating(json!(["configmaps", "pods"])).is_some());
    assert!(mutating(json!(["deployments"])).is_none());
}

/// What is seen if there is a policy p of a kind in a namespace.
pub(super) fn with(kind: TenantKind, namespace: &str, spec: &Value) -> Seen {
    let mut seen = seen();
    let policy = TenantPolicy::read(kind, namespace, "p", spec);
    seen.policies.insert(kind, Ok(policy.into_iter().collect()));
    seen
}

#[test]
fn policies_bear_on_the_rings_of_their_namespace() {
    let policy = || "policy:shop-dev/p".to_owned();
    let pods = json!({"rules": [{"mutate": {}}],
        "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]}});
    for (kind, omission, weight) in [
        (TenantKind::Policy, Omission::Changed { policy: policy() }, Weight::Certain),
        (
            TenantKind::NamespacedMutatingPolicy,
            Omission::MayChange { policy: policy() },
            Weight::Open,
        ),
        (
            TenantKind::NamespacedGeneratingPolicy,
            Omission::MayCreate { kind: TenantKind::NamespacedGeneratingPolicy, policy: policy() },
            Weight::Open,
        ),
        (
            TenantKind::NamespacedImageValidatingPolicy,
            Omission::Adds { kind: TenantKind::NamespacedImageValidatingPolicy, policy: policy() },
            Weight::Nothing,
        ),
    ] {
        let here = with(kind, "shop-dev", &pods);
        assert_eq!(omission.weight(), weight);
        assert_eq!(said(&here), [omission]);
        assert_eq!(said(&with(kind, "elsewhere", &pods)), []);
        let accepted = [policy().parse::<Exclusion>().unwrap()].into_iter().collect();
        assert_eq!(of_ring(&here, &accepted, &ring(Action::Enforce)), []);
    }
}

/// A namespace's admin may have Kyverno make, by its own rights, what the guard refuses
/// them.
#[test]
fn a_policy_may_create_policies() {
    let creates = |generate: Value| {
        let spec = json!({"rules": [rule(&json!(["ConfigMap"]), &json!({"generate": generate}))]});
        said(&with(TenantKind::Policy, "shop-dev", &spec))
    };
    let kind = TenantKind::Policy;
    let may = [Omission::MayCreate { kind, policy: "policy:shop-dev/p".to_owned() }];
    for generate in [
        json!({"kind": "Policy"}),
        json!({"kind": "NamespacedMutatingPolicy"}),
        json!({"kind": "PolicyException"}),
        json!({"kind": "{{ request.object.data.kind }}"}),
        json!({"kind": 7}),
        json!({"foreach": [{"kind": "Secret"}, {"kind": "Policy"}]}),
        json!({"cloneList": {"kinds": ["v1/Secret", "kyverno.io/v1/Policy"]}}),
    ] {
        assert_eq!(creates(generate.clone()), may, "{generate}");
    }
    for generate in [json!({"kind": "Secret"}), json!({"cloneList": {"kinds": []}}), json!(7)] {
        assert_eq!(creates(generate.clone()), [], "{generate}");
    }
    let both = json!({"rules": [{"generate": {"kind": "Policy"}}, {"mutate": {}}]});
    let found = said(&with(TenantKind::Policy, "shop-dev", &both));
    assert!(matches!(found[..], [Omission::Changed { .. }]), "{found:?}");
}

#[test]
fn exceptions_of_the_other_group_reach_no_cluster_policy() {
    let made = |namespace: &str, policy: &str| {
        let spec = json!({"policyRefs": [{"kind": "ImageValidatingPolicy", "name": policy}]});
        let other_exceptions = Ok(vec![OtherException::read(namespace, "e", &spec)]);
        said(&Seen { other_exceptions, ..seen() })
    };
    let beside = |exception: &str| [Omission::ExceptsOthers { exception: exception.to_owned() }];
    assert_eq!(made("shop-dev", "any"), beside("exception:shop-dev/e"));
    assert_eq!(made("any", &policy(Action::Enforce).to_string()), beside("exception:any/e"));
    assert_eq!(made("any", &policy(Action::Audit).to_string()), []);
    assert_eq!(made("any", "any"), []);
    assert_eq!(beside("e")[0].weight(), Weight::Nothing);
}

#[test]
fn exceptions_name_a_policy_and_patterns_of_rules() {
    let names = |policy: &str, rules: Value| {
        let spec = json!({"exceptions": [{"policyName": policy, "ruleNames": rules}]});
        let exceptions = Ok(PolicyException::read("any", "e", &spec).into_iter().collect());
        said(&Seen { exceptions, ..seen() })
    };
    let ours = policy(Action::Enforce);
    let excepted = [Omission::Excepted { exception: "exception:any/e".to_owned(), policy: ours }];
    for rules in [json!(["shop"]), json!(["s*"]), json!(["x", "*"]), json!(["signing-gate.ref*"])] {
        assert_eq!(names(&ours.to_string(), rules.clone()), excepted, "{rules}");
    }
    assert_eq!(names(&ours.to_string(), json!(["pay", "shop?"])), []);
    // Kyverno compares a policy's name as it is.
    assert_eq!(names("signing-*", json!(["*"])), []);
    assert_eq!(names(&format!("shop-dev/{ours}"), json!(["*"])), []);
    assert_eq!(names(&policy(Action::Audit).to_string(), json!(["*"])), []);
    assert_eq!(names("", json!("*")), []);
}

#[test]
fn what_no_webhook_can_be_written_for_is_named_wherever_it_is() {
    let kind = TenantKind::NamespacedValidatingPolicy;
    let rule = |resources: &[&str]| {
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": resources})
    };
    let of = |rule: Value, timeout: i64| {
        json!({"matchConstraints": {"resourceRules": [rule]},
            "webhookConfiguration": {"timeoutSeconds": timeout}})
    };
    let newer = policy(Action::Enforce).of_kind(PolicyKind::ImageValidatingPolicy);
    let found = |spec: &Value| {
        let hook = hook(&newer.own_webhook(false).unwrap());
        let seen = Seen { validating: Ok(vec![hook]), ..with(kind, "elsewhere", spec) };
        let concerned = Concerned { policy: newer, ..ring(Action::Enforce) };
        of_ring(&seen, &Accepted::default(), &concerned)
    };
    let named = [Omission::Unwritable { kind, policy: "policy:elsewhere/p".to_owned() }];
    for resources in [
        &["*", "configmaps"][..],
        &["*/*", "pods"],
        &["pods/*", "pods/exec"],
        &["*/scale", "deployments/scale"],
        &[],
    ] {
        assert_eq!(found(&of(rule(resources), 10)), named, "{resources:?}");
    }
    for resources in [&["*"][..], &["*/*"], &["*", "pods/exec"], &["*/scale"], &["pods", "pods/*"]]
    {
        assert_eq!(found(&of(rule(resources), 10)), [], "{resources:?}");
    }
    let mut mixed = rule(&["pods"]);
    mixed["apiGroups"] = json!(["*", "apps"]);
    assert_eq!(found(&of(mixed, 10)), named);
    assert_eq!(found(&of(rule(&["pods"]), 31)), named);
    assert_eq!(found(&json!({})), []);
}

#[test]
fn that_no_webhook_can_be_written_concerns_whom_one_is_written_for() {
    let kind = TenantKind::NamespacedValidatingPolicy;
    let spec = json!({"webhookConfiguration": {"timeoutSeconds": 0}});
    let is_told = |seen: Seen, policies: &[PolicyRef]| {
        let rules = policies.iter().map(|policy| (*policy, texts(&["shop"]))).collect();
        let concerned = Concerned { policy: policies[0], rules, ..ring(Action::Enforce) };
        let found = of_ring(&seen, &Accepted::default(), &concerned);
        found.iter().any(|omission| matches!(omission, Omission::Unwritable { .. }))
    };
    let older = policy(Action::Enforce);
    let newer = older.of_kind(PolicyKind::ImageValidatingPolicy);
    let frozen = || with(kind, "elsewhere", &spec);
    assert!(is_told(frozen(), &[newer]));
    assert!(!is_told(frozen(), &[older]), "those of ClusterPolicies stand");
    assert!(is_told(frozen(), &[older, newer]), "it moves");
    let gone = Seen { validating: Ok(Vec::new()), ..frozen() };
    assert!(is_told(gone, &[older]), "it does not come back");
}
