//! A gate that opens or falls silent is seen, named, and waited for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, wait_until},
};

use crate::{
    common::Shared,
    turn::{self, in_turn, in_turn_only},
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
            metrics.contains(&format!(
                "signingkeyring_gate_state{{policy=\"{}\",state=\"answered\"}} 1",
                Kind::under_test().enforce(1)
            )),
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
fn without_the_webhooks_that_do_not_verify_pods_are_still_refused() {
    in_turn(async |shared| {
        let others = match Kind::under_test() {
            Kind::ClusterPolicy => VALIDATING,
            Kind::ImageValidatingPolicy => MUTATING,
        };
        webhooks_gone(shared, "open-others", &[others], "GateMute").await
    });
}

#[test]
fn without_the_validating_webhooks_nothing_verifies_last() {
    in_turn_only(Kind::ImageValidatingPolicy, "its validating half verifies", async |shared| {
        webhooks_gone(shared, "open-last", &[VALIDATING], "GateOpen").await
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
        // So long that it is seen on its way.
        world.apply(&manifest("deleted", "").replace("{soak: 1s}", "{soak: 6s}")).await?;
        let policy = world.ring("deleted", "{.status.policy.name}").await?;
        world.ask_for_rotation("deleted", "next").await?;
        world.wait_for_field("deleted", "{.status.versions[0].state}", "Pending").await?;
        world.kubectl(&["delete", Kind::of(&policy).resource(), &policy]).await?;
        world.wait_for_field("deleted", "{.status.observedRotation}", "next").await?;
        ensure!(
            world.get(&[Kind::of(&policy).resource(), &policy], "{.kind}").await?
                == Kind::of(&policy).as_str()
        );
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
        let kind = Kind::under_test();
        let crd = format!("{}.{}", kind.plural(), kind.group());
        world.kubectl(&["delete", "crd", &crd]).await?;
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
        let kind = Kind::under_test();
        let name = kind.audit(1);
        let foreign = match kind {
            Kind::ClusterPolicy => {
                "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: NAME}, spec: {background: false, \
                 rules: [{name: theirs, match: {any: [{resources: {kinds: [ConfigMap]}}]}, validate: {message: theirs, deny: {}}}]}}"
            }
            Kind::ImageValidatingPolicy => {
                "{apiVersion: policies.kyverno.io/v1, kind: ImageValidatingPolicy, metadata: {name: NAME}, spec: {validationActions: [Audit], \
                 matchConstraints: {resourceRules: [{apiGroups: [theirs], apiVersions: [v1], operations: [CREATE], resources: [theirs]}]}, \
                 attestors: [{name: theirs, cosign: {key: {data: theirs}}}], validations: [{expression: 'true'}]}}"
            }
        };
        world.apply(&foreign.replace("NAME", &name)).await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("foreign")).await?;
        world
            .apply(&signingkeyring_e2e_testbed::world::manifest(
                "foreign",
                "  policy: {action: Audit}\n",
            ))
            .await?;
        let text =
            world.wait_for_condition("foreign", "PolicyEnforced", "False PolicyConflict").await?;
        ensure!(text.contains(&format!("kubectl delete {} {name}", kind.resource())), "{text}");
        ensure!(world.policy(&name).await?["spec"].to_string().contains("theirs"));
        ensure!(
            world.ring("foreign", "{.status.currentVersion}").await?.is_empty(),
            "a key was handed out"
        );
        world.kubectl(&["delete", kind.resource(), &name]).await?;
        world.wait_for_condition("foreign", "Ready", "True").await?;
        Ok(())
    });
}

#[test]
fn a_policy_deleted_while_kyverno_is_down_comes_back_with_it() {
    let why = "Kyverno takes no policy of the other while it is down";
    in_turn_only(Kind::ClusterPolicy, why, async |shared| {
        let world = &shared.world;
        world.ready_ring("gone").await?;
        let unsigned = world.push("gone/app", "v1").await?;
        let policy = world.ring("gone", "{.status.policy.name}").await?;
        shared.cluster.stop("kyverno").await?;
        world.kubectl(&["delete", Kind::of(&policy).resource(), &policy]).await?;
        seen_within_15_s(world, "gone", "False GateMute").await?;
        ensure!(world.admit("gone-dev", &unsigned).await? != Verdict::Admitted);
        recover(shared, "gone").await?;
        world.wait_until_refused("gone-dev", &unsigned).await
    });
}
