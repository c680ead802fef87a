//! A kind of policy that the API serves and that takes no changes any more, as Kyverno
//! ends one, or that Kyverno does not load: a ring says so before it has to rotate, and
//! moves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;
mod older;
mod pins;
#[path = "../faults/turn.rs"]
mod turn;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use tokio::time::sleep;

use common::takes_long;
use turn::in_turn;

/// Stands in for a Kyverno that refuses changes of ClusterPolicies.
const ENDS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: cluster-policies-end}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [kyverno.io], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [clusterpolicies]}
  validations: [{expression: 'false', message: ClusterPolicy has come to its end}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: cluster-policies-end}
spec: {policyName: cluster-policies-end, validationActions: [Deny]}
";

async fn placed(world: &World, ring: &str) -> Result<String> {
    world.ring(ring, "{.status.policy.kind}").await
}

#[test]
fn a_kind_that_takes_no_changes_is_said_and_left() {
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        for ring in ["frozen", "auto"] {
            world.apply(&namespaces(ring)).await?;
            world.apply(&manifest(ring, "")).await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
            ensure!(placed(world, ring).await? == "ClusterPolicy");
        }
        let [signed, unsigned] = ["app", "unsigned"].map(|name| format!("frozen/{name}"));
        let signed = world.push(&signed, "v1").await?;
        world.sign(&signed, "frozen-ci/image-signing").await?;
        let unsigned = world.push(&unsigned, "v1").await?;

        // Nothing is asked of the ring, and it says so all the same.
        world.apply(ENDS).await?;
        let said = world.wait_for_condition("frozen", "Ready", "False CannotRotate").await?;
        ensure!(said.contains("ClusterPolicy has come to its end"), "{said}");
        ensure!(
            world.condition("frozen", "PolicyEnforced").await?.starts_with("True Enforced"),
            "what is in force stays"
        );
        world.do_as_told(&said).await?;
        wait_until("the ring is in the other kind", async || {
            Ok(placed(world, "frozen").await? == "ImageValidatingPolicy")
        })
        .await?;
        world.wait_until_refused("frozen-dev", &unsigned).await?;
        world.wait_until_admitted("frozen-dev", &signed).await?;

        // The others go by themselves where the operator is let.
        turn::kill(shared).await?;
        turn::start(shared, &["--policy-kind=Auto"]).await?;
        wait_until("the other ring is there as well", async || {
            Ok(placed(world, "auto").await? == "ImageValidatingPolicy")
        })
        .await?;
        let because = world.ring("auto", "{.status.policy.because}").await?;
        ensure!(because.contains("--policy-kind=Auto"), "{because}");
        // The policy that both have left holds no ring any more, and can be deleted.
        for ring in ["frozen", "auto"] {
            world.rotate(ring, "b").await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        world.wait_until_admitted("frozen-dev", &signed).await?;
        world.wait_until_refused("frozen-dev", &unsigned).await?;
        // A ring that comes goes where it can.
        world.apply(&namespaces("late")).await?;
        world.apply(&manifest("late", "")).await?;
        world.wait_for_condition("late", "Ready", "True").await?;
        ensure!(placed(world, "late").await? == "ImageValidatingPolicy");

        // What works is not moved back.
        for object in ["binding", ""] {
            let kind = format!("validatingadmissionpolicy{object}");
            world.kubectl(&["delete", &kind, "cluster-policies-end"]).await?;
        }
        world.rotate("late", "b").await?;
        ensure!(placed(world, "late").await? == "ImageValidatingPolicy");
        Ok(())
    });
}

/// Stands in for a Kyverno that does not load ClusterPolicies: it serves only those that
/// it has noted to be ready, and here it may not note that of any.
const NONE_READY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-cluster-policy-gets-ready}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [kyverno.io], apiVersions: ['*'], operations: [UPDATE], resources: [clusterpolicies/status]}
  validations:
  - expression: \"!object.?status.conditions.orValue([]).exists(c, c.type == 'Ready' && c.status == 'True')\"
    message: none gets ready
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-cluster-policy-gets-ready}
spec: {policyName: no-cluster-policy-gets-ready, validationActions: [Deny]}
";

