//! Others that change or refuse pods.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, wait_until},
};

use crate::common::run;

async fn label(world: &World, namespace: &str, label: &str) -> Result<()> {
    world.kubectl(&["label", "--overwrite", "namespace", namespace, label]).await?;
    Ok(())
}

async fn signed(world: &World, ring: &str) -> Result<String> {
    let image = world.push(&format!("{ring}/app"), "v1").await?;
    world.sign(&image, &format!("{ring}-ci/image-signing")).await?;
    world.wait_until_admitted(&format!("{ring}-dev"), &image).await?;
    Ok(image)
}

/// What the API server says against a pod other than that Kyverno refuses it.
async fn objection(world: &World, namespace: &str, image: &str) -> Result<String> {
    let mut said = String::new();
    wait_until(&format!("a word against {image} in {namespace}"), async || {
        said = match world.admit(namespace, image).await {
            Ok(Verdict::Admitted) => return Ok(false),
            Ok(Verdict::Refused(text) | Verdict::Unanswered(text)) => text,
            Err(error) => error.to_string(),
        };
        Ok(true)
    })
    .await?;
    Ok(said)
}

/// A policy of Kyverno's, as a platform has them beside ours, for the namespaces
/// with a label.
fn policy(name: &str, label: &str, rule: &str) -> String {
    format!(
        "{{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {{name: {name}, annotations: {{pod-policies.kyverno.io/autogen-controllers: none}}}}, spec: {{background: false, rules: [{{name: {name}, match: {{any: [{{resources: {{kinds: [Pod], namespaceSelector: {{matchLabels: {{{label}}}}}}}}}]}}, {rule}}}]}}}}"
    )
}

/// What injects a container and a label before Kyverno is asked, as a webhook of
/// a name before Kyverno's does.
fn injector() -> String {
    let container = "Object.spec.containers{name: 'proxy', image: 'quay.io/mesh/proxy:v1'}";
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{name: mesh}}
spec:
  matchConstraints:
    namespaceSelector: {{matchLabels: {{mesh: 'on'}}}}
    resourceRules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{{metadata: Object.metadata{{labels: {{'mesh': 'injected'}}}}, spec: Object.spec{{containers: [{container}]}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{name: mesh}}
spec: {{policyName: mesh}}
"
    )
}

#[test]
fn an_injected_container_is_verified_like_any_other() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("meshed").await?;
        let image = signed(world, "meshed").await?;
        world.push("mesh/proxy", "v1").await?;
        world.apply(&injector()).await?;
        label(world, "meshed-dev", "mesh=on").await?;
        let said = objection(world, "meshed-dev", &image).await?;
        ensure!(said.contains("quay.io/mesh/proxy:v1"), "{said}");
        let why = match Kind::under_test() {
            Kind::ClusterPolicy => Kind::ClusterPolicy.unsigned(),
            // What pins tags is not called again after the injection.
            Kind::ImageValidatingPolicy => "does not have a digest",
        };
        ensure!(said.contains(why), "{said}");
        let list = "{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {name: mesh}, spec: {images: [{image: 'quay.io/mesh/*', reason: the mesh's proxy}]}}";
        world.apply(list).await?;
        world.wait_until_admitted("meshed-dev", &image).await?;
        world.kubectl(&["delete", "iel", "mesh"]).await?;
        world
            .kubectl(&["delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", "mesh"])
            .await?;
        Ok(())
    });
}

