//! What is decided for policies that verify last.

use serde_json::json;

use super::*;
use crate::{omissions::webhook, policy_ref::PolicyKind};

fn placed(action: Action) -> Concerned {
    let policy = PolicyRef::new(action, 2).of_kind(PolicyKind::ImageValidatingPolicy);
    Concerned { policy, rules: [(policy, Vec::new())].into(), ..ring(action) }
}

/// As Kyverno writes one for such a policy.
fn own_hook(policy: PolicyRef, is_ignored: bool) -> Hook {
    let requirement = |key: &str, operator: &str, values: &[&str]| Requirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: texts(values),
    };
    let condition = |name: &str| Condition { name: name.to_owned(), expression: "true".to_owned() };
    Hook {
        is_ignored,
        namespaces: Selector(vec![
            requirement("signing.odj.cloud/ring", "In", &["pay", "signing-gate"]),
            requirement("kubernetes.io/metadata.name", "NotIn", &["kyverno"]),
        ]),
        conditions: ["question", "where", "what-runs-changes"].map(condition).into(),
        ..hook(&webhook(Half::Validating, policy, is_ignored).unwrap())
    }
}

fn with(action: Action, hooks: Vec<Hook>) -> Vec<Omission> {
    let seen = Seen { validating: Ok(hooks), ..seen() };
    of_ring(&seen, &Accepted::default(), &placed(action))
}

#[test]
fn its_own_webhook_is_asked_for_and_no_other() {
    for (action, is_ignored) in [(Action::Enforce, false), (Action::Audit, true)] {
        let policy = placed(action).policy;
        assert!(Hook::bears_on_pods(&webhook(Half::Validating, policy, is_ignored).unwrap()));
        assert_eq!(with(action, vec![own_hook(policy, is_ignored)]), []);
        let other = PolicyRef::new(action, 1).of_kind(policy.kind());
        let webhook = webhook(Half::Validating, policy, is_ignored).unwrap();
        let missing = [Omission::Missing { verifies: true, webhook }];
        assert_eq!(with(action, vec![own_hook(other, is_ignored)]), missing);
        assert_eq!(with(action, vec![hook("validate.kyverno.svc-fail")]), missing);
        let mut narrow = own_hook(policy, is_ignored);
        narrow.rules.clear();
        assert_eq!(with(action, vec![narrow]), missing);
    }
    assert!(!Hook::bears_on_pods("ivpol.validate.kyverno.svc-fail-finegrained-theirs"));
}

#[test]
fn what_is_not_the_policys_own_is_judged() {
    let policy = placed(Action::Enforce).policy;
    let changed = |change: &dyn Fn(&mut Hook)| {
        let mut hook = own_hook(policy, false);
        change(&mut hook);
        with(Action::Enforce, vec![hook])
    };
    let ignored = with(Action::Enforce, vec![own_hook(policy, true)]);
    assert!(matches!(ignored[..], [Omission::Ignored { .. }]), "{ignored:?}");
    let foreign = changed(&|hook| {
        hook.conditions.push(Condition { name: "theirs".into(), expression: "false".into() });
    });
    assert!(matches!(foreign[..], [Omission::Conditions { .. }]), "{foreign:?}");
    // Somebody's requirement on the enrolment label is not the policy's.
    let left_out = changed(&|hook| {
        hook.namespaces.0.push(Requirement {
            key: "stage".into(),
            operator: "NotIn".into(),
            values: texts(&["prod"]),
        });
        hook.namespaces.0.push(Requirement {
            key: "signing.odj.cloud/ring".into(),
            operator: "DoesNotExist".into(),
            values: Vec::new(),
        });
    });
    let [Omission::Namespaces { namespaces, selector, .. }] = &left_out[..] else {
        panic!("{left_out:?}")
    };
    assert_eq!(*namespaces, ["shop-prod"]);
    assert!(!selector.contains("signing-gate"), "{selector}");
}

#[test]
fn policies_that_change_pods_undo_nothing_and_exceptions_of_its_group_do() {
    let changes = json!({"rules": [{"match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
        "mutate": {"patchStrategicMerge": {}}}]});
    let tenant = TenantPolicy::read(TenantKind::Policy, "shop-dev", "swap", &changes).unwrap();
    let policy = placed(Action::Enforce).policy;
    let hooks = vec![own_hook(policy, false)];
    let mut here = Seen { validating: Ok(hooks), ..seen() };
    here.policies.insert(TenantKind::Policy, Ok([tenant].into_iter().collect()));
    let said = |seen: &Seen| of_ring(seen, &Accepted::default(), &placed(Action::Enforce));
    assert_eq!(said(&here), []);
    let names = |name: &str, kind: &str| {
        let spec = json!({"policyRefs": [{"name": name, "kind": kind}]});
        let exception = OtherException::read("elsewhere", "e", &spec);
        said(&Seen { other_exceptions: Ok(vec![exception]), ..here.clone() })
    };
    let exception = "exception:elsewhere/e".to_owned();
    let excepted = [Omission::Excepted { exception, policy }];
    assert_eq!(names(&policy.to_string(), "ImageValidatingPolicy"), excepted);
    // Kyverno goes by the kind, too.
    assert_eq!(names(&policy.to_string(), "ValidatingPolicy"), []);
    assert_eq!(names("signing.enforce-0001", "ImageValidatingPolicy"), []);
    assert_eq!(names("signing-enforce-0002", "ClusterPolicy"), []);
}
