//! A gate that opens or falls silent is seen, named, and waited for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{World, wait_until},
};

use crate::{
    common::Shared,
    turn::{self, in_turn},
};

const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";

/// Waits for a condition and holds the operator to its promise of 15 seconds.
async fn seen_within_15_s(world: &World, ring: &str, wanted: &str) -> Result<String> {
    let start = Instant::now();
    let text = world.wait_for_condition(ring, "PolicyEnforced", wanted).await?;
    ensure!(start.elapsed() < Duration::from_secs(15), "{wanted} took {:?}", start.elapsed());
    Ok(text)
}

async fn delete_webhooks(world: &World, kinds: &[&str]) -> Result<()> {
    for kind in kinds {
        world
            .kubectl(&["delete", kind, "--selector=webhook.kyverno.io/managed-by=kyverno"])
            .await?;
    }
    Ok(())
}

/// Starts Kyverno again and waits until the ring is well.
async fn recover(shared: &Shared, ring: &str) -> Result<()> {
    shared.cluster.start_again("kyverno").await?;
    shared.world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    shared.world.wait_for_condition(ring, "Ready", "True").await?;
    Ok(())
}

#[test]
fn kyverno_down_at_rest_is_unreachable_and_closed() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("unreachable").await?;
        let unsigned = world.push("unreachable/app", "v1").await?;
        shared.cluster.stop("kyverno").await?;
        let text = seen_within_15_s(world, "unreachable", "False GateMute").await?;
        ensure!(text.contains("CLOSED: Kyverno does not answer"), "{text}");
        ensure!(world.admit("unreachable-dev", &unsigned).await? != Verdict::Admitted);
        recover(shared, "unreachable").await?;
        let metrics = turn::metrics(shared).await?;
        ensure!(
            metrics.contains(
                "signingkeyring_gate_state{policy=\"signing-enforce-0001\",state=\"answered\"} 1"
            ),
            "{metrics}"
        );
        Ok(())
    });
}

#[test]
fn a_rotation_waits_for_kyverno_and_finishes_by_itself() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("waits").await?;
        let key = ["secret", "image-signing", "-n", "waits-ci"];
        let before = world.get(&key, "{.data}").await?;
        shared.cluster.stop("kyverno").await?;
        world.ask_for_rotation("waits", "next").await?;
        world.wait_for_field("waits", "{.status.versions[0].state}", "Pending").await?;
        wait_until("the rotation says what it waits for", async || {
            Ok(world
                .condition("waits", "Reconciling")
                .await?
                .contains("version 2 is pending: CLOSED"))
        })
        .await?;
        ensure!(world.get(&key, "{.data}").await? == before, "the signer was switched");
        shared.cluster.start_again("kyverno").await?;
        world.wait_for_field("waits", "{.status.observedRotation}", "next").await?;
        ensure!(world.get(&key, "{.data}").await? != before);
        recover(shared, "waits").await
    });
}

/// Kyverno is down, so that it cannot put back what is deleted.
async fn webhooks_gone(shared: &Shared, ring: &str, kinds: &[&str], wanted: &str) -> Result<()> {
    let world = &shared.world;
    world.ready_ring(ring).await?;
    let unsigned = world.push(&format!("{ring}/app"), "v1").await?;
    shared.cluster.stop("kyverno").await?;
    delete_webhooks(world, kinds).await?;
    let text = seen_within_15_s(world, ring, &format!("False {wanted}")).await?;
    let verdict = world.admit(&format!("{ring}-dev"), &unsigned).await?;
    let open = wanted == "GateOpen";
    ensure!(text.contains(if open { "OPEN:" } else { "CLOSED:" }), "{text}");
    ensure!((verdict == Verdict::Admitted) == open, "{text}: {verdict:?}");
    world.ask_for_rotation(ring, "next").await?;
    world.wait_for_field(ring, "{.status.versions[0].state}", "Pending").await?;
    recover(shared, ring).await?;
    world.wait_for_field(ring, "{.status.observedRotation}", "next").await?;
    world.wait_until_refused(&format!("{ring}-dev"), &unsigned).await
}

#[test]
fn without_any_webhooks_the_gate_is_open() {
    in_turn(async |shared| {
        webhooks_gone(shared, "open-both", &[MUTATING, VALIDATING], "GateOpen").await
    });
}

