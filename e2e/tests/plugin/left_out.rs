//! A namespace that Kyverno's settings leave out, for good and now and then.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::wait_until;

use crate::{Ran, expect, kinds::Scene, shell};

/// Has Kyverno leave out a namespace, hears what is said of it, and takes that back.
pub async fn from_the_check(scene: &Scene<'_>) -> Result<()> {
    let Scene { world, ring, namespace, .. } = scene;
    let unsigned = scene.image("unsigned");
    settings(scene, &json!([{"key": "stage", "operator": "NotIn", "values": ["sandbox"]}])).await?;
    label(scene, "stage=sandbox").await?;
    world.wait_until_admitted(namespace, &unsigned).await?;
    let verify = format!("kubectl signing verify {ring} --image {unsigned}");
    let left_out = format!("pods are not verified in {namespace}, which the namespaceSelector");
    for (line, code, says) in [
        (
            format!("kubectl signing why {unsigned} -n {namespace}"),
            0,
            format!("admitted: nothing is verified here: {left_out}"),
        ),
        (format!("{verify} --times 3"), 3, "It is not proven that the gate is closed.".to_owned()),
        ("kubectl signing doctor".to_owned(), 3, left_out.clone()),
    ] {
        expect(world, &line, code, &says).await?;
    }
    // What the operator says of it comes later, and is waited for in both directions, so that
    // none of it is left for what follows.
    world.wait_for_condition(ring, "EnforcementComplete", "False").await?;
    now_and_then(scene, &verify).await?;
    label(scene, "stage-").await?;
    settings(scene, &json!([])).await?;
    world.wait_until_refused(namespace, &unsigned).await?;
    world.wait_for_condition(ring, "EnforcementComplete", "True").await?;
    world.wait_for_condition(ring, "Ready", "True").await?;
    Ok(())
}

/// A gate that lets some through is reported as that. Which of the dry runs meet the moment in
/// which it does is chance, so it is tried until some do and some do not.
async fn now_and_then(scene: &Scene<'_>, verify: &str) -> Result<()> {
    let mut wrong = Vec::new();
    wait_until("some of the dry runs are let through", async || {
        let ran = while_it_flickers(scene, &format!("{verify} --times 60 -o json")).await?;
        let report: Value = serde_json::from_str(&ran.text).with_context(|| ran.text.clone())?;
        let rows = report["rows"].as_array().context("no rows")?;
        let of_unsigned = rows.iter().find(|row| row["kind"] == "Unsigned").context("no row")?;
        let count = |field: &str| of_unsigned[field].as_u64().context("no count");
        let (admitted, refused) = (count("admitted")?, count("refused")?);
        println!("{}: {admitted} of {} were let through", scene.kind, admitted + refused);
        if admitted > 0 && ran.code != Some(3) {
            wrong.push(format!("{:?}\n{}", ran.code, ran.text));
        }
        Ok(admitted > 0 && refused > 0)
    })
    .await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// Runs a line while the namespace is left out and taken in again all the time.
async fn while_it_flickers(scene: &Scene<'_>, line: &str) -> Result<Ran> {
    let is_done = AtomicBool::new(false);
    let asked = async {
        let ran = shell(scene.world, line).await;
        is_done.store(true, Ordering::Relaxed);
        ran
    };
    let flicker = async {
        while !is_done.load(Ordering::Relaxed) {
            label(scene, "stage-").await?;
            label(scene, "stage=sandbox").await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let (ran, flicker) = tokio::join!(asked, flicker);
    flicker?;
    ran
}

async fn label(scene: &Scene<'_>, label: &str) -> Result<()> {
    let set = ["label", "--overwrite", "namespace", &scene.namespace, label];
    scene.world.kubectl(&set).await?;
    Ok(())
}

/// Gives Kyverno's webhooks a namespaceSelector.
async fn settings(scene: &Scene<'_>, expressions: &Value) -> Result<()> {
    let webhooks = json!({"namespaceSelector": {"matchExpressions": expressions}}).to_string();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"webhooks": webhooks},
        "metadata": {"name": "kyverno", "namespace": "kyverno"},
    });
    scene.world.apply(&map.to_string()).await?;
    Ok(())
}
