//! What is left out of the check of a ring that stands in an ImageValidatingPolicy: it
//! has a webhook of its own, by which alone its images are verified.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use crate::{
    admits_in, begins, is_complete, is_complete_for, says, says_of,
    settings::{set, webhooks},
    turn::{self, in_turn},
};

const BANK: &str = "bank";
const ENROLLED: &str = "bank-dev";
const POLICY: &str = "signing.enforce-0001";
const OWN_WEBHOOK: &str = "ivpol.validate.kyverno.svc-fail-finegrained-signing.enforce-0001";
const VALIDATING: &str = "kyverno-resource-validating-webhook-cfg";

/// Begins with a ring of each kind for which nothing is left out.
async fn begins_with_both(world: &World) -> Result<()> {
    begins(world).await?;
    world.apply(&namespaces(BANK)).await?;
    world.apply(&manifest(BANK, "  policy: {kind: ImageValidatingPolicy}\n")).await?;
    world.wait_for_condition(BANK, "Ready", "True").await?;
    is_complete_for(world, BANK).await
}

/// A policy that Kyverno takes and the API server does not, for a webhook. A tenant could
/// make it before the guard.
#[test]
fn a_webhook_that_kyverno_cannot_write() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins_with_both(world).await?;
        let rule = json!({
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["*", "configmaps"],
        });
        let unwritable = json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "NamespacedValidatingPolicy",
            "metadata": {"name": "unwritable", "namespace": "bank-ci"},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "true"}],
            },
        });
        world.apply(&unwritable.to_string()).await?;
        let words = ["NamespacedValidatingPolicy bank-ci/unwritable", "takes in no webhook"];
        says_of(world, BANK, "Unknown NotJudged", &words).await?;
        // What stands goes on to verify, and no new key is acknowledged.
        let current = world.ring(BANK, "{.status.currentVersion}").await?;
        world.ask_for_rotation(BANK, "frozen").await?;
        let silent = world.wait_for_condition(BANK, "PolicyEnforced", "Unknown GateSilent").await?;
        ensure!(silent.contains("cannot write its webhook anew"), "{silent}");
        // Of the other kind it stands, and none is written for a ring.
        is_complete(world).await?;
        ensure!(world.ring(BANK, "{.status.currentVersion}").await? == current);
        ensure!(!admits_in(world, ENROLLED, &[]).await?);

        // The whole is gone, as where Kyverno was scaled to nothing for a while.
        let api: Api<ValidatingWebhookConfiguration> = Api::all(world.client().await?);
        api.delete(VALIDATING, &DeleteParams::default()).await?;
        let words = [OWN_WEBHOOK, "by which images are verified"];
        let missing = world.wait_for_condition(BANK, "EnforcementComplete", "False WebhookMissing");
        let missing = missing.await?;
        ensure!(words.iter().all(|word| missing.contains(word)), "{missing}");
        // The other kind lacks what looks after the verification.
        says(world, "False WebhookMissing", &["validate.kyverno.svc-fail"]).await?;
        ensure!(admits_in(world, ENROLLED, &[]).await?);
        let enforced = world.wait_for_condition(BANK, "PolicyEnforced", "False GateOpen").await?;
        println!("PolicyEnforced {enforced}");
        ensure!(enforced.contains("OPEN"), "{enforced}");
        let is_open = format!("signingkeyring_gate_state{{policy=\"{POLICY}\",state=\"open\"}} 1");
        let metrics = turn::metrics(shared).await?;
        ensure!(metrics.contains(&is_open), "{metrics}");
        let kind = "namespacedvalidatingpolicies.policies.kyverno.io";
        world.kubectl(&["delete", kind, "unwritable", "-n", "bank-ci"]).await?;
        world.wait_for_field(BANK, "{.status.observedRotation}", "frozen").await?;
        is_complete_for(world, BANK).await?;
        is_complete(world).await?;
        ensure!(!admits_in(world, ENROLLED, &[]).await?);
        Ok(())
    });
}

