//! What the page looks at: a ring with three versions, and what runs by each of them.

use anyhow::Result;
use signingkeyring_e2e_testbed::world::{World, consent, manifest, namespaces, wait_until};

const RING: &str = "checkout";
const NAMESPACE: &str = "checkout-dev";

/// Sets it.
///
/// # Errors
/// If the cluster does not come to it.
pub async fn set(world: &World) -> Result<()> {
    // So that the operator sees all that it reports on.
    world.kubectl(&["apply", "--kustomize=manifests/kyverno-access"]).await?;
    world.apply(&namespaces(RING)).await?;
    world.apply(&manifest(RING, "")).await?;
    world.wait_for_condition(RING, "Ready", "True").await?;
    let registry = &world.info.registry;
    for version in 1..=3 {
        if version > 1 {
            world.rotate(RING, &format!("set-{version}")).await?;
        }
        let image = world.push("checkout/app", &format!("v{version}")).await?;
        world.sign(&image, &format!("{RING}-ci/image-signing")).await?;
        let image = format!("{registry}/checkout/app:v{version}");
        world.wait_until_admitted(NAMESPACE, &image).await?;
        match version {
            1 => {
                let old = world.push("checkout/old", "v1").await?;
                world.sign(&old, &format!("{RING}-ci/image-signing")).await?;
                world.apply(&workload("Deployment", "billing", &image)).await?;
                world.apply(&cron_job("report", &image)).await?;
            }
            2 => {
                world.apply(&workload("StatefulSet", "cart", &image)).await?;
                world.apply(&workload("Deployment", "web", &image)).await?;
                pods(world, 3).await?;
            }
            _ => {
                // What it was may be rolled back to.
                world.apply(&workload("Deployment", "web", &image)).await?;
            }
        }
    }
    old_sets_are_gone(world).await?;
    others(world).await?;
    world.wait_for_condition(RING, "Ready", "True").await?;
    Ok(())
}

/// Waits until Kyverno has let go of the version that a rotation has taken out, which is a
/// moment after the next one signs: what comes next asks it.
pub async fn retired_is_refused(world: &World) -> Result<()> {
    let said = r#"{.status.conditions[?(@.type=="PolicyEnforced")].message}"#;
    let policy = world.ring(RING, "{.status.policy.name}").await?;
    let accepts = format!("Kyverno accepts the versions 4, 3, 2, by policy {policy}");
    world.wait_for_field(RING, said, &accepts).await
}

/// Another ring, an image of nobody's, and namespaces that no ring verifies.
async fn others(world: &World) -> Result<()> {
    let registry = &world.info.registry;
    let ring = "payments";
    world
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-ci}}}}\n---\n{}---\n{}",
            consent(&format!("{ring}-ci")),
            manifest(ring, "")
        ))
        .await?;
    world.wait_for_condition(ring, "Ready", "True").await?;
    let theirs = world.push("payments/app", "v1").await?;
    world.sign(&theirs, &format!("{ring}-ci/image-signing")).await?;
    world.push("checkout/unsigned", "v1").await?;
    for namespace in ["checkout-legacy", "tools"] {
        world.kubectl(&["create", "namespace", namespace]).await?;
        let image = format!("--image={registry}/checkout/unsigned:v1");
        world.kubectl(&["run", "old", &image, "--namespace", namespace]).await?;
    }
    world.kubectl(&["create", "namespace", "shop"]).await?;
    world.kubectl(&["label", "namespace", "shop", "signing.odj.cloud/ring=chekout"]).await?;
    Ok(())
}

fn workload(kind: &str, name: &str, image: &str) -> String {
    let more = match kind {
        "StatefulSet" => format!("serviceName: {name}, "),
        // Nothing becomes ready where there is no node, so nothing has to stay.
        _ => "strategy: {type: Recreate}, ".to_owned(),
    };
    format!(
        "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
         spec: {{{more}selector: {{matchLabels: {{app: {name}}}}}, {}}}}}",
        template(name, image)
    )
}

fn cron_job(name: &str, image: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
         spec: {{schedule: '0 0 1 1 *', jobTemplate: {{spec: {{template: {{spec: {{\
         restartPolicy: Never, containers: [{{name: app, image: '{image}'}}]}}}}}}}}}}}}"
    )
}

fn template(name: &str, image: &str) -> String {
    format!(
        "template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{\
         containers: [{{name: app, image: '{image}'}}]}}}}"
    )
}

async fn pods(world: &World, count: usize) -> Result<()> {
    wait_until(&format!("{count} pods in {NAMESPACE}"), async || {
        let pods = world.kubectl(&["get", "pods", "-n", NAMESPACE, "--output=name"]).await?;
        Ok(pods.lines().count() == count)
    })
    .await
}

/// Waits until the rollout is over that nothing holds up.
async fn old_sets_are_gone(world: &World) -> Result<()> {
    wait_until("the rollout of web", async || {
        let path = "{range .items[*]}{.spec.replicas} {end}";
        let selected = ["replicasets", "-n", NAMESPACE, "--selector=app=web"];
        let mut replicas: Vec<String> =
            world.get(&selected, path).await?.split_whitespace().map(str::to_owned).collect();
        replicas.sort();
        Ok(replicas == ["0", "1"])
    })
    .await?;
    pods(world, 3).await
}
