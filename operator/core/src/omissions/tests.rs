//! What is decided from what is seen, by tables.

use serde_json::json;

use super::*;
use crate::policy_ref::{Action, PolicyKind};

mod settings;
mod tenants;
mod validating;

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
        policies: TenantKind::ALL
            .iter()
            .map(|kind| (*kind, Ok(TenantPolicies::default())))
            .collect(),
        exceptions: Ok(Vec::new()),
        other_exceptions: Ok(Vec::new()),
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
        policy: policy(action),
        enrolment_label: "signing.odj.cloud/ring".to_owned(),
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
        let verifies = half == Half::Mutating;
        let missing = [Omission::Missing { verifies, webhook: FAIL[index].to_owned() }];
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
    assert_eq!(found[0].weight(), Weight::Open);
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
fn what_cannot_be_looked_at_is_said_last() {
    let why = Unseen { why: "forbidden".to_owned(), cause: Cause::Forbidden };
    let spec = json!({"rules": [{"mutate": {}}]});
    let policies = tenants::with(TenantKind::Policy, "shop-dev", &spec).policies;
    let found = said(&Seen { settings: Err(why.clone()), policies, ..seen() });
    assert!(matches!(found[0], Omission::Changed { .. }), "{found:?}");
    assert_eq!(found[1], Omission::Unseen { what: Subject::Settings, why });
}