#[test]
fn selectors_of_the_settings_reach_it_and_conditions_do_not() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins_with_both(world).await?;
        let none = json!([]);
        // The chart's commented example.
        let objects = json!({"matchExpressions": [
            {"key": "webhooks.kyverno.io/exclude", "operator": "DoesNotExist"},
        ]});
        set(world, "webhooks", &webhooks(&none, Some(objects))).await?;
        let words = ["!webhooks.kyverno.io/exclude", OWN_WEBHOOK];
        says_of(world, BANK, "False PodsLeftOut", &words).await?;
        let excluded = "--labels=webhooks.kyverno.io/exclude=yes";
        ensure!(admits_in(world, ENROLLED, &[excluded]).await?);
        ensure!(!admits_in(world, ENROLLED, &[]).await?);

        let namespaces = json!([{"key": "stage", "operator": "NotIn", "values": ["sandbox"]}]);
        set(world, "webhooks", &webhooks(&namespaces, None)).await?;
        let label = ["label", "--overwrite", "namespace", ENROLLED];
        world.kubectl(&[&label[..], &["stage=sandbox"]].concat()).await?;
        // What it selects by the policy is not among what leaves the namespace out.
        let words = [ENROLLED, "stage!=sandbox", OWN_WEBHOOK];
        says_of(world, BANK, "False NamespacesLeftOut", &words).await?;
        let text = world.condition(BANK, "EnforcementComplete").await?;
        ensure!(!text.contains("signing-gate"), "{text}");
        ensure!(admits_in(world, ENROLLED, &[]).await?);
        world.kubectl(&[&label[..], &["stage-"]].concat()).await?;
        set(world, "webhooks", &webhooks(&none, None)).await?;
        is_complete_for(world, BANK).await?;

        // Kyverno gives those of its ConfigMap to webhooks of the other kind alone.
        let conditions =
            json!([{"name": "theirs", "expression": "request.userInfo.username != 'x'"}]);
        set(world, "matchConditions", &conditions.to_string()).await?;
        says(world, "Unknown NotJudged", &["theirs"]).await?;
        is_complete_for(world, BANK).await?;
        ensure!(!admits_in(world, ENROLLED, &[]).await?);
        set(world, "matchConditions", "").await?;
        is_complete(world).await
    });
}

#[test]
fn failures_that_are_ignored_and_an_exception() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins_with_both(world).await?;
        shared.cluster.restart_with("kyverno", &["--forceFailurePolicyIgnore=true"]).await?;
        let ignored = OWN_WEBHOOK.replace("svc-fail", "svc-ignore");
        let said = says_of(world, BANK, "False FailuresIgnored", &[&ignored]).await;

        // The chart's features.policyExceptions.
        let flags = ["--enablePolicyException=true", "--exceptionNamespace=*"];
        shared.cluster.restart_with("kyverno", &flags).await?;
        let seen = async {
            said?;
            is_complete_for(world, BANK).await?;
            let exception = |kind: &str| {
                json!({
                    "apiVersion": "policies.kyverno.io/v1", "kind": "PolicyException",
                    "metadata": {"name": "let-me", "namespace": "bank-ci"},
                    "spec": {
                        "policyRefs": [{"name": POLICY, "kind": kind}],
                        // The gate does not notice it.
                        "matchConditions": [{
                            "name": "here",
                            "expression": format!("request.namespace == '{ENROLLED}'"),
                        }],
                    },
                })
                .to_string()
            };
            // One of another kind is of no policy of the operator's.
            world.apply(&exception("ValidatingPolicy")).await?;
            world.ask_for_rotation(BANK, "meanwhile").await?;
            world.wait_for_field(BANK, "{.status.observedRotation}", "meanwhile").await?;
            is_complete_for(world, BANK).await?;
            world.apply(&exception("ImageValidatingPolicy")).await?;
            let words = ["PolicyException bank-ci/let-me", POLICY];
            says_of(world, BANK, "False RuleExcepted", &words).await?;
            wait_until("Kyverno heeds it", async || admits_in(world, ENROLLED, &[]).await).await?;
            let enforced = world.condition(BANK, "PolicyEnforced").await?;
            ensure!(enforced.starts_with("True Enforced"), "{enforced}");
            is_complete(world).await
        };
        let seen = seen.await.context("where Kyverno heeds exceptions");
        let delete = ["delete", "--ignore-not-found", "policyexceptions.policies.kyverno.io"];
        world.kubectl(&[&delete[..], &["let-me", "-n", "bank-ci"]].concat()).await?;
        shared.cluster.restart_with("kyverno", &[]).await?;
        seen?;
        is_complete_for(world, BANK).await?;
        ensure!(!admits_in(world, ENROLLED, &[]).await?);
        Ok(())
    });
}
