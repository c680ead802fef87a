//! A revocation does not wait for what else is to change in a policy, whoever
//! refuses that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::turn::in_turn;

const RINGS: usize = 12;

/// How soon a revoked key has to be out of the policy and of Kyverno.
const URGENT: Duration = Duration::from_secs(15);

fn ring(number: usize) -> String {
    format!("urgent-{number:02}")
}

/// Refuses every policy that excludes more than this, as [`longest`] counts it, for a reason such as a Kyverno's (`Invalid`) or anybody else's (`Forbidden`).
fn refusal(most: usize, reason: &str) -> String {
    let kind = Kind::under_test();
    let (group, plural) = (kind.group(), kind.plural());
    let is_longer = match kind {
        Kind::ClusterPolicy => format!(
            "object.spec.rules.exists(r, has(r.verifyImages) && r.verifyImages.exists(v, has(v.skipImageReferences) && size(v.skipImageReferences) > {most}))"
        ),
        Kind::ImageValidatingPolicy => format!("size(object.spec.images[0].expression) > {most}"),
    };
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: refuse-long-lists}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {{apiGroups: [{group}], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [{plural}]}}
  validations:
  - expression: \"!({is_longer})\"
    message: this list is too long
    reason: {reason}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: refuse-long-lists}}
spec: {{policyName: refuse-long-lists, validationActions: [Deny]}}
"
    )
}

/// A list that makes every rule larger.
fn long_list() -> String {
    let image = |number| format!("{{image: 'quay.io/long-{number}/*', reason: test}}");
    let images: Vec<String> = (0..100).map(image).collect();
    format!(
        "{{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {{name: long}}, spec: {{images: [{}]}}}}",
        images.join(", ")
    )
}

async fn skipped(world: &World, policy: &str, ring: &str) -> Result<Vec<String>> {
    Ok(Kind::of(policy).excluded(&world.policy(policy).await?["spec"], ring))
}

/// The length of the longest list in a policy: rings of other tests may be there. Of a
/// kind that has one list for all, how long that is as a text.
async fn longest(world: &World, policy: &str) -> Result<usize> {
    let spec = world.policy(policy).await?["spec"].take();
    if Kind::of(policy) == Kind::ImageValidatingPolicy {
        return Ok(spec["images"][0]["expression"].as_str().context("no images")?.len());
    }
    let rules = spec["rules"].as_array().context("no rules")?;
    let lists = rules.iter().map(|rule| &rule["verifyImages"][0]["skipImageReferences"]);
    Ok(lists.filter_map(|list| list.as_array()).map(Vec::len).max().unwrap_or(0))
}

/// Waits until longer lists are refused for this reason, and what is there is
/// still let through.
async fn in_force(
    world: &World,
    (policy, ring): (&str, &str),
    most: usize,
    reason: &str,
) -> Result<()> {
    let kind = Kind::of(policy);
    wait_until(&format!("long lists are refused as {reason}"), async || {
        let mut bait = world.policy(policy).await?;
        let place = kind.looked_at(&mut bait, ring).context("no rule of the ring")?;
        *place = match kind {
            Kind::ClusterPolicy => json!(vec!["a.example/*"; most + 1]),
            Kind::ImageValidatingPolicy => json!(format!("['{}']", "a".repeat(most))),
        };
        let replace = ["replace", "--dry-run=server", "--filename=-"];
        let bait = bait.to_string();
        Ok(world.run("kubectl", &replace, &[], &bait).await.is_err_and(|error| {
            let text = format!("{error:#}").to_lowercase();
            text.contains("this list is too long") && text.contains(&reason.to_lowercase())
        }))
    })
    .await?;
    world.kubectl(&["label", kind.resource(), policy, "tried=yes", "--dry-run=server"]).await?;
    Ok(())
}

async fn signed(world: &World, ring: &str) -> Result<String> {
    let image = world.push(&format!("{ring}/app"), "v1").await?;
    world.sign(&image, &format!("{ring}-ci/image-signing")).await?;
    world.wait_until_admitted(&format!("{ring}-dev"), &image).await?;
    Ok(image)
}

/// While the longer list is refused for `reason`: revokes the key that signs.
async fn revoke(
    world: &World,
    policy: &str,
    (ring, image): (&str, &str),
    (others, others_image): (&str, &str),
) -> Result<()> {
    let before = skipped(world, policy, ring).await?;
    world.apply(&manifest(ring, "  revoked: [{version: 1, reason: leaked}]\n")).await?;
    let start = Instant::now();
    let out = "True RevocationsApplied";
    world.wait_for_condition(ring, "RevocationsApplied", out).await?;
    let took = start.elapsed();
    ensure!(took < URGENT, "the revocation took {took:?}");
    let namespace = format!("{ring}-dev");
    let verdict = world.admit(&namespace, image).await?;
    ensure!(matches!(verdict, Verdict::Refused(_)), "revoked, and {verdict:?}");
    // The rest is refused still: nothing else made way for it.
    ensure!(skipped(world, policy, ring).await? == before, "the longer list was written");
    // The others go on.
    let others_namespace = format!("{others}-dev");
    let verdict = world.admit(&others_namespace, others_image).await?;
    ensure!(verdict == Verdict::Admitted, "another ring's image: {verdict:?}");
    let verdict = world.admit(&others_namespace, image).await?;
    ensure!(matches!(verdict, Verdict::Refused(_)), "not the ring's own key: {verdict:?}");
    Ok(())
}