#[test]
fn a_rewritten_registry_voids_exclusions_and_needs_the_signatures() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("mirrored").await?;
        let image = signed(world, "mirrored").await?;
        let registry = &world.info.registry;
        world.push("jetstack/mirrored", "v1").await?;
        let excluded = "quay.io/jetstack/mirrored:v1";
        world.wait_until_admitted("mirrored-dev", excluded).await?;

        // Every image comes from the mirror: its path below the mirror's.
        let rule = format!(
            "mutate: {{foreach: [{{list: 'request.object.spec.containers', patchStrategicMerge: {{spec: {{containers: [{{name: '{{{{ element.name }}}}', image: \"{{{{ regex_replace_all('^[^/]+/(.*)$', '{{{{element.image}}}}', '{registry}/mirror/$1') }}}}\"}}]}}}}}}]}}"
        );
        let rewriter = policy("rewriter", "mirror: 'on'", &rule);
        world.apply(&rewriter).await?;
        label(world, "mirrored-dev", "mirror=on").await?;
        world.push("mirror/jetstack/mirrored", "v1").await?;
        let said = objection(world, "mirrored-dev", excluded).await?;
        ensure!(said.contains("/mirror/jetstack/mirrored:v1"), "{said}");
        // A signature is looked for beside the copy.
        let (_, path) = image.split_once('/').unwrap_or_default();
        let copy = format!("{registry}/mirror/{path}");
        let (copy_name, _) = copy.rsplit_once('@').unwrap_or_default();
        world.run("crane", &["copy", &image, &format!("{copy_name}:v1")], &[], "").await?;
        let said = objection(world, "mirrored-dev", &image).await?;
        ensure!(said.contains(Kind::under_test().unsigned()), "{said}");
        world
            .run("cosign", &["copy", "--force", &image, &format!("{copy_name}:v1")], &[], "")
            .await?;
        world.wait_until_admitted("mirrored-dev", &image).await?;
        // The exclusion has to name the mirror.
        let list = format!(
            "{{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {{name: mirror}}, spec: {{images: [{{image: '{registry}/mirror/jetstack/*', reason: test}}]}}}}"
        );
        world.apply(&list).await?;
        world.wait_until_admitted("mirrored-dev", excluded).await?;
        world.kubectl(&["delete", "iel", "mirror"]).await?;
        world.kubectl(&["delete", "clusterpolicy", "rewriter"]).await?;
        Ok(())
    });
}

/// Kyverno 1.19 keeps the images that a rule's `imageExtractors` found for the rules of
/// other policies in the same request, in an order of its own.
#[test]
fn a_foreign_policy_that_looks_at_some_images_hides_none() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("beheld").await?;
        let image = signed(world, "beheld").await?;
        let init = world.push("beheld/init", "v1").await?;
        world.sign(&init, "beheld-ci/image-signing").await?;
        let unsigned = world.push("beheld/unsigned", "v1").await?;
        let key = world.ring("beheld", "{.status.versions[0].publicKey}").await?;
        let key = key.replace('\n', "\\n");
        let rule = format!(
            "imageExtractors: {{Pod: [{{path: /spec/initContainers/*/image}}]}}, verifyImages: [{{failureAction: Enforce, imageReferences: ['foreign.example/*'], attestors: [{{entries: [{{keys: {{publicKeys: \"{key}\"}}}}]}}]}}]"
        );
        let foreign = policy("init-containers", "beheld: 'on'", &rule);
        world.apply(&foreign).await?;
        label(world, "beheld-dev", "beheld=on").await?;
        // Its tag could not be pinned, and the foreign policy would not be asked.
        let (_, digest) = image.split_once('@').unwrap_or_default();
        let foreign = format!("foreign.example/a@{digest}");
        let create = async |init: &str, main: &str| {
            let pod = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{generateName: beheld-, namespace: beheld-dev}}, spec: {{initContainers: [{{name: init, image: '{init}'}}], containers: [{{name: main, image: '{main}'}}]}}}}"
            );
            let create = ["create", "--dry-run=server", "--filename=-"];
            world.run("kubectl", &create, &[], &pod).await
        };
        wait_until("Kyverno has loaded the policy", async || {
            let said = create(&foreign, &image).await;
            Ok(said.is_err_and(|error| format!("{error:#}").contains("init-containers:")))
        })
        .await?;
        for _ in 0..20 {
            create(&init, &image).await?;
            let refused = create(&init, &unsigned).await.is_err();
            ensure!(refused, "an unsigned image was not seen");
        }
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: beheld, namespace: beheld-dev}}, spec: {{initContainers: [{{name: init, image: '{init}'}}], containers: [{{name: main, image: '{image}'}}]}}}}"
        );
        world.run("kubectl", &["create", "--filename=-"], &[], &pod).await?;
        let change = format!("main={unsigned}");
        for _ in 0..30 {
            let set =
                ["set", "image", "pod/beheld", "-n", "beheld-dev", &change, "--dry-run=server"];
            ensure!(world.kubectl(&set).await.is_err(), "an unsigned image was put in");
        }
        world.kubectl(&["delete", "clusterpolicy", "init-containers"]).await?;
        Ok(())
    });
}

