//! Rings that share a policy do not get into each other's way: a refused rule
//! holds up no other, and a policy that grows too large is divided.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, wait_until},
};

use crate::{
    common::{QUICK, start_operator, takes_long},
    turn::{self, in_turn},
};

/// Refuses every policy that skips images of a certain host, as a
/// Kyverno that does not like a rule would.
fn refusal() -> String {
    let kind = Kind::under_test();
    let excludes = match kind {
        Kind::ClusterPolicy => {
            "object.spec.rules.exists(r, has(r.verifyImages) && r.verifyImages.exists(v, has(v.skipImageReferences) && v.skipImageReferences.exists(i, i.startsWith('refused.example/'))))"
        }
        Kind::ImageValidatingPolicy => {
            "object.spec.images.exists(i, i.expression.contains('refused.example/'))"
        }
    };
    REFUSAL
        .replace("GROUP", kind.group())
        .replace("PLURAL", kind.plural())
        .replace("EXCLUDES", excludes)
}

const REFUSAL: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-a-rule}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [GROUP], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [PLURAL]}
  validations:
  - expression: \"!EXCLUDES\"
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

/// Has as many rings born as it takes until some of them share a policy: what other
/// tests have left may fill one with the first of them. Tells these rings and the policy.
async fn sharing(world: &World, name: &str, count: usize) -> Result<(Vec<String>, String)> {
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..20 {
        let ring = format!("{name}-{number}");
        world.ready_ring(&ring).await?;
        let policy = policy(world, &ring).await?;
        let rings = held.entry(policy.clone()).or_default();
        rings.push(ring);
        if rings.len() == count {
            return Ok((rings.clone(), policy));
        }
    }
    bail!("no {count} of them share a policy: {held:?}")
}

#[test]
fn a_refused_rule_holds_up_no_other_ring() {
    in_turn(async |shared| {
        let world = &shared.world;
        let (rings, name) = sharing(world, "liking", 2).await?;
        let (liked, unliked) = (rings[0].as_str(), rings[1].as_str());
        world.apply(&refusal()).await?;
        wait_until("the refusal is in force", async || {
            let kind = Kind::under_test();
            let mut bait = world.policy(&name).await?;
            let place = kind.looked_at(&mut bait, liked).context("no rule")?;
            *place = match kind {
                Kind::ClusterPolicy => json!(["refused.example/*"]),
                Kind::ImageValidatingPolicy => json!("['refused.example/']"),
            };
            let replace = ["replace", "--dry-run=server", "--filename=-"];
            let result = world.run("kubectl", &replace, &[], &bait.to_string()).await;
            Ok(result.is_err_and(|error| format!("{error:#}").contains("not liked")))
        })
        .await?;
        let signed = world.push(&format!("{unliked}/app"), "v1").await?;
        world.sign(&signed, &format!("{unliked}-ci/image-signing")).await?;

        // Both change at once; only one of them is refused.
        turn::kill(shared).await?;
        world.apply(&excluding(unliked, &["refused.example/x/*".into()])).await?;
        world.apply(&excluding(liked, &["quay.io/liked/*".into()])).await?;
        turn::start(shared, &[]).await?;
        let text = world.wait_for_condition(unliked, "Stalled", "True PolicyRejected").await?;
        ensure!(text.contains("this rule is not liked"), "{text}");
        world.wait_for_condition(liked, "Ready", "True").await?;
        let skipped = async |ring: &str| -> Result<String> {
            let policy = world.policy(&name).await?;
            Ok(Kind::of(&name).excluded(&policy["spec"], ring).join(" "))
        };
        wait_until("the other ring's rule is written", async || {
            Ok(skipped(liked).await?.contains("quay.io/liked/"))
        })
        .await?;
        let rule = skipped(unliked).await?;
        ensure!(!rule.contains("refused.example"), "{rule}");
        world.rotate(liked, "b").await?;
        // What was accepted last stays in force for the one that was refused.
        world.wait_until_admitted(&format!("{unliked}-dev"), &signed).await?;

        // All but what is revoked meanwhile.
        let revoked = excluding(unliked, &["refused.example/x/*".into()])
            + "  revoked: [{version: 1, reason: test}]\n";
        world.apply(&revoked).await?;
        world.wait_until_refused(&format!("{unliked}-dev"), &signed).await?;

        world.apply(&manifest(unliked, "")).await?;
        world.wait_for_condition(unliked, "Ready", "True").await?;
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
        let (rings, name) = sharing(world, "leaving", 5).await?;
        let (stays, leaving) = rings.split_first().context("no ring")?;
        // Either of the two may take a rule out.
        let second = start_operator(world, &QUICK).await?;
        for ring in leaving {
            let namespace = format!("{ring}-dev");
            world.kubectl(&["label", "namespace", &namespace, "signing.odj.cloud/ring-"]).await?;
            world.kubectl(&["delete", "skr", ring, "--timeout=60s"]).await?;
        }
        world.rotate(stays, "b").await?;
        world.rotate(stays, "c").await?;
        ensure!(world.keys(&name, stays).await?.is_some());
        for ring in leaving {
            ensure!(world.keys(&name, ring).await?.is_none(), "{ring}'s rule came back");
        }
        second.kill().await
    });
}

