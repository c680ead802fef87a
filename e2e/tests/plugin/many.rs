//! What many pods cost: each image is looked up once in its registry.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use reqwest::{Client, header::CONTENT_TYPE};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, timed, wait_until};

use crate::shell;

const PODS: usize = 1000;
const IMAGES: usize = 300;
const NAMESPACE: &str = "many";
const REPOSITORY: &str = "many/app";

/// Has pods of fewer images made, in a namespace of which no ring verifies anything yet.
pub async fn pods(world: &World, ring: &str) -> Result<()> {
    images(world).await?;
    world.kubectl(&["create", "namespace", NAMESPACE]).await?;
    wait_until("the ServiceAccount of its pods", async || {
        let account = ["serviceaccount", "default", "--namespace", NAMESPACE, "--ignore-not-found"];
        Ok(!world.get(&account, "{.metadata.name}").await?.is_empty())
    })
    .await?;
    let api: Api<Pod> = Api::namespaced(world.client().await?, NAMESPACE);
    let create = |number: usize| {
        let image = format!("{}/{REPOSITORY}:v{}", world.info.registry, number % IMAGES);
        let pod = json!({
            "metadata": {"name": format!("pod-{number}")},
            "spec": {"containers": [{"name": "app", "image": image}]},
        });
        let api = &api;
        async move {
            Ok::<_, anyhow::Error>(
                api.create(&PostParams::default(), &serde_json::from_value(pod)?).await?,
            )
        }
    };
    let (made, took) =
        timed(stream::iter(0..PODS).map(create).buffer_unordered(8).try_collect::<Vec<_>>()).await;
    println!("{} pods were made in {} s", made?.len(), took.as_secs());
    let line = format!("kubectl signing impact {ring} --enforce -n {NAMESPACE} -o json");
    let before = requests(world)?;
    let (ran, took) = timed(shell(world, &line)).await;
    let ran = ran?;
    ensure!(ran.code == Some(3), "{:?}\n{}", ran.code, ran.text);
    let report: Value = serde_json::from_str(&ran.text)?;
    let workloads = report["workloads"].as_array().context("no workloads")?.len();
    let requests = requests(world)?.saturating_sub(before);
    println!(
        "{workloads} pods with {} images cost {} inspections and {requests} requests of the \
         registry, in {} s",
        report["images"],
        report["inspections"],
        took.as_secs()
    );
    ensure!(workloads == PODS && report["images"] == IMAGES, "{workloads} {}", report["images"]);
    ensure!(report["inspections"] == IMAGES, "{}", report["inspections"]);
    // The tag, the image, its signatures and its bundles: a few for each, and never a
    // thousand times.
    ensure!((IMAGES..=6 * IMAGES).contains(&requests), "{requests} requests");
    world.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?;
    Ok(())
}

/// The requests that the registry has logged.
fn requests(world: &World) -> Result<usize> {
    let log = std::fs::read_to_string(world.info.folder.join("registry.log"))?;
    Ok(log.lines().filter(|line| line.contains("/v2/many/app/")).count())
}

/// Images that differ in nothing but an annotation, so that they are quickly made.
async fn images(world: &World) -> Result<()> {
    let image = world.push(REPOSITORY, "v0").await?;
    let digest = image.split_once('@').context("no digest")?.1;
    // Another crate may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().build()?;
    let url = format!("http://{}/v2/{REPOSITORY}/manifests/", world.info.registry);
    let found = client.get(format!("{url}{digest}")).send().await?.error_for_status()?;
    let manifest: Value = serde_json::from_slice(&found.bytes().await?)?;
    let media_type = manifest["mediaType"].as_str().context("no media type")?.to_owned();
    let put = |number: usize| {
        let mut manifest = manifest.clone();
        manifest["annotations"] = json!({"number": number.to_string()});
        let put = client.put(format!("{url}v{number}")).header(CONTENT_TYPE, &media_type);
        async move { put.body(manifest.to_string()).send().await?.error_for_status().map(drop) }
    };
    stream::iter(0..IMAGES).map(put).buffer_unordered(8).try_collect::<Vec<()>>().await?;
    Ok(())
}
