//! The operator may do what it needs and nothing else.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{manifest, wait_until};

use crate::common::run;

#[test]
fn consent_is_asked_for_and_the_message_grants_it() {
    run(async |shared| {
        let world = &shared.world;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: asks-closed}}").await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("asks")).await?;
        let pipelines = "[{namespace: asks-ci}, {namespace: asks-closed, secretName: other-name}, {namespace: asks-missing}]";
        world.apply(&manifest("asks", "").replace("[{namespace: asks-ci}]", pipelines)).await?;
        let text = world
            .wait_for_condition("asks", "PipelinesPublished", "False AccessNotGranted")
            .await?;
        ensure!(
            text.contains("asks-missing/image-signing: the namespace does not exist"),
            "{text}"
        );
        // The others are served all the same, and signing goes on.
        world.wait_for_field("asks", "{.status.currentVersion}", "1").await?;
        ensure!(
            world.get(&["secret", "image-signing", "-n", "asks-ci"], "{.kind}").await? == "Secret"
        );

        // What the message says is what one runs.
        let from =
            text.find("kubectl create rolebinding").ok_or_else(|| anyhow::anyhow!("{text}"))?;
        let commands = text[from..].split(';').next().unwrap_or_default();
        for command in commands.split(" && ") {
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            world.kubectl(&words).await?;
        }
        world.kubectl(&["create", "namespace", "asks-missing"]).await?;
        world
            .kubectl(&[
                "create",
                "rolebinding",
                "p",
                "-n",
                "asks-missing",
                "--clusterrole=signingkeyring-pipeline",
                "--serviceaccount=signing-system:signingkeyring-operator",
            ])
            .await?;
        world.wait_for_condition("asks", "PipelinesPublished", "True Published").await?;
        ensure!(
            world.get(&["secret", "other-name", "-n", "asks-closed"], "{.kind}").await? == "Secret"
        );
        Ok(())
    });
}

#[test]
fn consent_that_was_withdrawn_holds_up_a_rotation_until_the_pipeline_is_taken_out() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("withdrawn").await?;
        world
            .kubectl(&["delete", "rolebinding", "signingkeyring-pipeline", "-n", "withdrawn-ci"])
            .await?;
        world.ask_for_rotation("withdrawn", "next").await?;
        wait_until("the rotation says what it waits for", async || {
            let text = world.condition("withdrawn", "Reconciling").await?;
            Ok(text.contains("withdrawn-ci/image-signing hold an older key, or may"))
        })
        .await?;
        ensure!(world.ring("withdrawn", "{.status.currentVersion}").await? == "1");

        world
            .apply(&manifest("withdrawn", "").replace("[{namespace: withdrawn-ci}]", "[]"))
            .await?;
        world.wait_for_field("withdrawn", "{.status.observedRotation}", "next").await?;
        let text = world
            .wait_for_condition("withdrawn", "PipelinesPublished", "True SecretLeftBehind")
            .await?;
        ensure!(text.contains("withdrawn-ci/image-signing"), "{text}");
        world.apply(&signingkeyring_e2e_testbed::world::consent("withdrawn-ci")).await?;
        wait_until("the Secret left behind is deleted", async || {
            Ok(world
                .get(&["secret", "image-signing", "-n", "withdrawn-ci"], "{.kind}")
                .await
                .is_err())
        })
        .await
    });
}

#[test]
fn the_operator_has_no_right_it_does_not_use() {
    run(async |shared| {
        let world = &shared.world;
        let can = async |verb: &str, what: &str, namespace: &str| -> Result<bool> {
            let account = "--as=system:serviceaccount:signing-system:signingkeyring-operator";
            let answer =
                world.kubectl(&["auth", "can-i", verb, what, account, "-n", namespace]).await;
            // can-i ends with 1 when the answer is no.
            Ok(answer.is_ok_and(|text| text.trim() == "yes"))
        };
        for verb in ["get", "list", "watch", "create", "patch", "update", "delete"] {
            let may = can(verb, "secrets", "signing-system").await?;
            ensure!(may == (verb != "update"), "{verb} ledgers");
            ensure!(!can(verb, "secrets", "default").await?, "{verb} secrets in default");
            ensure!(!can(verb, "secrets", "kyverno").await?, "{verb} secrets in kyverno");
        }
        for (verb, what) in [
            ("create", "pods"),
            ("delete", "namespaces"),
            ("create", "clusterroles.rbac.authorization.k8s.io"),
            ("create", "signingkeyrings.signing.odj.cloud"),
            ("delete", "signingkeyrings.signing.odj.cloud"),
            ("update", "imageexclusionlists.signing.odj.cloud"),
            ("create", "gatequestions.signing.odj.cloud"),
            ("get", "customresourcedefinitions.apiextensions.k8s.io"),
            ("get", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
            ("get", "validatingwebhookconfigurations.admissionregistration.k8s.io"),
            ("delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
            ("get", "validatingadmissionpolicies.admissionregistration.k8s.io"),
            ("update", "validatingadmissionpolicies.admissionregistration.k8s.io"),
            ("delete", "validatingadmissionpolicybindings.admissionregistration.k8s.io"),
            ("update", "signingkeyrings.signing.odj.cloud"),
            ("enroll", "signingkeyrings.signing.odj.cloud"),
            ("rotate", "signingkeyrings.signing.odj.cloud"),
            ("update", "namespaces"),
            ("impersonate", "users"),
        ] {
            ensure!(!can(verb, what, "default").await?, "{verb} {what}");
        }
        // What shows who is left out is read, and no more.
        for what in [
            "policies.kyverno.io",
            "policyexceptions.kyverno.io",
            "namespacedmutatingpolicies.policies.kyverno.io",
            "namespacedgeneratingpolicies.policies.kyverno.io",
            "namespacedimagevalidatingpolicies.policies.kyverno.io",
            "policyexceptions.policies.kyverno.io",
        ] {
            for (verb, may) in [("list", true), ("watch", true), ("get", false), ("create", false)]
            {
                ensure!(can(verb, what, "default").await? == may, "{verb} {what}");
            }
        }
        for verb in ["get", "list", "watch", "update"] {
            ensure!(!can(verb, "configmaps", "kyverno").await?, "{verb} configmaps");
            ensure!(!can(verb, "configmaps/kyverno", "kyverno").await?, "{verb} Kyverno's");
        }
        let webhooks = "mutatingwebhookconfigurations.admissionregistration.k8s.io/";
        let webhooks = format!("{webhooks}kyverno-resource-mutating-webhook-cfg");
        for (verb, may) in [("list", true), ("watch", true), ("update", false), ("delete", false)] {
            ensure!(can(verb, &webhooks, "default").await? == may, "{verb} {webhooks}");
        }
        let questions = "gatequestions.signing.odj.cloud";
        for (verb, may) in [("create", true), ("get", false), ("update", false)] {
            ensure!(can(verb, questions, "signing-system").await? == may, "{verb} {questions}");
        }
        let told = "unknownrings.signing.odj.cloud";
        for (verb, may) in [("create", true), ("list", false), ("delete", false)] {
            ensure!(can(verb, told, "signing-system").await? == may, "{verb} {told}");
            ensure!(!can(verb, told, "default").await?, "{verb} {told} elsewhere");
        }
        ensure!(!can("create", "pods", "signing-system").await?, "create pods");
        Ok(())
    });
}
