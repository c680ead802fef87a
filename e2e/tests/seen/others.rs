//! Policies of an enrolled namespace from before its enrolment, and exceptions.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::{
    NAMESPACE, admits, begins, is_complete, says,
    turn::{in_turn, kill, start},
};

fn policy(namespace: &str, name: &str, rule: &Value) -> String {
    let mut rule = rule.clone();
    rule["name"] = "rule".into();
    rule["match"] = json!({"any": [{"resources": {"kinds": ["Pod"]}}]});
    json!({
        "apiVersion": "kyverno.io/v1", "kind": "Policy",
        "metadata": {
            "name": name, "namespace": namespace,
            "annotations": {"pod-policies.kyverno.io/autogen-controllers": "none"},
        },
        "spec": {"background": false, "rules": [rule]},
    })
    .to_string()
}

/// A Policy that changes the images of pods.
pub fn mutating(namespace: &str, name: &str) -> String {
    let patch = json!({"metadata": {"labels": {"+(seen)": "yes"}}});
    policy(namespace, name, &json!({"mutate": {"patchStrategicMerge": patch}}))
}

/// A Policy that asks for a label.
fn validating(namespace: &str, name: &str) -> String {
    let pattern = json!({"metadata": {"name": "?*"}});
    let validate = json!({"failureAction": "Audit", "message": "a name", "pattern": pattern});
    policy(namespace, name, &json!({"validate": validate}))
}

async fn label(world: &World, label: &str) -> Result<()> {
    world.kubectl(&["label", "--overwrite", "namespace", NAMESPACE, label]).await?;
    Ok(())
}

#[test]
fn a_policy_from_before_the_enrolment() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        label(world, "signing.odj.cloud/ring-").await?;
        wait_until("nothing is enrolled", async || {
            Ok(world.ring("shop", "{.status.enrolledNamespaces}").await? == "0")
        })
        .await?;
        world.apply(&mutating(NAMESPACE, "swap")).await?;
        world.apply(&validating(NAMESPACE, "harmless")).await?;
        // Elsewhere it is nothing to this ring.
        world.apply(&mutating("shop-ci", "elsewhere")).await?;
        label(world, "signing.odj.cloud/ring=shop").await?;
        let words = ["Policy shop-dev/swap", "--accept-exclusions=policy:shop-dev/swap"];
        says(world, "False PodsChanged", &words).await?;
        let text = world.condition("shop", "EnforcementComplete").await?;
        ensure!(!text.contains("harmless") && !text.contains("elsewhere"), "{text}");
        kill(shared).await?;
        start(shared, &["--accept-exclusions=policy:shop-dev/swap"]).await?;
        is_complete(world).await?;
        kill(shared).await?;
        start(shared, &[]).await?;
        says(world, "False PodsChanged", &words).await?;
        for namespace in [NAMESPACE, "shop-ci"] {
            world.kubectl(&["delete", "policies.kyverno.io", "--all", "-n", namespace]).await?;
        }
        is_complete(world).await
    });
}

#[test]
fn a_namespaced_mutating_policy_is_not_judged() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let rule = json!({
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"],
        });
        let expression =
            r#"Object{metadata: Object.metadata{labels: Object.metadata.labels{seen: "yes"}}}"#;
        let mutating = json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "NamespacedMutatingPolicy",
            "metadata": {"name": "inject", "namespace": NAMESPACE},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "mutations": [{
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": expression},
                }],
            },
        });
        world.apply(&mutating.to_string()).await?;
        says(world, "Unknown NotJudged", &["NamespacedMutatingPolicy shop-dev/inject"]).await?;
        ensure!(!admits(world, &[]).await?);
        let delete = ["delete", "namespacedmutatingpolicies.policies.kyverno.io", "inject"];
        world.kubectl(&[&delete[..], &["-n", NAMESPACE]].concat()).await?;
        is_complete(world).await
    });
}

#[test]
fn an_exception_of_any_namespace() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        // The chart's features.policyExceptions.
        let flags = ["--enablePolicyException=true", "--exceptionNamespace=*"];
        shared.cluster.restart_with("kyverno", &flags).await?;
        let exception = |rules: &str| {
            let kinds = json!({"resources": {"kinds": ["Pod"], "namespaces": [NAMESPACE]}});
            json!({
                "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
                "metadata": {"name": "let-me", "namespace": "shop-ci"},
                "spec": {
                    "match": {"any": [kinds]},
                    "exceptions": [{
                        "policyName": "signing-enforce-0001", "ruleNames": [rules],
                    }],
                },
            })
            .to_string()
        };
        world.apply(&exception("another-ring")).await?;
        is_complete(world).await?;
        world.apply(&exception("shop*")).await?;
        let words = ["PolicyException shop-ci/let-me", "signing-enforce-0001"];
        let said = says(world, "False RuleExcepted", &words).await;
        let admitted = wait_until("Kyverno heeds it", async || admits(world, &[]).await).await;
        let delete = ["delete", "policyexceptions.kyverno.io", "let-me", "-n", "shop-ci"];
        world.kubectl(&delete).await?;
        shared.cluster.restart_with("kyverno", &[]).await?;
        said?;
        admitted?;
        is_complete(world).await
    });
}
