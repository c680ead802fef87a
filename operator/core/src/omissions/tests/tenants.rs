//! Policies and exceptions of others.

use serde_json::{Value, json};

use super::*;

fn rule(kinds: &Value, more: &Value) -> Value {
    let mut rule = json!({"name": "r", "match": {"any": [{"resources": {"kinds": kinds}}]}});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

#[test]
fn policies_that_may_change_pods() {
    let mutate = json!({"mutate": {"patchStrategicMerge": {}}});
    let validate = json!({"validate": {"pattern": {}}});
    let changes =
        |rules: Value| TenantPolicy::of_policy("shop-dev", "p", &json!({"rules": rules})).is_some();
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
    assert_eq!(TenantPolicy::of_policy("shop-dev", "p", &scans), None);
    assert!(!changes(json!("nonsense")) && !changes(json!([7, null])));

    let spec = |resources: Value| json!({"matchConstraints": {"resourceRules": [{"resources": resources}]}});
    let mutating = |resources| TenantPolicy::of_mutating_policy("shop-dev", "m", &spec(resources));
    assert!(mutating(json!(["configmaps", "pods"])).is_some());
    assert!(mutating(json!(["deployments"])).is_none());
}

#[test]
fn policies_bear_on_the_rings_of_their_namespace() {
    let spec = json!({"rules": [{"mutate": {}}]});
    let policies =
        |namespace| Ok(TenantPolicy::of_policy(namespace, "p", &spec).into_iter().collect());
    let policy = "policy:shop-dev/p".to_owned();
    let here = Seen { policies: policies("shop-dev"), ..seen() };
    assert_eq!(said(&here), [Omission::Changed { policy: policy.clone() }]);
    assert_eq!(said(&Seen { policies: policies("elsewhere"), ..seen() }), []);
    let accepted = [policy.parse::<Exclusion>().unwrap()].into_iter().collect();
    assert_eq!(of_ring(&here, &accepted, &ring(Action::Enforce)), []);
    let mutating = Seen { mutating_policies: policies("elsewhere"), ..here };
    assert_eq!(said(&mutating).len(), 1);
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
