//! Kyverno's webhook configurations, and what its flags make of them.

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::DeleteParams};

use signingkeyring_e2e_testbed::world::{manifest, namespaces, wait_until};

use crate::{admits, begins, is_complete, says, turn::in_turn};

const VALIDATING: &str = "kyverno-resource-validating-webhook-cfg";

#[test]
fn a_webhook_configuration_that_is_taken_away_again_and_again() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let client = world.client().await?;
        let taking_away = tokio::spawn(async move {
            let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
            loop {
                // It may be gone already.
                let _ = api.delete(VALIDATING, &DeleteParams::default()).await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        let said = async {
            let words = ["validate.kyverno.svc-fail", "no reference"];
            says(world, "False WebhookMissing", &words).await?;
            // Kyverno writes it anew each time, and answers.
            let enforced = world.condition("shop", "PolicyEnforced").await?;
            ensure!(enforced.starts_with("True"), "{enforced}");
            let read = async || world.ring("shop", "{.metadata.resourceVersion}").await;
            let before = read().await?;
            tokio::time::sleep(std::time::Duration::from_secs(6)).await;
            ensure!(read().await? == before, "it is not said anew each time");
            anyhow::Ok(())
        };
        let said = said.await;
        taking_away.abort();
        said?;
        is_complete(world).await
    });
}

/// The first of a cluster that enforces, whose webhooks Kyverno has yet to write.
#[test]
fn nothing_is_said_of_webhooks_that_are_about_to_be_written() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let allow = "signing.odj.cloud/allow-unenforced-deletion=true";
        world.kubectl(&["annotate", "skr", "--all", allow]).await?;
        world.kubectl(&["delete", "skr", "--all"]).await?;
        let webhooks = ["mutatingwebhookconfiguration", "kyverno-resource-mutating-webhook-cfg"];
        wait_until("Kyverno has no webhook that fails", async || {
            Ok(!world.get(&webhooks, "{.webhooks[*].name}").await?.contains("svc-fail"))
        })
        .await?;
        world.apply(&namespaces("fresh")).await?;
        world.apply(&manifest("fresh", "  policy: {action: Audit}\n")).await?;
        world.wait_for_condition("fresh", "EnforcementComplete", "True Complete").await?;
        world.wait_for_condition("fresh", "PolicyEnforced", "True Audited").await?;
        world.apply(&manifest("fresh", "  policy: {action: Enforce}\n")).await?;
        world.wait_for_condition("fresh", "PolicyEnforced", "True Enforced").await?;
        world.wait_for_condition("fresh", "EnforcementComplete", "True Complete").await?;
        world.wait_for_field("fresh", "{.status.policy.name}", "signing-enforce-0001").await?;
        world.ready_ring("fresher").await?;
        world.wait_for_condition("fresher", "EnforcementComplete", "True Complete").await?;
        for ring in ["fresh", "fresher"] {
            let of_it = format!("--field-selector=involvedObject.name={ring}");
            let events = world.kubectl(&["get", "events", "-n", "default", &of_it]).await?;
            ensure!(events.contains("VersionMinted"), "{events}");
            ensure!(!events.contains("WebhookMissing"), "{events}");
        }
        Ok(())
    });
}

#[test]
fn one_that_is_gone_while_kyverno_is_down() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        shared.cluster.stop("kyverno").await?;
        world.kubectl(&["delete", "validatingwebhookconfiguration", VALIDATING]).await?;
        let said = world
            .wait_for_condition("shop", "EnforcementComplete", "False WebhookMissing")
            .await
            .context("while it is down");
        shared.cluster.start_again("kyverno").await?;
        println!("EnforcementComplete {}", said?);
        is_complete(world).await
    });
}

#[test]
fn failures_that_are_ignored() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        // The chart's features.forceFailurePolicyIgnore.enabled.
        shared.cluster.restart_with("kyverno", &["--forceFailurePolicyIgnore=true"]).await?;
        let words = ["mutate.kyverno.svc-ignore", "failurePolicy"];
        let said = says(world, "False FailuresIgnored", &words).await;
        shared.cluster.restart_with("kyverno", &[]).await?;
        said?;
        is_complete(world).await?;
        ensure!(!admits(world, &[]).await?);
        Ok(())
    });
}