#[test]
fn a_revocation_is_applied_although_the_rest_of_its_policy_is_refused() {
    in_turn(async |shared| {
        let world = &shared.world;
        let rings: Vec<String> = (0..RINGS).map(ring).collect();
        let yaml =
            rings.iter().map(|ring| format!("{}---\n{}", namespaces(ring), manifest(ring, "")));
        world.apply(&yaml.collect::<Vec<_>>().join("---\n")).await?;
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        // The rings of other tests may have left no room for all in one policy.
        let mut by_policy: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ring in rings {
            let policy = world.ring(&ring, "{.status.policy.name}").await?;
            by_policy.entry(policy).or_default().push(ring);
        }
        let largest = by_policy.into_iter().max_by_key(|(_, rings)| rings.len());
        let (policy, rings) = largest.context("no policy")?;
        ensure!(rings.len() >= RINGS / 2, "{policy} holds {rings:?}");
        let [first, second, last] = [&rings[0], &rings[1], &rings[rings.len() - 1]];
        let images =
            [signed(world, first).await?, signed(world, second).await?, signed(world, last).await?];
        let most = longest(world, &policy).await?;
        let before = skipped(world, &policy, last).await?.len();

        // Where rings share what stands around their rules, it is nobody's rule.
        let invalid = match Kind::under_test() {
            Kind::ClusterPolicy => "False PolicyRejected",
            Kind::ImageValidatingPolicy => "False PolicyDiffers",
        };
        for (reason, said, (ring, image)) in [
            ("Invalid", invalid, (first, &images[0])),
            ("Forbidden", "False PolicyDiffers", (second, &images[1])),
        ] {
            world.apply(&refusal(most, reason)).await?;
            in_force(world, (&policy, last), most, reason).await?;
            world.apply(&long_list()).await?;
            let text = world.wait_for_condition(last, "PolicyEnforced", said).await?;
            ensure!(text.contains("this list is too long"), "{text}");
            revoke(world, &policy, (ring, image), (last, &images[2])).await?;
            for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
                world.kubectl(&["delete", kind, "refuse-long-lists"]).await?;
            }
            for ring in &rings {
                world.wait_for_condition(ring, "Ready", "True").await?;
                wait_until(&format!("the list is in the rule of {ring}"), async || {
                    Ok(skipped(world, &policy, ring).await?.len() > before)
                })
                .await?;
            }
            world.wait_for_field(ring, "{.status.currentVersion}", "2").await?;
            world.kubectl(&["delete", "iel", "long"]).await?;
            wait_until(
                "the list is out again",
                async || Ok(longest(world, &policy).await? == most),
            )
            .await?;
        }
        Ok(())
    });
}

/// What is refused of a policy that somebody edited, and the operator is about to
/// put right.
const REFUSED_EDIT: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-an-edit}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [GROUP], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [PLURAL]}
  validations:
  - expression: \"!EDITED\"
    message: this edit is not liked
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-an-edit}
spec: {policyName: refuse-an-edit, validationActions: [Deny]}
";

/// What stands there cannot be written any more, with the revoked key or without
/// it: the key leaves with what was edited.
#[test]
fn a_revocation_is_applied_although_what_stands_there_is_refused() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("standing").await?;
        let first = signed(world, "standing").await?;
        world.rotate("standing", "b").await?;
        let policy = world.ring("standing", "{.status.policy.name}").await?;

        let rights = world.rights().await?;
        world.set_rights(&rights.without_on_policies("update")?).await?;
        world.wait_for_right_on_policies("update", false).await?;
        let kind = Kind::of(&policy);
        // A setting of the kind's that changes no verdict.
        let (edit, edited, path) = match kind {
            Kind::ClusterPolicy => (
                r#"{"spec":{"emitWarning":true}}"#,
                "(has(object.spec.emitWarning) && object.spec.emitWarning)",
                "{.spec.emitWarning}",
            ),
            Kind::ImageValidatingPolicy => (
                r#"{"spec":{"evaluation":{"background":{"enabled":true}}}}"#,
                "object.spec.evaluation.background.enabled",
                "{.spec.evaluation.background.enabled}",
            ),
        };
        let patch = ["patch", kind.resource(), &policy, "--type=merge", "--patch", edit];
        world.kubectl(&patch).await?;
        let refused = REFUSED_EDIT
            .replace("GROUP", kind.group())
            .replace("PLURAL", kind.plural())
            .replace("EDITED", edited);
        world.apply(&refused).await?;
        wait_until("the edit is refused", async || {
            let label = ["label", kind.resource(), &policy, "tried=yes", "--dry-run=server"];
            let refused = world.kubectl(&label).await;
            Ok(refused.is_err_and(|error| format!("{error:#}").contains("not liked")))
        })
        .await?;
        world.apply(&manifest("standing", "  revoked: [{version: 1, reason: leaked}]\n")).await?;
        let pending = "False RevocationPending";
        world.wait_for_condition("standing", "RevocationsApplied", pending).await?;
        ensure!(world.admit("standing-dev", &first).await? == Verdict::Admitted);

        world.set_rights(&rights).await?;
        world.wait_for_right_on_policies("update", true).await?;
        let out = "True RevocationsApplied";
        world.wait_for_condition("standing", "RevocationsApplied", out).await?;
        let verdict = world.admit("standing-dev", &first).await?;
        ensure!(matches!(verdict, Verdict::Refused(_)), "revoked, and {verdict:?}");
        let edited = world.get(&[kind.resource(), &policy], path).await?;
        ensure!(edited == "false", "the edit stands: {edited}");
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            world.kubectl(&["delete", kind, "refuse-an-edit"]).await?;
        }
        world.wait_for_condition("standing", "Ready", "True").await?;
        Ok(())
    });
}
