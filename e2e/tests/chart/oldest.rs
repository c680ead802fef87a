//! What the operator has left that wrote ledgers of format 2, the oldest that is read, and
//! the CRDs of its day: they become the present operator's where they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    tools,
    world::{World, namespaces},
};

use crate::{Admin, CHART, NAMESPACE, RELEASE};

/// The rings, how each stands, and the version that signs once nothing is under way.
const RINGS: [(&str, &str); 2] = [("old-one", "1"), ("old-two", "2")];

const CRDS: [&str; 2] = ["signingkeyrings.yaml", "imageexclusionlists.yaml"];

/// A field that the CRDs of then do not have.
const NEW: &str =
    "  revoked: []\n  rotation: {soak: 1s, windows: [{start: '00:00', end: '23:59'}]}\n";

fn folder() -> PathBuf {
    tools::root().join("e2e/tests/chart/oldest")
}

/// Puts there what was left.
async fn leave(world: &World) -> Result<()> {
    for (ring, _) in RINGS {
        world.apply(&namespaces(ring)).await?;
    }
    let text = fs::read_to_string(folder().join("objects.json"))?;
    let left: Value = serde_json::from_str(&text)?;
    for item in left["items"].as_array().context("no items")? {
        if item["kind"] == "Secret" {
            let ledger = item["metadata"]["annotations"]["signing.odj.cloud/ledger"].as_str();
            ensure!(ledger.is_some_and(|ledger| ledger.starts_with("{\"format\":2,")));
        }
    }
    world.apply(&json!(left).to_string()).await.map(drop)
}

/// The fingerprint of the first version of a ring, as its ledger of then says it.
fn first(ring: &str) -> Result<String> {
    let text = fs::read_to_string(folder().join("objects.json"))?;
    let left: Value = serde_json::from_str(&text)?;
    let name = format!("ring-{ring}");
    let items = left["items"].as_array().context("no items")?;
    let item = items.iter().find(|item| item["metadata"]["name"] == *name).context("no ledger")?;
    let ledger = item["metadata"]["annotations"]["signing.odj.cloud/ledger"].as_str();
    let ledger: Value = serde_json::from_str(ledger.context("no text")?)?;
    let first = &ledger["ledger"]["versions"][0]["fingerprint"];
    Ok(first.as_str().context("no fingerprint")?.to_owned())
}

/// The present operator goes on with them, and what is new can be asked for.
async fn goes_on(admin: &Admin) -> Result<()> {
    let world = &admin.world;
    let operator = admin.operator().await?;
    for (ring, version) in RINGS {
        world.wait_for_condition(ring, "Ready", "True").await?;
        world.wait_for_field(ring, "{.status.currentVersion}", version).await?;
        let versions = world.ring(ring, "{.status.versions[*].fingerprint}").await?;
        ensure!(versions.contains(&first(ring)?), "{ring} has another first key: {versions}");
    }
    let ring = signingkeyring_e2e_testbed::world::manifest("old-one", NEW);
    world.apply(&ring.replacen("  rotation: {soak: 1s}\n", "", 1)).await?;
    world.rotate("old-one", "after-the-upgrade").await?;
    world.wait_for_field("old-one", "{.status.currentVersion}", "2").await?;
    ensure!(operator.stop().await? == Some(0));
    Ok(())
}

/// As `kubectl apply -k` finds it.
pub async fn by_kustomize(admin: &Admin) -> Result<()> {
    let world = &admin.world;
    for crd in CRDS {
        let file = format!("--filename={}", folder().join(crd).display());
        world.kubectl(&["apply", &file]).await?;
    }
    let crds = ["wait", "--for=condition=Established", "crd/signingkeyrings.signing.odj.cloud"];
    world.kubectl(&crds).await?;
    world.kubectl(&["create", "namespace", NAMESPACE]).await?;
    leave(world).await?;
    world.install().await?;
    goes_on(admin).await
}

/// What kustomize has installed becomes the chart's, and is the same.
pub async fn taken_over_by_the_chart(admin: &Admin) -> Result<()> {
    let objects: [&[&str]; 3] = [
        &["deployment", "signingkeyring-operator", "-n", NAMESPACE],
        &["crd", "signingkeyrings.signing.odj.cloud"],
        &["imageexclusionlist", "odj-platform"],
    ];
    let mut before = Vec::new();
    for object in objects {
        before.push(admin.uid(object).await?);
    }
    let force = ["--take-ownership", "--force-conflicts"];
    admin.helm(&[&["install", RELEASE, CHART], &force[..]].concat()).await?;
    for (object, before) in objects.into_iter().zip(before) {
        ensure!(admin.uid(object).await? == before, "{object:?} is another one");
    }
    Ok(())
}

/// A copy of the chart with the CRDs of then.
fn chart_of_then(to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").arg("-r").arg(tools::root().join(CHART)).arg(to).status()?;
    ensure!(copied.success(), "the chart cannot be copied to {}", to.display());
    let crds = to.join("files/crds");
    for entry in fs::read_dir(&crds)? {
        fs::remove_file(entry?.path())?;
    }
    for crd in CRDS {
        fs::copy(folder().join(crd), crds.join(crd))?;
    }
    Ok(())
}

/// As `helm upgrade` finds it, of a release with the CRDs of then.
pub async fn by_the_chart(admin: &Admin) -> Result<()> {
    let chart = tools::root().join("target/oldest-chart");
    chart_of_then(&chart)?;
    admin.install(&chart).await?;
    leave(&admin.world).await?;
    let windows = "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.rotation\
                   .properties.windows.type}";
    let crd = ["crd", "signingkeyrings.signing.odj.cloud"];
    ensure!(admin.world.get(&crd, windows).await?.is_empty(), "it is of before");
    admin.upgrade(&[]).await?;
    ensure!(admin.world.get(&crd, windows).await? == "array", "it was not upgraded");
    goes_on(admin).await
}