#[test]
fn a_policy_that_grows_too_large_is_divided() {
    in_turn(async |shared| {
        let world = &shared.world;
        let (rings, _) = sharing(world, "large", 3).await?;
        // Two do not fit: each ring's rules take some 30 kB in a ClusterPolicy, and in
        // the other kind, which does not repeat them, some 8 beside what all share.
        let (most, less) = match Kind::under_test() {
            Kind::ClusterPolicy => ("--bytes-per-policy=50000", 60_000),
            Kind::ImageValidatingPolicy => ("--bytes-per-policy=18000", 20_000),
        };
        turn::kill(shared).await?;
        let images: Vec<String> =
            (0..40).map(|n| format!("quay.io/{}/{n}:*", "a".repeat(100))).collect();
        for ring in &rings {
            world.apply(&excluding(ring, &images)).await?;
        }
        turn::start(shared, &[most]).await?;
        wait_until("the rings are apart", async || {
            let mut places = BTreeSet::new();
            for ring in &rings {
                places.insert(policy(world, ring).await?);
            }
            Ok(places.len() == rings.len())
        })
        .await?;
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
            // A ring that moves is in both policies until the new one answers.
            wait_until("one rule is left in each policy", async || {
                let policy = policy(world, ring).await?;
                Ok(world.policy(&policy).await?["spec"].to_string().len() < less)
            })
            .await?;
        }
        for ring in &rings {
            world.apply(&manifest(ring, "")).await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}

/// An operator that is told, or has by default, another number of rings for a policy
/// takes what it finds as it is.
#[test]
fn another_number_of_rings_in_a_policy_moves_none() {
    if !takes_long("the operator is started four times") {
        return;
    }
    in_turn(async |shared| {
        let world = &shared.world;
        let restart = async |most: &str| {
            turn::kill(shared).await?;
            turn::start(shared, &[most]).await
        };
        restart("--rings-per-policy=100").await?;
        world.ready_ring("packed-a").await?;
        world.ready_ring("packed-b").await?;
        let together = policy(world, "packed-a").await?;
        ensure!(policy(world, "packed-b").await? == together);
        let generation = async || -> Result<String> {
            let object = [Kind::of(&together).resource(), &together];
            world.get(&object, "{.metadata.generation}").await
        };
        let before = generation().await?;

        restart("--rings-per-policy=1").await?;
        // Once one that comes now is ready, those that were there have been looked at.
        world.ready_ring("packed-c").await?;
        let alone = policy(world, "packed-c").await?;
        ensure!(alone != together);
        for ring in ["packed-a", "packed-b"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
            ensure!(policy(world, ring).await? == together, "{ring} has moved");
        }
        ensure!(generation().await? == before, "{together} was written");

        restart("--rings-per-policy=100").await?;
        world.ready_ring("packed-d").await?;
        ensure!(policy(world, "packed-c").await? == alone, "packed-c has moved");
        ensure!(world.keys(&together, "packed-d").await?.is_some(), "there was room");
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}
