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

/// A kind of `policies.kyverno.io` as a tenant could make it before the guard.
fn of_kind(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "policies.kyverno.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
    .to_string()
}

fn constraints() -> Value {
    json!({"resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["configmaps"],
    }]})
}

#[test]
fn a_policy_that_may_create_others_is_not_judged_once_its_kind_is_served() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let kind = "namespacedgeneratingpolicies.policies.kyverno.io";
        let crd = world.kubectl(&["get", "crd", kind, "--output=json"]).await?;
        let mut crd: Value = serde_json::from_str(&crd)?;
        crd["metadata"] = json!({"name": kind, "annotations": crd["metadata"]["annotations"]});
        kill(shared).await?;
        world.kubectl(&["delete", "crd", kind]).await?;
        start(shared, &[]).await?;
        // A kind that is not served has no policies.
        let look = ["annotate", "skr", "shop", "--overwrite", "example.org/look=again"];
        world.kubectl(&look).await?;
        let complete = is_complete(world).await;
        world.apply(&crd.to_string()).await?;
        world.kubectl(&["wait", "--for=condition=Established", "crd", kind]).await?;
        complete?;

        let made = r#"[{"kind": dyn("ConfigMap"), "apiVersion": dyn("v1"), "metadata": dyn({"name": "made"})}]"#;
        let spec = json!({
            "matchConstraints": constraints(),
            "variables": [{"name": "made", "expression": made}],
            "generate": [{"expression": "generator.Apply(variables.made)"}],
        });
        world.apply(&of_kind("NamespacedGeneratingPolicy", "makes", &spec)).await?;
        let words = [
            "NamespacedGeneratingPolicy shop-dev/makes",
            "--accept-exclusions=policy:shop-dev/makes",
        ];
        says(world, "Unknown NotJudged", &words).await?;
        world.kubectl(&["delete", kind, "makes", "-n", NAMESPACE]).await?;
        is_complete(world).await
    });
}

/// What cannot undo the check is named, and turns nothing.
#[test]
fn what_takes_nothing_from_the_check_is_named() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let adds = json!({
            "matchConstraints": constraints(), "validations": [{"expression": "true"}],
            "attestors": [{"name": "a", "cosign": {"key": {"data": "x"}}}],
        });
        let excepts = json!({"policyRefs": [{"name": "x", "kind": "ImageValidatingPolicy"}]});
        let all = [
            ("NamespacedImageValidatingPolicy", "namespacedimagevalidatingpolicies", adds),
            ("PolicyException", "policyexceptions", excepts),
        ];
        for (kind, plural, spec) in all {
            world.apply(&of_kind(kind, "theirs", &spec)).await?;
            let named = format!("{kind} shop-dev/theirs");
            wait_until("it is named", async || {
                Ok(world.condition("shop", "EnforcementComplete").await?.contains(&named))
            })
            .await?;
            is_complete(world).await?;
            ensure!(!admits(world, &[]).await?);
            let plural = format!("{plural}.policies.kyverno.io");
            world.kubectl(&["delete", &plural, "theirs", "-n", NAMESPACE]).await?;
            wait_until("it is not named any more", async || {
                Ok(!world.condition("shop", "EnforcementComplete").await?.contains(&named))
            })
            .await?;
        }
        Ok(())
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
