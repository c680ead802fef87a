//! Rings that share a policy do not get into each other's way: a refused rule
//! holds up no other, and a policy that grows too large is divided.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{World, manifest, wait_until};

use crate::{
    common::{QUICK, start_operator},
    turn::{self, in_turn},
};

/// Refuses every ClusterPolicy that skips images of a certain host, as a
/// Kyverno that does not like a rule would.
const REFUSAL: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-a-rule}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [kyverno.io], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [clusterpolicies]}
  validations:
  - expression: \"!object.spec.rules.exists(r, has(r.verifyImages) && r.verifyImages.exists(v, has(v.skipImageReferences) && v.skipImageReferences.exists(i, i.startsWith('refused.example/'))))\"
    message: this rule is not liked
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-a-rule}
spec: {policyName: refuse-a-rule, validationActions: [Deny]}
";

fn excluding(ring: &str, images: &[String]) -> String {
    let entries: Vec<String> =
        images.iter().map(|image| format!("{{image: '{image}', reason: test}}")).collect();
    manifest(ring, &format!("  policy: {{exclude: [{}]}}\n", entries.join(", ")))
}

async fn policy(world: &World, ring: &str) -> Result<String> {
    world.ring(ring, "{.status.policy.name}").await
}

#[test]
fn a_refused_rule_holds_up_no_other_ring() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("liked").await?;
        world.ready_ring("unliked").await?;
        ensure!(policy(world, "liked").await? == policy(world, "unliked").await?);
        world.apply(REFUSAL).await?;
        let bait = "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: bait}, spec: {rules: [{name: a, match: {any: [{resources: {kinds: [Pod]}}]}, verifyImages: [{imageReferences: ['*'], skipImageReferences: ['refused.example/*'], attestors: [{entries: [{keys: {publicKeys: k}}]}]}]}]}}";
        wait_until("the refusal is in force", async || {
            let create = ["create", "--dry-run=server", "--filename=-"];
            let result = world.run("kubectl", &create, &[], bait).await;
            Ok(result.is_err_and(|error| format!("{error:#}").contains("not liked")))
        })
        .await?;
        let signed = world.push("unliked/app", "v1").await?;
        world.sign(&signed, "unliked-ci/image-signing").await?;

        // Both change at once; only one of them is refused.
        turn::kill(shared).await?;
        world.apply(&excluding("unliked", &["refused.example/x/*".into()])).await?;
        world.apply(&excluding("liked", &["quay.io/liked/*".into()])).await?;
        turn::start(shared, &[]).await?;
        let text = world.wait_for_condition("unliked", "Stalled", "True PolicyRejected").await?;
        ensure!(text.contains("this rule is not liked"), "{text}");
        world.wait_for_condition("liked", "Ready", "True").await?;
        let name = policy(world, "liked").await?;
        let skipped = async |ring: &str| -> Result<String> {
            let rules = world.rules(&name, ring).await?;
            Ok(rules.iter().map(|rule| rule["verifyImages"].to_string()).collect())
        };
        wait_until("the other ring's rule is written", async || {
            Ok(skipped("liked").await?.contains("quay.io/liked/*"))
        })
        .await?;
        let rule = skipped("unliked").await?;
        ensure!(!rule.contains("refused.example"), "{rule}");
        world.rotate("liked", "b").await?;
        // What was accepted last stays in force for the one that was refused.
        world.wait_until_admitted("unliked-dev", &signed).await?;

        // All but what is revoked meanwhile.
        let revoked = excluding("unliked", &["refused.example/x/*".into()])
            + "  revoked: [{version: 1, reason: test}]\n";
        world.apply(&revoked).await?;
        world.wait_until_refused("unliked-dev", &signed).await?;

        world.apply(&manifest("unliked", "")).await?;
        world.wait_for_condition("unliked", "Ready", "True").await?;
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            world.kubectl(&["delete", kind, "refuse-a-rule"]).await?;
        }
        Ok(())
    });
}

/// A replica that has not made a write itself takes it for done all the same.
#[test]
fn a_rule_that_left_does_not_come_back() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("stays").await?;
        let leaving = ["leaves-a", "leaves-b", "leaves-c", "leaves-d"];
        for ring in leaving {
            world.ready_ring(ring).await?;
        }
        let name = policy(world, "stays").await?;
        let rules = async || world.get(&["clusterpolicy", &name], "{.spec.rules[*].name}").await;
        ensure!(rules().await?.contains("leaves-d"));
        // Either of the two may take a rule out.
        let second = start_operator(world, &QUICK).await?;
        for ring in leaving {
            let namespace = format!("{ring}-dev");
            world.kubectl(&["label", "namespace", &namespace, "signing.odj.cloud/ring-"]).await?;
            world.kubectl(&["delete", "skr", ring, "--timeout=60s"]).await?;
        }
        world.rotate("stays", "b").await?;
        world.rotate("stays", "c").await?;
        let rules = rules().await?;
        ensure!(rules.contains("stays") && !rules.contains("leaves"), "{rules}");
        second.kill().await
    });
}

#[test]
fn a_policy_that_grows_too_large_is_divided() {
    in_turn(async |shared| {
        let world = &shared.world;
        for ring in ["large-a", "large-b", "large-c"] {
            world.ready_ring(ring).await?;
        }
        let together = policy(world, "large-a").await?;
        ensure!(policy(world, "large-c").await? == together);
        // Each ring's rules take some 30 kB, and two do not fit.
        turn::kill(shared).await?;
        let images: Vec<String> =
            (0..40).map(|n| format!("quay.io/{}/{n}:*", "a".repeat(100))).collect();
        for ring in ["large-a", "large-b", "large-c"] {
            world.apply(&excluding(ring, &images)).await?;
        }
        turn::start(shared, &["--bytes-per-policy=50000"]).await?;
        wait_until("the rings are apart", async || {
            let places = [
                policy(world, "large-a").await?,
                policy(world, "large-b").await?,
                policy(world, "large-c").await?,
            ];
            Ok(places[0] != places[1] && places[1] != places[2] && places[0] != places[2])
        })
        .await?;
        for ring in ["large-a", "large-b", "large-c"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
            // A ring that moves is in both policies until the new one answers.
            wait_until("one rule is left in each policy", async || {
                let policy = policy(world, ring).await?;
                Ok(world.get(&["clusterpolicy", &policy], "{.spec}").await?.len() < 60_000)
            })
            .await?;
        }
        for ring in ["large-a", "large-b", "large-c"] {
            world.apply(&manifest(ring, "")).await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}
