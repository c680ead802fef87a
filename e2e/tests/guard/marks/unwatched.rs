//! Where a label names no ring and Kyverno does not look, nothing but the guard is between a
//! note and a Pod.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, wait_until};

use super::gated;
use crate::{prey::NOTE, said::Said};

/// Ensures that no note of the operator's policies gets onto a Pod whose namespace's label
/// names no ring, where a policy covers that namespace but Kyverno does not look.
pub async fn refuses_where_kyverno_does_not_look(
    world: &World,
    pods: &Api<Pod>,
    note: &str,
    image: &str,
) -> Result<()> {
    let settings = |filters: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kyverno", "namespace": "kyverno"},
            "data": {"resourceFilters": filters},
        })
    };
    world.apply(&settings("[*/*,foretold-dev,*]").to_string()).await?;
    let post = PostParams::default();
    let dry = PostParams { dry_run: true, field_manager: None };
    let other = gated("asked", "{}", &[image])?;
    wait_until("Kyverno does not look", async || {
        Ok(pods.create(&dry, &other).await?.annotations()[NOTE] == "{}")
    })
    .await?;
    let said = Said::of(pods.create(&post, &gated("asked", note, &[image])?).await)?;
    ensure!(said == Said::Guard, "{said:?}");
    // Of the policy that covers the namespace Kyverno may have noted something.
    let own = note.replace("/signing-enforce-0001", "/signing-audit-0000");
    ensure!(own != note);
    pods.create(&dry, &gated("asked", &own, &[image])?).await?;
    world.apply(&settings("").to_string()).await?;
    wait_until("Kyverno looks again", async || {
        Ok(pods.create(&dry, &other).await?.annotations()[NOTE].contains("signing-audit-0000"))
    })
    .await
}

/// Ensures that no note of the operator's policies gets onto a Pod whose namespace's label
/// names no ring, where nothing but the guard looks at it.
pub async fn refuses_where_nobody_looks(pods: &Api<Pod>, note: &str, image: &str) -> Result<()> {
    let post = PostParams::default();
    let plain = |name: &str, note: &str| {
        let mut pod = gated(name, note, &[image])?;
        pod.spec.as_mut().context("no spec")?.scheduling_gates = None;
        Ok::<_, anyhow::Error>(pod)
    };
    let dry = PostParams { dry_run: true, field_manager: None };
    let asked = plain("asked", note)?;
    wait_until("the operator has told the guard", async || {
        Ok(Said::of(pods.create(&dry, &asked).await)? == Said::Guard)
    })
    .await?;
    let Err(kube::Error::Api(status)) = pods.create(&post, &asked).await else {
        anyhow::bail!("it is taken");
    };
    ensure!(status.message.contains("=foretold names no ring"), "{}", status.message);
    pods.create(&post, &plain("plain", "{}")?).await?;
    let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: note}}}));
    let params = PatchParams::default();
    for said in [
        Said::of(pods.patch("plain", &params, &written).await)?,
        Said::of(pods.patch_status("plain", &params, &written).await)?,
    ] {
        ensure!(said == Said::Guard, "{said:?}");
    }
    // By these the API server takes nothing else.
    for subresource in ["resize", "ephemeralcontainers"] {
        pods.patch_subresource(subresource, "plain", &params, &written).await.map(drop)?;
        ensure!(pods.get("plain").await?.annotations()[NOTE] == "{}", "{subresource}");
    }
    let foreign = note.replace("/signing-", "/others-");
    let written = Patch::Merge(json!({"metadata": {"annotations": {NOTE: foreign}}}));
    pods.patch("plain", &params, &written).await.map(drop)?;
    Ok(())
}
