//! Kyverno was told to leave out what the operator asks, or is gone: nothing is
//! said that is not known.

use anyhow::{Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, wait_until},
};

use crate::{
    rotates,
    turn::{in_turn, in_turn_only},
};

/// Gives Kyverno its settings for as long as something takes.
async fn told(
    world: &World,
    setting: &str,
    value: &str,
    during: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let settings = |data| {
        let metadata = json!({"name": "kyverno", "namespace": "kyverno"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    };
    world.apply(&settings(json!({setting: value})).to_string()).await?;
    let result = during().await;
    // Kyverno goes on with its defaults.
    world.kubectl(&["delete", "configmap", "kyverno", "-n", "kyverno"]).await?;
    result
}

/// With this setting the gate cannot be asked, images are verified, and the
/// condition says what is known, until the setting is gone.
async fn cannot_ask(
    world: &World,
    ring: &str,
    setting: &str,
    value: &str,
    word: &str,
) -> Result<()> {
    world.ready_ring(ring).await?;
    let unsigned = world.push(&format!("{ring}/app"), "v1").await?;
    told(world, setting, value, async || {
        let text = world.wait_for_condition(ring, "PolicyEnforced", "Unknown GateSilent").await?;
        ensure!(text.contains(word), "{text}");
        ensure!(!text.contains("OPEN") && !text.contains("CLOSED"), "{text}");
        let verdict = world.admit(&format!("{ring}-dev"), &unsigned).await?;
        ensure!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
        world.ask_for_rotation(ring, "next").await?;
        wait_until("the rotation says what it waits for", async || {
            Ok(world.condition(ring, "Reconciling").await?.contains(word))
        })
        .await
    })
    .await?;
    world.wait_for_field(ring, "{.status.observedRotation}", "next").await?;
    world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    rotates(world, ring).await
}

#[test]
fn its_webhooks_leave_out_the_namespace() {
    in_turn(async |shared| {
        let value = r#"{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["ASKED"]}]}}"#;
        let value = value.replace("ASKED", Kind::under_test().asked_in());
        cannot_ask(&shared.world, "skipped", "webhooks", &value, "namespaceSelector").await
    });
}

#[test]
fn it_filters_the_namespace() {
    in_turn(async |shared| {
        let value = format!("[*/*,{},*]", Kind::under_test().asked_in());
        cannot_ask(&shared.world, "filtered", "resourceFilters", &value, "resourceFilters").await
    });
}

#[test]
fn it_excludes_the_user() {
    in_turn(async |shared| {
        let value = "system:serviceaccount:signing-system:*";
        cannot_ask(&shared.world, "excluded", "excludeUsernames", value, "excludeUsernames").await
    });
}

#[test]
fn only_its_mutating_webhooks_are_gone() {
    let why = "the other is asked by its validating webhooks";
    in_turn_only(Kind::ClusterPolicy, why, async |shared| {
        let world = &shared.world;
        world.ready_ring("half").await?;
        let unsigned = world.push("half/app", "v1").await?;
        // So that it cannot put them back.
        shared.cluster.stop("kyverno").await?;
        let name = "kyverno-resource-mutating-webhook-cfg";
        world.kubectl(&["delete", "mutatingwebhookconfiguration", name]).await?;
        let text = world.wait_for_condition("half", "PolicyEnforced", "Unknown GateSilent").await?;
        ensure!(!text.contains("OPEN") && !text.contains("CLOSED"), "{text}");
        ensure!(world.admit("half-dev", &unsigned).await? != Verdict::Admitted);
        shared.cluster.start_again("kyverno").await?;
        rotates(world, "half").await
    });
}

/// What a ring that only audits says, and whether its pods are admitted.
async fn audited(world: &World, ring: &str) -> Result<(String, bool)> {
    let text = world.condition(ring, "PolicyEnforced").await?;
    let image = world.push(&format!("{ring}/app"), "v1").await?;
    let admitted = world.admit(&format!("{ring}-dev"), &image).await? == Verdict::Admitted;
    Ok((text, admitted))
}

#[test]
fn it_is_down_and_its_failures_are_ignored() {
    in_turn(async |shared| {
        let world = &shared.world;
        let allow = "signing.odj.cloud/allow-unenforced-deletion=true";
        world.kubectl(&["annotate", "skr", "--all", allow]).await?;
        world.kubectl(&["delete", "skr", "--all"]).await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("audited")).await?;
        let audit = "  policy: {action: Audit}\n";
        world.apply(&signingkeyring_e2e_testbed::world::manifest("audited", audit)).await?;
        world.wait_for_condition("audited", "Ready", "True").await?;
        // The policy of the rings that are gone may keep Kyverno's other webhook.
        let (half, wanted) = match Kind::under_test() {
            Kind::ClusterPolicy => ("mutating", "mutate.kyverno.svc-ignore".to_owned()),
            kind => {
                let prefix = "ivpol.validate.kyverno.svc-ignore-finegrained";
                ("validating", format!("{prefix}-{}", kind.audit(1)))
            }
        };
        wait_until("no webhook of Kyverno's refuses pods", async || {
            let kind = format!("{half}webhookconfiguration");
            let name = format!("kyverno-resource-{half}-webhook-cfg");
            // Labels that name no ring any more may have one that ignores failures, too.
            let names = world.get(&[&kind, &name], "{.webhooks[*].name}").await?;
            Ok(names.contains(&wanted) && !names.contains("svc-fail"))
        })
        .await?;
        shared.cluster.stop("kyverno").await?;
        world.wait_for_condition("audited", "PolicyEnforced", "Unknown GateSilent").await?;
        let (text, admitted) = audited(world, "audited").await?;
        ensure!(admitted, "{text}");
        if Kind::under_test() == Kind::ClusterPolicy {
            ensure!(text.contains("it does not answer") && text.contains("refuses none"), "{text}");
        }
        ensure!(!text.contains("OPEN") && !text.contains("CLOSED"), "{text}");
        shared.cluster.start_again("kyverno").await?;
        world.wait_for_condition("audited", "PolicyEnforced", "True").await?;

        if Kind::under_test() != Kind::ClusterPolicy {
            // Each policy has a webhook of its own.
            return Ok(());
        }
        // Beside a ring that enforces, Kyverno's webhook refuses all pods.
        world.ready_ring("enforced").await?;
        shared.cluster.stop("kyverno").await?;
        world.wait_for_condition("audited", "PolicyEnforced", "False GateMute").await?;
        let (text, admitted) = audited(world, "audited").await?;
        ensure!(!admitted && text.contains("CLOSED"), "{text}");
        shared.cluster.start_again("kyverno").await?;
        world.wait_for_condition("audited", "PolicyEnforced", "True").await?;
        Ok(())
    });
}
