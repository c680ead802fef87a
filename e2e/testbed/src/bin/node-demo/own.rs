//! The operator's own image: signed by a ring of its own, admitted by its own policy, and
//! the way out when the key that signed it is revoked (docs/own-image.md).

use anyhow::{Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::{node, tools, world::wait_until};

use crate::{NAMESPACE, Node, PODS, page, print};

/// The ring of the operator's image, as the page calls it.
const RING: &str = "operator-image";

/// Pushes the image, and installs the chart with it, in a namespace that Pod Security
/// restricts and no ring has. Returns the image by its digest.
pub async fn install(node: &Node, layout: &str) -> Result<String> {
    let world = &node.world;
    let repository = format!("{}/signingkeyring-operator", world.info.registry);
    node.step(&format!("Pushing the image: crane push {layout}"));
    world.run("crane", &["push", layout, &format!("{repository}:node")], &[], "").await?;
    let digest = world.run("crane", &["digest", &format!("{repository}:node")], &[], "").await?;
    let digest = digest.trim();

    node.step("Installing: helm install signing manifests/chart, where no ring has the namespace");
    world.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    world.kubectl(&["label", "namespace", NAMESPACE, restricted]).await?;
    let repository_value = format!("image.repository={repository}");
    let digest_value = format!("image.digest={digest}");
    let test_value = format!("test.image={}", node::push_kubectl(&world.info.registry).await?);
    let mut install = vec!["install", "signing", "manifests/chart"];
    for value in [&repository_value, &digest_value, &test_value] {
        install.extend(["--set", value]);
    }
    helm(node, &install).await?;
    node.rolled_out().await?;
    let ready = node.of_pods("{.status.phase} {.status.containerStatuses[0].ready}").await?;
    ensure!(ready == ["Running true", "Running true"], "{ready:?}");
    Ok(format!("{repository}@{digest}"))
}

async fn helm(node: &Node, arguments: &[&str]) -> Result<String> {
    let home = tools::folder().join("helm").display().to_string();
    let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
    let homes = homes.map(|variable| (variable, home.as_str()));
    let namespace = format!("--namespace={NAMESPACE}");
    node.world.run("helm", &[arguments, &[&namespace]].concat(), &homes, "").await
}

/// The chart's own test, by a kubectl of the registry's.
pub async fn test(node: &Node) -> Result<()> {
    node.step("helm test signing");
    let said = helm(node, &["test", "signing", "--timeout=90s"]).await?;
    ensure!(said.contains("Succeeded"), "{said}");
    let phase = said.lines().filter(|line| line.contains("Phase:"));
    phase.for_each(|line| print(&format!("  {line}\n")));
    Ok(())
}

/// A ring of its own is made, the image is signed, and then the namespace gets the ring.
pub async fn sign_and_enrol(node: &Node, image: &str) -> Result<()> {
    node.step(&format!("The ring {RING}, the image's signature, and the namespace's label"));
    for block in page::commands("Enrol it")? {
        page::follow(node, &block, image).await?;
    }
    closed(node).await
}

/// Waits until unsigned images are refused in the operator's namespace.
async fn closed(node: &Node) -> Result<()> {
    let unsigned = node.world.push("unsigned", "own").await?;
    wait_until("an unsigned image is refused in the operator's namespace", async || {
        let refused = node.world.apply(&restricted_pod(&unsigned)).await;
        Ok(refused.is_err_and(|error| error.to_string().contains("mutate.kyverno.svc")))
    })
    .await
}

/// A pod that Pod Security has nothing against. It asks for more memory than the node has,
/// so that it never runs where it is admitted.
fn restricted_pod(image: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: unsigned, namespace: {NAMESPACE}}}, spec: \
         {{securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: \
         RuntimeDefault}}}}, containers: [{{name: app, image: '{image}', resources: {{requests: \
         {{memory: 100Ti}}}}, securityContext: {{allowPrivilegeEscalation: false, capabilities: \
         {{drop: [ALL]}}}}}}]}}}}"
    )
}

/// A rolling update, by the operator's own policy: its new pods carry Kyverno's note.
pub async fn roll(node: &Node) -> Result<()> {
    node.step("A rolling update of the operator: kubectl rollout restart");
    let before = node.of_pods("{.metadata.name}").await?;
    node.restart().await?;
    node.rolled_out().await?;
    let noted = "{.metadata.name} {.metadata.annotations.kyverno\\.io/verify-images}";
    wait_until("both pods are new ones", async || {
        let pods = node.of_pods("{.metadata.name}").await?;
        Ok(pods.len() == 2 && pods.iter().all(|pod| !before.contains(pod)))
    })
    .await?;
    for pod in node.of_pods(noted).await? {
        print(&format!("  {pod}\n"));
        ensure!(pod.contains("\"pass\""), "its image was not verified: {pod}");
    }
    node.world.wait_for_condition(RING, "Ready", "True").await.map(drop)
}

/// The key that signed the image is revoked. The pods that run go on, and new ones are
/// refused until the next version has signed it.
pub async fn revoke(node: &Node, image: &str) -> Result<()> {
    node.step("Revoking the version that signed the operator's image");
    revoke_version(node, 1).await?;
    node.step("Its pods go on. A rolling update is refused, and takes none of them away");
    node.restart().await?;
    let text = node.refused(NAMESPACE, "signingkeyring-operator").await?;
    print(&format!("  {text}\n"));
    goes_on(node).await?;
    for block in page::commands("When its key is revoked")? {
        page::follow(node, &block, image).await?;
    }
    node.step("The rolling update goes on by itself");
    node.rolled_out().await?;
    closed(node).await
}

/// The next one is revoked, too, and by then none of its pods runs any more: the namespace
/// has to leave its ring for as long as it takes to sign the image again.
pub async fn revoke_without_pods(node: &Node, image: &str) -> Result<()> {
    node.step("The worst case: that version is revoked, no pod is left, and none may start");
    revoke_version(node, 2).await?;
    let namespace = format!("--namespace={NAMESPACE}");
    node.world.kubectl(&["delete", "pods", &namespace, PODS, "--timeout=60s"]).await?;
    node.refused(NAMESPACE, "signingkeyring-operator").await?;
    ensure!(node.of_pods("{.metadata.name}").await?.is_empty(), "there is a pod");
    for block in page::commands("The way out")? {
        if block.starts_with("cosign") {
            // "When the ring has a version that signs."
            node.world.wait_for_condition(RING, "Ready", "True").await?;
        }
        page::follow(node, &block, image).await?;
    }
    closed(node).await?;
    roll(node).await
}

/// Revokes the versions up to one. The pods that run mint the next one.
async fn revoke_version(node: &Node, version: u32) -> Result<()> {
    let revoked = (1..=version).map(|version| json!({"version": version, "reason": "leaked"}));
    let patch = json!({"spec": {"revoked": revoked.collect::<Vec<_>>()}}).to_string();
    node.world.kubectl(&["patch", "skr", RING, "--type=merge", "-p", &patch]).await?;
    let next = (version + 1).to_string();
    node.world.wait_for_field(RING, "{.status.currentVersion}", &next).await?;
    node.world.wait_for_condition(RING, "RevocationsApplied", "True").await?;
    goes_on(node).await
}

async fn goes_on(node: &Node) -> Result<()> {
    // A machine that is busy has a probe fail now and then, which ends nothing.
    wait_until("the operator's pods go on", async || {
        let ready = node.of_pods("{.status.containerStatuses[0].ready}").await?;
        Ok(ready == ["true", "true"])
    })
    .await
}
