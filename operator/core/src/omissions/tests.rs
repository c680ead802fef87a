//! What is decided from what is seen, by tables.

use serde_json::{Value, json};

use super::{settings::parse_kind, *};

const FAIL: [&str; 2] = ["mutate.kyverno.svc-fail", "validate.kyverno.svc-fail"];
const IGNORE: [&str; 2] = ["mutate.kyverno.svc-ignore", "validate.kyverno.svc-ignore"];

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// As Kyverno writes one for a policy that verifies pods.
fn hook(name: &str) -> Hook {
    let rule = |operations: &[&str], resources: &[&str]| Rule {
        groups: texts(&[""]),
        versions: texts(&["v1"]),
        operations: texts(operations),
        resources: texts(resources),
        is_cluster_scoped: false,
    };
    Hook {
        name: name.to_owned(),
        service_namespace: Some("kyverno".to_owned()),
        is_ignored: name.ends_with("ignore"),
        rules: vec![rule(&["CREATE", "UPDATE"], &["pods", "pods/ephemeralcontainers"])],
        namespaces: requirement(
            "kubernetes.io/metadata.name",
            "NotIn",
            &["kube-system", "kyverno"],
        ),
        objects: Selector::default(),
        conditions: Vec::new(),
    }
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> Selector {
    let (key, operator) = (key.to_owned(), operator.to_owned());
    Selector(vec![Requirement { key, operator, values: texts(values) }])
}

fn seen() -> Seen {
    let [mutating, validating] = FAIL.map(|name| Ok(vec![hook(name)]));
    Seen {
        mutating,
        validating,
        namespace: "kyverno".to_owned(),
        settings: Ok(Some(Settings::default())),
        policies: Ok(TenantPolicies::default()),
        mutating_policies: Ok(TenantPolicies::default()),
        exceptions: Ok(Vec::new()),
    }
}

fn policy(action: Action) -> PolicyRef {
    PolicyRef::new(action, 1)
}

fn ring(action: Action) -> Concerned {
    let namespace = |name: &str, stage: &str| {
        let labels = [("kubernetes.io/metadata.name", name), ("stage", stage)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        (name.to_owned(), Arc::new(Labels::from(labels)))
    };
    Concerned {
        action,
        namespaces: [namespace("shop-dev", "dev"), namespace("shop-prod", "prod")].into(),
        rules: [(policy(action), texts(&["shop", "shop.debug", "signing-gate.references"]))].into(),
    }
}

fn said(seen: &Seen) -> Vec<Omission> {
    of_ring(seen, &Accepted::default(), &ring(Action::Enforce))
}

/// What is said if both halves are changed so.
fn with_hooks(change: impl Fn(&mut Hook)) -> Vec<Omission> {
    let mut seen = seen();
    for hooks in [&mut seen.mutating, &mut seen.validating].into_iter().flatten() {
        hooks.iter_mut().for_each(&change);
    }
    said(&seen)
}

fn settings(data: &[(&str, &str)]) -> Settings {
    let owned = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Settings::read(&owned.collect())
}

fn with_settings(data: &[(&str, &str)]) -> Vec<Omission> {
    said(&Seen { settings: Ok(Some(settings(data))), ..seen() })
}

#[test]
fn of_what_the_chart_sets_nothing_is_left_out() {
    let defaults = [
        ("excludeGroups", "system:nodes"),
        (
            "resourceFilters",
            "[*/*,kyverno,*] [Event,*,*] [*/*,kube-system,*] [*/*,kube-public,*] [Node,*,*] \
             [Node/?*,*,*] [APIService,*,*] [Pod/binding,*,*] [ReplicaSet/?*,*,*] [Binding,*,*]",
        ),
    ];
    assert_eq!(with_settings(&defaults), []);
    assert_eq!(said(&seen()), []);
}

#[test]
fn a_webhook_has_to_take_all_that_is_verified() {
    for (index, half) in [Half::Mutating, Half::Validating].into_iter().enumerate() {
        let missing = [Omission::Missing { half, webhook: FAIL[index] }];
        let without = |change: &dyn Fn(&mut Vec<Hook>)| {
            let mut seen = seen();
            let look = [&mut seen.mutating, &mut seen.validating];
            change(look.into_iter().nth(index).unwrap().as_mut().unwrap());
            said(&seen)
        };
        assert_eq!(without(&Vec::clear), missing);
        for (operations, resources) in [
            (texts(&["CREATE"]), texts(&["pods", "pods/ephemeralcontainers"])),
            (texts(&["UPDATE"]), texts(&["pods", "pods/ephemeralcontainers"])),
            (texts(&["*"]), texts(&["pods"])),
            (texts(&["*"]), texts(&["pods/*"])),
            (texts(&["*"]), texts(&["deployments"])),
        ] {
            let what = format!("{operations:?} {resources:?}");
            let change = |hooks: &mut Vec<Hook>| {
                hooks[0].rules[0].operations.clone_from(&operations);
                hooks[0].rules[0].resources.clone_from(&resources);
            };
            assert_eq!(without(&change), missing, "{what}");
        }
        let cluster = |hooks: &mut Vec<Hook>| hooks[0].rules[0].is_cluster_scoped = true;
        assert_eq!(without(&cluster), missing);
        for resources in [&["*/*"][..], &["pods", "pods/*"], &["*", "*/ephemeralcontainers"]] {
            let change = |hooks: &mut Vec<Hook>| {
                hooks[0].rules[0].operations = texts(&["*"]);
                hooks[0].rules[0].resources = texts(resources);
            };
            assert_eq!(without(&change), [], "{resources:?}");
        }
    }
}

#[test]
fn failures_that_are_ignored_matter_where_a_ring_enforces() {
    let webhooks = texts(&FAIL);
    assert_eq!(with_hooks(|hook| hook.is_ignored = true), [Omission::Ignored { webhooks }]);
    // As Kyverno writes them with --forceFailurePolicyIgnore.
    let [mutating, validating] = IGNORE.map(|name| Ok(vec![hook(name)]));
    let forced = Seen { mutating, validating, ..seen() };
    assert_eq!(said(&forced), [Omission::Ignored { webhooks: texts(&IGNORE) }]);
    assert_eq!(of_ring(&forced, &Accepted::default(), &ring(Action::Audit)), []);
    let audit = of_ring(&seen(), &Accepted::default(), &ring(Action::Audit));
    assert!(matches!(audit[..], [Omission::Missing { .. }, Omission::Missing { .. }]), "{audit:?}");
}

#[test]
fn selectors() {
    for (selector, text) in [
        (
            requirement("webhooks.kyverno.io/exclude", "DoesNotExist", &[]),
            "!webhooks.kyverno.io/exclude",
        ),
        (requirement("verify", "In", &["yes"]), "verify=yes"),
        (requirement("verify", "Exists", &[]), "verify"),
        (requirement("a", "NotIn", &["b", "c"]), "a notin (b,c)"),
    ] {
        let found = with_hooks(|hook| hook.objects = selector.clone());
        let selector = text.to_owned();
        assert_eq!(found, [Omission::Objects { webhooks: texts(&FAIL), selector }]);
    }
    for (selector, left_out) in [
        (requirement("stage", "NotIn", &["dev"]), &["shop-dev"][..]),
        (requirement("stage", "In", &["dev"]), &["shop-prod"]),
        (requirement("team", "Exists", &[]), &["shop-dev", "shop-prod"]),
        (requirement("team", "DoesNotExist", &[]), &[]),
        (requirement("stage", "In", &["dev", "prod"]), &[]),
        (Selector::default(), &[]),
    ] {
        let found = with_hooks(|hook| hook.namespaces = selector.clone());
        let named: Vec<String> = found
            .into_iter()
            .flat_map(|omission| match omission {
                Omission::Namespaces { namespaces, webhooks, .. } => {
                    assert_eq!(webhooks, texts(&FAIL));
                    namespaces
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(named, texts(left_out), "{selector}");
    }
    let unknown = requirement("stage", "Near", &["dev"]);
    let found = with_hooks(|hook| hook.namespaces = unknown.clone());
    assert!(matches!(&found[..], [Omission::Unclear { .. }]), "{found:?}");
}

#[test]
fn conditions_of_others_are_not_judged() {
    let condition = |name: &str, expression: &str| Condition {
        name: name.to_owned(),
        expression: expression.to_owned(),
    };
    let found = with_hooks(|hook| hook.conditions = vec![condition("mine", "true")]);
    let (webhooks, conditions) = (texts(&FAIL), texts(&["mine"]));
    assert_eq!(found, [Omission::Conditions { webhooks, conditions }]);
    assert!(!found[0].is_certain());
    let kyvernos = "!(request.resource.group == \"\" && request.resource.resource == \"nodes\") && \
                    !(request.resource.group == \"certificates.k8s.io\" && \
                    request.resource.resource == \"certificatesigningrequests\")";
    let of_kyverno = condition("kyverno-exclude-bootstrap-resources", kyvernos);
    assert_eq!(with_hooks(|hook| hook.conditions = vec![of_kyverno.clone()]), []);
    // Its name alone says nothing.
    let forged = condition("kyverno-exclude-bootstrap-resources", "false");
    assert_eq!(with_hooks(|hook| hook.conditions = vec![forged.clone()]).len(), 1);
}

#[test]
fn filters() {
    for (filter, namespaces) in [
        ("[Pod,shop-dev,*]", &["shop-dev"][..]),
        ("[Pod,shop-*,debug-?]", &["shop-dev", "shop-prod"]),
        ("[*/*,shop-dev,*]", &["shop-dev"]),
        ("[*,*,*]", &["shop-dev", "shop-prod"]),
        ("[v1/Pod,shop-dev,*]", &["shop-dev"]),
        ("[Pod/ephemeralcontainers,shop-dev,*]", &["shop-dev"]),
        ("[Pod/*,shop-???,*]", &["shop-dev"]),
        ("[[Pod,shop-dev,*]]", &["shop-dev"]),
        // None of these fits.
        ("[Pod/binding,*,*]", &[]),
        ("[Pod/status,*,*]", &[]),
        ("[Deployment,*,*]", &[]),
        ("[apps/v1/Pod,*,*]", &[]),
        ("[Pod, shop-dev,*]", &[]),
        ("[Pod]", &[]),
        ("[Pod,*,*,*]", &[]),
        ("Pod,*,*", &[]),
        ("[Pod,*,*", &[]),
    ] {
        let found = with_settings(&[("resourceFilters", filter)]);
        let named: Vec<String> = found
            .into_iter()
            .flat_map(|omission| match omission {
                Omission::Filtered { namespaces, .. } => namespaces,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(named, texts(namespaces), "{filter}");
    }
    assert_eq!(parse_kind("a/b/c/d/e"), None);
    assert_eq!(parse_kind("Pod.status"), Some(["*", "*", "Pod", "status"]));
    assert_eq!(parse_kind("v1beta1/Pod"), Some(["*", "v1beta1", "Pod", ""]));
}

#[test]
fn excluded_users() {
    for (data, who) in [
        (&[("excludeUsernames", "jane, *:deployer")][..], &["user:jane", "user:*:deployer"][..]),
        (&[("excludeGroups", "system:nodes,admins")], &["group:admins"]),
        (&[("excludeRoles", "ns:editor")], &["role:ns:editor"]),
        (&[("excludeClusterRoles", "cluster-admin")], &["clusterrole:cluster-admin"]),
        // Those with a mark are looked at in any case.
        (&[("excludeUsernames", "jane,!jane")], &[]),
        (&[("excludeUsernames", "jane,!j*")], &[]),
        (&[("excludeUsernames", "j*,!jane")], &["user:j*"]),
        (&[("excludeGroups", "admins"), ("excludeUsernames", "!*")], &[]),
        (&[("excludeUsernames", " , !,")], &[]),
    ] {
        let found = with_settings(data);
        let who = (!who.is_empty()).then(|| Omission::Excluded { who: texts(who) });
        assert_eq!(found, Vec::from_iter(who), "{data:?}");
    }
    let settings = Ok(Some(settings(&[("excludeUsernames", "jane,joe")])));
    let accepted = ["user:jane"].iter().map(|text| text.parse::<Exclusion>().unwrap()).collect();
    let found = of_ring(&Seen { settings, ..seen() }, &accepted, &ring(Action::Enforce));
    assert_eq!(found, [Omission::Excluded { who: texts(&["user:joe"]) }]);
}

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

#[test]
fn what_cannot_be_looked_at_is_said_last() {
    let why = Unseen { why: "forbidden".to_owned(), is_forbidden: true };
    let spec = json!({"rules": [{"mutate": {}}]});
    let policies = Ok(TenantPolicy::of_policy("shop-dev", "p", &spec).into_iter().collect());
    let found = said(&Seen { settings: Err(why.clone()), policies, ..seen() });
    assert!(matches!(found[0], Omission::Changed { .. }), "{found:?}");
    assert_eq!(found[1], Omission::Unseen { what: Subject::Settings, why });
}

#[test]
fn a_config_map_of_another_namespace_says_nothing() {
    let found = said(&Seen { namespace: "other".to_owned(), ..seen() });
    let [Omission::Unseen { what: Subject::Settings, why }] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(why.why.contains("--kyverno-namespace=kyverno"), "{why:?}");
    // One that is called by a URL does not say where it runs.
    let mut seen = Seen { namespace: "other".to_owned(), ..seen() };
    for hook in [&mut seen.mutating, &mut seen.validating].into_iter().flatten().flatten() {
        hook.service_namespace = None;
    }
    assert_eq!(said(&seen), []);
}

#[test]
fn a_config_map_of_another_name_says_nothing() {
    let absent = |change: &dyn Fn(&mut Hook)| {
        let mut seen = Seen { settings: Ok(None), ..seen() };
        for hook in [&mut seen.mutating, &mut seen.validating].into_iter().flatten().flatten() {
            hook.namespaces = Selector::default();
            change(hook);
        }
        said(&seen)
    };
    // Without any Kyverno leaves out nothing.
    assert_eq!(absent(&|_| {}), []);
    // What its chart sets comes from one.
    let found = absent(&|it| it.namespaces = hook(FAIL[0]).namespaces);
    let [Omission::Unseen { what: Subject::Settings, why }] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(why.why.contains("--kyverno-config-map"), "{why:?}");
}
