//! Webhooks of others that hang: what they say is nothing about Kyverno.

use std::{net::TcpListener, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    tools,
    world::{World, wait_until},
};

use crate::{lives, rotates, turn::in_turn};

/// Who is asked what, and what becomes of it without an answer.
struct Hanging {
    name: &'static str,
    policy: &'static str,
    seconds: u8,
    group: &'static str,
    resource: &'static str,
}

const NAME: &str = "hanging.example.com";

/// A webhook that takes connections and never answers, for as long as something
/// takes.
async fn with(
    world: &World,
    hanging: Hanging,
    during: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    // The kernel takes the connections.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": hanging.name},
        "webhooks": [{
            "name": NAME,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": hanging.policy,
            "timeoutSeconds": hanging.seconds,
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/mutate")},
            "rules": [{
                "apiGroups": [hanging.group], "apiVersions": ["*"], "operations": ["CREATE"],
                "resources": [hanging.resource],
            }],
        }],
    });
    world.apply(&webhook.to_string()).await?;
    let result = during().await;
    world.kubectl(&["delete", "mutatingwebhookconfiguration", hanging.name]).await?;
    result
}

#[test]
fn one_that_is_ignored_for_pods_does_not_matter() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("injected").await?;
        let hanging = Hanging {
            name: "dead-injector",
            policy: "Ignore",
            seconds: 10,
            group: "",
            resource: "pods",
        };
        with(world, hanging, async || {
            rotates(world, "injected").await?;
            lives(world, "injected-late").await
        })
        .await
    });
}

#[test]
fn one_that_refuses_pods_does_not_matter() {
    in_turn(async |shared| {
        let world = &shared.world;
        let hanging = Hanging {
            name: "dead-and-strict",
            policy: "Fail",
            seconds: 1,
            group: "",
            resource: "pods",
        };
        with(world, hanging, async || {
            world.ready_ring("strict").await?;
            world.rotate("strict", "next").await?;
            let text = world.wait_for_condition("strict", "PolicyEnforced", "True").await?;
            ensure!(!text.contains("CLOSED"), "{text}");
            Ok(())
        })
        .await
    });
}

#[test]
fn one_that_slows_down_every_question_is_waited_for() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("slow").await?;
        let hanging = Hanging {
            name: "slow",
            policy: "Ignore",
            seconds: 7,
            group: Kind::under_test().question().0,
            resource: Kind::under_test().question().1,
        };
        with(world, hanging, async || {
            world.rotate("slow", "next").await?;
            world.wait_for_condition("slow", "PolicyEnforced", "True").await?;
            Ok(())
        })
        .await
    });
}

#[test]
fn one_that_refuses_every_question_is_named_and_nothing_is_claimed() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("refused").await?;
        let unsigned = world.push("refused/app", "v1").await?;
        let hanging = Hanging {
            name: "dead-and-everywhere",
            policy: "Fail",
            seconds: 1,
            group: "*",
            resource: Kind::under_test().question().1,
        };
        with(world, hanging, async || {
            let wanted = "Unknown GateUnreadable";
            let text = world.wait_for_condition("refused", "PolicyEnforced", wanted).await?;
            ensure!(text.contains(NAME), "{text}");
            ensure!(!text.contains("CLOSED") && !text.contains("OPEN"), "{text}");
            let verdict = world.admit("refused-dev", &unsigned).await?;
            ensure!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
            world.ask_for_rotation("refused", "next").await?;
            wait_until("the rotation says what it waits for", async || {
                Ok(world.condition("refused", "Reconciling").await?.contains(NAME))
            })
            .await
        })
        .await?;
        world.wait_for_field("refused", "{.status.observedRotation}", "next").await?;
        world.wait_for_condition("refused", "Ready", "True").await?;
        Ok(())
    });
}

/// The id of the process of this cluster's Kyverno.
fn kyverno(world: &World) -> Result<u32> {
    let kubeconfig = format!("--kubeconfig={}", world.info.kubeconfig.display());
    let program = format!("/{}", tools::kyverno());
    let is_it = |id: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        words.next().is_some_and(|word| word.ends_with(&program))
            && words.any(|word| word == kubeconfig)
    };
    let entries = std::fs::read_dir("/proc")?.flatten();
    let mut ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(is_it).context("Kyverno runs")
}

/// That Kyverno hangs is heard from the API server, which names its webhook; no
/// guess of ours comes before that.
#[test]
fn a_kyverno_that_hangs_is_named_by_the_api_server() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("hangs").await?;
        let unsigned = world.push("hangs/app", "v1").await?;
        let process = kyverno(world)?;
        let signal = async |signal: &str| {
            let kill = ["-c", &format!("kill -{signal} {process}")];
            let status = tokio::process::Command::new("sh").args(kill).status().await?;
            ensure!(status.success(), "kill -{signal} {process}");
            Ok::<_, anyhow::Error>(())
        };
        signal("STOP").await?;
        let said = async {
            let text =
                world.wait_for_condition("hangs", "PolicyEnforced", "False GateMute").await?;
            let webhook = Kind::under_test().webhook();
            ensure!(text.contains("CLOSED") && text.contains(webhook), "{text}");
            let verdict = world.admit("hangs-dev", &unsigned).await?;
            ensure!(matches!(verdict, Verdict::Unanswered(_)), "{verdict:?}");
            Ok(())
        };
        let said = tokio::time::timeout(Duration::from_secs(150), said).await;
        signal("CONT").await?;
        said??;
        world.wait_for_condition("hangs", "PolicyEnforced", "True").await?;
        Ok(())
    });
}