/// Notes of a ClusterPolicy that it is ready, or is not.
async fn note_ready(world: &World, policy: &str, ready: bool) -> Result<String> {
    let status = if ready { "True" } else { "False" };
    let note = json!({"status": {"conditions": [{"type": "Ready", "status": status,
        "reason": "Noted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let patch = format!("--patch={note}");
    let arguments = ["patch", "clusterpolicy", policy, "--subresource=status", "--type=merge"];
    world.kubectl(&[&arguments[..], &[&patch]].concat()).await
}

#[test]
fn a_kind_that_kyverno_does_not_load_is_said_and_left() {
    if !takes_long("what is not heard of for a minute does not count as loaded") {
        return;
    }
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &["--policy-kind=Auto"]).await?;
        let asked = "  policy: {kind: ClusterPolicy}\n";
        for (ring, spec) in [("unloaded", asked), ("unheard", "")] {
            world.apply(&namespaces(ring)).await?;
            world.apply(&manifest(ring, spec)).await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
            ensure!(placed(world, ring).await? == "ClusterPolicy");
        }
        let signed = world.push("unloaded/app", "v1").await?;
        world.sign(&signed, "unloaded-ci/image-signing").await?;
        let unsigned = world.push("unloaded/unsigned", "v1").await?;
        world.wait_until_refused("unloaded-dev", &unsigned).await?;

        world.apply(NONE_READY).await?;
        let policies = world.get(&["clusterpolicies"], "{.items[*].metadata.name}").await?;
        for policy in policies.split_whitespace() {
            wait_until("nothing is noted to be ready any more", async || {
                let refused = note_ready(world, policy, true).await.err();
                Ok(refused.is_some_and(|error| error.to_string().contains("none gets ready")))
            })
            .await?;
            note_ready(world, policy, false).await?;
        }
        // That is what it is about: the API goes on to serve it, and nothing is verified.
        world.wait_until_admitted("unloaded-dev", &unsigned).await?;
        let said = world.wait_for_condition("unloaded", "PolicyEnforced", "Unknown GateSilent");
        said.await?;
        // The one goes where the operator has it go, the other where it is told to.
        let said = world.wait_for_condition("unloaded", "Ready", "False CannotRotate").await?;
        ensure!(said.contains("answers for none of the operator's policies"), "{said}");
        wait_until("the ring that names no kind is in the other", async || {
            Ok(placed(world, "unheard").await? == "ImageValidatingPolicy")
        })
        .await?;
        let because = world.ring("unheard", "{.status.policy.because}").await?;
        ensure!(because.contains("--policy-kind=Auto"), "{because}");
        ensure!(placed(world, "unloaded").await? == "ClusterPolicy", "it asks for it");
        world.do_as_told(&said).await?;
        world.wait_until_refused("unloaded-dev", &unsigned).await?;
        world.wait_until_admitted("unloaded-dev", &signed).await?;
        for ring in ["unloaded", "unheard"] {
            world.rotate(ring, "b").await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        for object in ["binding", ""] {
            let kind = format!("validatingadmissionpolicy{object}");
            world.kubectl(&["delete", &kind, "no-cluster-policy-gets-ready"]).await?;
        }
        turn::kill(shared).await
    });
}

/// Longer than it takes for a kind to count as not loaded, and for that to be looked at.
const LONG_SILENCE: Duration = Duration::from_secs(100);

/// What is to be mended is the namespace, however long that takes.
#[test]
fn a_namespace_in_which_nothing_can_be_asked_says_nothing_of_a_kind() {
    if !takes_long("what is not heard of for a minute does not count as loaded") {
        return;
    }
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        world.apply(&namespaces("nowhere")).await?;
        let spec = "  policy: {kind: ImageValidatingPolicy}\n";
        world.apply(&manifest("nowhere", spec)).await?;
        world.wait_for_condition("nowhere", "Ready", "True").await?;

        let label = ["label", "namespace", "signing-probe", "signing.odj.cloud/ring-"];
        world.kubectl(&label).await?;
        let ready = async |begins: &str| world.wait_for_condition("nowhere", "Ready", begins).await;
        let said = ready("Unknown GateSilent").await?;
        let since = Instant::now();
        while since.elapsed() < LONG_SILENCE {
            ensure!(world.condition("nowhere", "Ready").await? == said);
            sleep(Duration::from_secs(1)).await;
        }
        ensure!(said.contains("namespace signing-probe, and that has not the label"), "{said}");
        world.do_as_told(&said).await?;
        ready("True").await?;
        world.rotate("nowhere", "b").await?;
        turn::kill(shared).await
    });
}
