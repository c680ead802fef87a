//! What pins tags beside an ImageValidatingPolicy takes no changes: no ring comes in
//! without it, and where it is gone, tags are refused.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{World, manifest, namespaces, wait_until},
};

use crate::turn::{self, in_turn};

/// Stands in for a Kyverno, or an administrator, that takes no MutatingPolicy.
const NONE: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-mutating-policies}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [policies.kyverno.io], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [mutatingpolicies]}
  validations: [{expression: 'false', message: nothing changes pods here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-mutating-policies}
spec: {policyName: no-mutating-policies, validationActions: [Deny]}
";

const SPEC: &str = "  policy: {kind: ImageValidatingPolicy}\n";

async fn takes_no_pins(world: &World, pin: &str) -> Result<()> {
    world.apply(NONE).await?;
    wait_until("no pin is taken any more", async || {
        let label = ["label", "--dry-run=server", "mutatingpolicy", pin, "a=b"];
        let refused = world.kubectl(&label).await.err();
        Ok(refused.is_some_and(|error| error.to_string().contains("nothing changes pods here")))
    })
    .await
}

async fn differs(world: &World, ring: &str, words: &[&str]) -> Result<()> {
    let said = world.wait_for_condition(ring, "PolicyEnforced", "False PolicyDiffers").await?;
    for word in ["nothing changes pods here"].iter().chain(words) {
        ensure!(said.contains(word), "{said}");
    }
    Ok(())
}

#[test]
fn no_ring_comes_in_without_a_pin_and_tags_are_refused_where_it_is_gone() {
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        for ring in ["pinned", "comes-late"] {
            world.apply(&namespaces(ring)).await?;
        }
        world.apply(&manifest("pinned", SPEC)).await?;
        world.wait_for_condition("pinned", "Ready", "True").await?;
        world.rotate("pinned", "b").await?;
        let policy = world.ring("pinned", "{.status.policy.name}").await?;
        let pin = policy.replace("enforce", "pin");
        let signed = world.push("pinned/app", "v1").await?;
        world.sign(&signed, "pinned-ci/image-signing").await?;
        let tag = format!("{}/pinned/app:v1", world.info.registry);
        world.wait_until_admitted("pinned-dev", &tag).await?;

        takes_no_pins(world, &pin).await?;
        world.apply(&manifest("comes-late", SPEC)).await?;
        differs(world, "comes-late", &["it holds no rule of the ring"]).await?;
        let placed = world.ring("comes-late", "{.status.policy.name}").await?;
        ensure!(placed == policy, "{placed} is not {policy}");
        ensure!(world.keys(&policy, "comes-late").await?.is_none(), "it has a rule");
        let secret = ["get", "secret", "image-signing", "--namespace=comes-late-ci"];
        ensure!(world.kubectl(&secret).await.is_err(), "it signs");

        // Who was there before waits with a rotation, and says so; a revocation does not.
        world.ask_for_rotation("pinned", "c").await?;
        differs(world, "pinned", &["accepts the versions 2, 1"]).await?;
        world.wait_until_admitted("pinned-dev", &tag).await?;
        let revoked = format!("{SPEC}  revoked: [{{version: 1, reason: test}}]\n");
        world.apply(&manifest("pinned", &revoked)).await?;
        wait_until("the revoked key is out", async || {
            Ok(world.keys(&policy, "pinned").await?.is_some_and(|keys| keys.len() == 1))
        })
        .await?;
        world.wait_until_admitted("pinned-dev", &tag).await?;

        // By its digest an image is verified as it was.
        world.kubectl(&["delete", "mutatingpolicy", &pin]).await?;
        wait_until("a tag is refused", async || {
            let verdict = world.admit("pinned-dev", &tag).await?;
            Ok(matches!(verdict, Verdict::Refused(text) if text.contains("does not have a digest")))
        })
        .await?;
        let verdict = world.admit("pinned-dev", &signed).await?;
        ensure!(verdict == Verdict::Admitted, "{verdict:?}");

        for object in ["binding", ""] {
            let kind = format!("validatingadmissionpolicy{object}");
            world.kubectl(&["delete", &kind, "no-mutating-policies"]).await?;
        }
        for ring in ["pinned", "comes-late"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        world.wait_for_field("pinned", "{.status.observedRotation}", "c").await?;
        world.wait_until_admitted("pinned-dev", &tag).await?;
        let keys = world.keys(&policy, "comes-late").await?.context("no rule")?;
        ensure!(keys.len() == 1, "{keys:?}");
        turn::kill(shared).await
    });
}