#[test]
fn without_the_validating_webhooks_pods_are_still_refused() {
    in_turn(async |shared| {
        webhooks_gone(shared, "open-validating", &[VALIDATING], "GateMute").await
    });
}

#[test]
fn kyverno_that_runs_puts_its_webhooks_back() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("healed").await?;
        let unsigned = world.push("healed/app", "v1").await?;
        for kinds in [&[MUTATING][..], &[VALIDATING], &[MUTATING, VALIDATING]] {
            world
                .ask_for_rotation("healed", &format!("during-{}-{}", kinds.len(), kinds[0]))
                .await?;
            delete_webhooks(world, kinds).await?;
            world
                .wait_for_field(
                    "healed",
                    "{.status.observedRotation}",
                    &format!("during-{}-{}", kinds.len(), kinds[0]),
                )
                .await?;
            world.wait_for_condition("healed", "PolicyEnforced", "True").await?;
            world.wait_until_refused("healed-dev", &unsigned).await?;
        }
        Ok(())
    });
}

#[test]
fn a_policy_deleted_in_the_middle_of_a_rotation_comes_back_first() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("deleted").await?;
        let policy = world.ring("deleted", "{.status.policy.name}").await?;
        world.ask_for_rotation("deleted", "next").await?;
        world.wait_for_field("deleted", "{.status.versions[0].state}", "Pending").await?;
        world.kubectl(&["delete", "clusterpolicy", &policy]).await?;
        world.wait_for_field("deleted", "{.status.observedRotation}", "next").await?;
        ensure!(world.get(&["clusterpolicy", &policy], "{.kind}").await? == "ClusterPolicy");
        world.wait_for_condition("deleted", "Ready", "True").await?;
        Ok(())
    });
}

#[test]
fn a_cluster_without_kyverno_says_so_and_heals() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("bare").await?;
        shared.cluster.stop("kyverno").await?;
        delete_webhooks(world, &[MUTATING, VALIDATING]).await?;
        world.kubectl(&["delete", "crd", "clusterpolicies.kyverno.io"]).await?;
        let text = seen_within_15_s(world, "bare", "False KyvernoMissing").await?;
        ensure!(text.contains("Install Kyverno"), "{text}");
        world.ask_for_rotation("bare", "next").await?;
        world.wait_for_field("bare", "{.status.versions[0].state}", "Pending").await?;
        recover(shared, "bare").await?;
        world.wait_for_field("bare", "{.status.observedRotation}", "next").await?;
        Ok(())
    });
}

#[test]
fn a_foreign_policy_is_left_alone_and_reported() {
    in_turn(async |shared| {
        let world = &shared.world;
        let foreign = "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: signing-audit-0001}, spec: {background: false, \
                       rules: [{name: theirs, match: {any: [{resources: {kinds: [ConfigMap]}}]}, validate: {message: theirs, deny: {}}}]}}";
        world.apply(foreign).await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("foreign")).await?;
        world
            .apply(&signingkeyring_e2e_testbed::world::manifest(
                "foreign",
                "  policy: {action: Audit}\n",
            ))
            .await?;
        let text =
            world.wait_for_condition("foreign", "PolicyEnforced", "False PolicyConflict").await?;
        ensure!(text.contains("kubectl delete clusterpolicy signing-audit-0001"), "{text}");
        ensure!(
            world.get(&["clusterpolicy", "signing-audit-0001"], "{.spec.rules[*].name}").await?
                == "theirs"
        );
        ensure!(
            world.ring("foreign", "{.status.currentVersion}").await?.is_empty(),
            "a key was handed out"
        );
        world.kubectl(&["delete", "clusterpolicy", "signing-audit-0001"]).await?;
        world.wait_for_condition("foreign", "Ready", "True").await?;
        Ok(())
    });
}

#[test]
fn a_policy_deleted_while_kyverno_is_down_comes_back_with_it() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("gone").await?;
        let unsigned = world.push("gone/app", "v1").await?;
        let policy = world.ring("gone", "{.status.policy.name}").await?;
        shared.cluster.stop("kyverno").await?;
        world.kubectl(&["delete", "clusterpolicy", &policy]).await?;
        seen_within_15_s(world, "gone", "False GateMute").await?;
        ensure!(world.admit("gone-dev", &unsigned).await? != Verdict::Admitted);
        recover(shared, "gone").await?;
        world.wait_until_refused("gone-dev", &unsigned).await
    });
}