#[test]
fn what_else_refuses_a_signed_pod_says_so_itself() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("strictly").await?;
        let image = signed(world, "strictly").await?;
        let unsigned = world.push("strictly/unsigned", "v1").await?;
        let (namespace, in_namespace) = ("strictly-dev", "--namespace=strictly-dev");

        // Defaults that are filled in change nothing for us.
        world.apply("{apiVersion: v1, kind: LimitRange, metadata: {name: limits, namespace: strictly-dev}, spec: {limits: [{type: Container, default: {cpu: 100m}, defaultRequest: {cpu: 50m}}]}}").await?;
        ensure!(world.admit(namespace, &image).await? == Verdict::Admitted);
        let quota = ["create", "quota", "none", in_namespace, "--hard=pods=0"];
        world.kubectl(&quota).await?;
        let said = objection(world, namespace, &image).await?;
        ensure!(said.contains("exceeded quota: none"), "{said}");
        // Kyverno comes first: its word is the one that is heard.
        let said = objection(world, namespace, &unsigned).await?;
        ensure!(said.contains(Kind::under_test().unsigned()), "{said}");
        world.kubectl(&["delete", "quota", "none", in_namespace]).await?;
        world.wait_until_admitted(namespace, &image).await?;

        label(world, namespace, "pod-security.kubernetes.io/enforce=restricted").await?;
        let said = objection(world, namespace, &image).await?;
        ensure!(said.contains("violates PodSecurity"), "{said}");
        label(world, namespace, "pod-security.kubernetes.io/enforce=privileged").await?;
        world.wait_until_admitted(namespace, &image).await?;

        let rule = "validate: {failureAction: Enforce, message: 'an owner is required', pattern: {metadata: {labels: {owner: '?*'}}}}";
        world.apply(&policy("require-owner", "practices: best", rule)).await?;
        label(world, namespace, "practices=best").await?;
        let said = objection(world, namespace, &image).await?;
        ensure!(said.contains("an owner is required"), "{said}");
        ensure!(!said.contains(Kind::under_test().prefix()), "{said}");
        world.kubectl(&["delete", "clusterpolicy", "require-owner"]).await?;
        world.wait_until_admitted(namespace, &image).await
    });
}

#[test]
fn a_quota_on_secrets_holds_up_the_pipeline_and_says_so() {
    run(async |shared| {
        let world = &shared.world;
        let namespaces = signingkeyring_e2e_testbed::world::namespaces("rationed");
        world.apply(&namespaces).await?;
        let quota =
            ["create", "quota", "none", "--namespace=rationed-ci", "--hard=count/secrets=0"];
        world.kubectl(&quota).await?;
        wait_until("the quota is known", async || {
            let status =
                world.get(&["quota", "none", "-n", "rationed-ci"], "{.status.hard}").await?;
            Ok(status.contains("count/secrets"))
        })
        .await?;
        world.apply(&signingkeyring_e2e_testbed::world::manifest("rationed", "")).await?;
        let said = world.wait_for_condition("rationed", "PipelinesPublished", "False").await?;
        wait_until(&format!("it names the quota, not {said}"), async || {
            let said = world.condition("rationed", "PipelinesPublished").await?;
            Ok(said.contains("exceeded quota"))
        })
        .await?;
        world.kubectl(&["delete", "quota", "none", "--namespace=rationed-ci"]).await?;
        world.wait_for_condition("rationed", "Ready", "True").await?;
        Ok(())
    });
}
