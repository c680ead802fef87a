//! The operator's own image: signed by a ring of its own, admitted by its own policy, and
//! the way out when the key that signed it is revoked (docs/own-image.md).

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    tools,
    world::{consent, manifest, wait_until},
};

use crate::{NAMESPACE, Node, PODS, print};

/// The ring of the operator's image, where it publishes, and its pipeline's Secret.
const RING: &str = "operator-image";
const CI: &str = "operator-image-ci";
const SECRET: &str = "operator-image-ci/image-signing";

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
    let home = tools::folder().join("helm").display().to_string();
    let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
    let homes = homes.map(|variable| (variable, home.as_str()));
    let namespace = format!("--namespace={NAMESPACE}");
    let [repository_value, digest_value] =
        [format!("image.repository={repository}"), format!("image.digest={digest}")];
    let install = ["install", "signing", "manifests/chart", &namespace];
    let set = ["--set", &repository_value, "--set", &digest_value];
    world.run("helm", &[&install[..], &set].concat(), &homes, "").await?;
    node.rolled_out().await?;
    let ready = node.of_pods("{.status.phase} {.status.containerStatuses[0].ready}").await?;
    ensure!(ready == ["Running true", "Running true"], "{ready:?}");
    Ok(format!("{repository}@{digest}"))
}

/// A ring of its own is made, the image is signed, and then the namespace gets the ring.
pub async fn sign_and_enrol(node: &Node, image: &str) -> Result<()> {
    let world = &node.world;
    node.step(&format!("Making the ring {RING}, and signing the image by it"));
    let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {CI}}}}}");
    world.apply(&format!("{namespace}\n---\n{}", consent(CI))).await?;
    world.apply(&manifest(RING, "")).await?;
    world.wait_for_condition(RING, "Ready", "True").await?;
    world.sign(image, SECRET).await?;
    node.step("Enrolling the operator's namespace");
    let label = format!("signing.odj.cloud/ring={RING}");
    world.kubectl(&["label", "namespace", NAMESPACE, &label]).await?;
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
/// refused until the next version has signed it. When none runs any more, the namespace
/// has to leave its ring for as long as that takes.
pub async fn revoke(node: &Node, image: &str) -> Result<()> {
    let world = &node.world;
    node.step("Revoking the version that signed the operator's image");
    let patch = "{\"spec\":{\"revoked\":[{\"version\":1,\"reason\":\"leaked\"}]}}";
    world.kubectl(&["patch", "skr", RING, "--type=merge", "-p", patch]).await?;
    world.wait_for_condition(RING, "RevocationsApplied", "True").await?;
    world.wait_for_field(RING, "{.status.currentVersion}", "2").await?;
    let ready = "{.status.containerStatuses[0].ready}";
    ensure!(node.of_pods(ready).await? == ["true", "true"], "the pods do not go on");

    node.step("Its pods go on. A rolling update is refused, and takes none of them away");
    node.restart().await?;
    let text = node.refused(NAMESPACE, "signingkeyring-operator").await?;
    print(&format!("  {text}\n"));
    ensure!(node.of_pods(ready).await? == ["true", "true"], "the pods do not go on");

    node.step("The worst case: no pod is left, and none may start");
    let namespace = format!("--namespace={NAMESPACE}");
    world.kubectl(&["delete", "pods", &namespace, PODS, "--timeout=60s"]).await?;
    node.refused(NAMESPACE, "signingkeyring-operator").await?;
    ensure!(node.of_pods("{.metadata.name}").await?.is_empty(), "there is a pod");

    let page = std::fs::read_to_string(tools::root().join("docs/own-image.md"))?;
    let way_out = page.split("\n## ").find(|section| section.starts_with("The way out"));
    let commands = way_out.context("no way out in the page")?.lines();
    for command in commands.filter_map(|line| line.strip_prefix("    ")) {
        node.step(command);
        match command.strip_prefix("kubectl ") {
            Some(arguments) => {
                world.kubectl(&arguments.split_whitespace().collect::<Vec<_>>()).await?;
            }
            // The only other command signs the image.
            None => {
                world.wait_for_condition(RING, "Ready", "True").await?;
                world.sign(image, SECRET).await?;
            }
        }
    }
    closed(node).await?;
    roll(node).await
}
