//! Exclusions cover every spelling of an image and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, wait_until},
};

use crate::common::run;

/// The repositories that the platform's 16 patterns exclude, one or more for
/// each, as a pod names them without a tag; and what the local registry calls
/// them.
const TREES: [&str; 8] = [
    "eu.gcr.io/sit-odj",
    "eu.gcr.io/sit-odj/debug",
    "reg.infra.ske.eu01.stackit.cloud",
    "quay.io/jetstack",
    "ghcr.io/kyverno",
    "k8s.gcr.io/ingress-nginx",
    "registry.k8s.io/ingress-nginx",
    // Not a tree, but spelled in one way only, as those are.
    "registry.k8s.io/kube-state-metrics",
];
const HUB: [&str; 8] = [
    "kbudde/rabbitmq-exporter",
    "bitnami/postgres-exporter",
    "prom/mysqld-exporter",
    "percona/mongodb_exporter",
    "google/apigee-envoy-adapter",
    "prom/prometheus",
    "grafana/promtail",
    "busybox",
];

/// Every name of an excluded repository, and the local repository behind it.
fn names() -> Vec<(String, String)> {
    let mut names = Vec::new();
    for tree in TREES {
        let below: &[&str] = match tree {
            "registry.k8s.io/kube-state-metrics" => &["kube-state-metrics"],
            _ => &["app", "nested/a/b"],
        };
        for path in below {
            let name = format!("{tree}/{path}");
            let local = name.split_once('/').map_or("", |(_, path)| path).to_owned();
            names.push((name, local));
        }
    }
    for hub in HUB {
        let local = if hub.contains('/') { hub.to_owned() } else { format!("library/{hub}") };
        let mut prefixes = vec!["", "docker.io/", "index.docker.io/"];
        if !hub.contains('/') {
            prefixes.extend(["library/", "docker.io/library/", "index.docker.io/library/"]);
        }
        names.extend(prefixes.iter().map(|prefix| (format!("{prefix}{hub}"), local.clone())));
    }
    names
}

#[test]
fn every_spelling_of_the_platforms_images_is_admitted_unsigned() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("matrix").await?;
        let names = names();
        let locals: BTreeSet<&String> = names.iter().map(|(_, local)| local).collect();
        let mut digests = std::collections::BTreeMap::new();
        for local in locals {
            let digest = world.push(local, "v1").await?;
            world.push(local, "latest").await?;
            let digest = digest.rsplit_once('@').map_or("", |(_, digest)| digest).to_owned();
            digests.insert(local.clone(), digest);
        }
        let mut tried = 0;
        for (name, local) in &names {
            let digest = &digests[local];
            for suffix in ["", ":v1", &format!("@{digest}"), &format!(":v1@{digest}")] {
                let image = format!("{name}{suffix}");
                let verdict = world.admit("matrix-dev", &image).await?;
                ensure!(verdict == Verdict::Admitted, "{image}: {verdict:?}");
                tried += 1;
            }
        }
        ensure!(tried >= 16 * 4, "only {tried} spellings were tried");
        near_misses(world).await
    });
}

async fn near_misses(world: &World) -> Result<()> {
    for (image, local) in [
        ("evil.example/quay.io/jetstack/x:v1", "quay.io/jetstack/x"),
        ("quay.io/jetstack-evil/x:v1", "jetstack-evil/x"),
        ("docker.io/kbudde/rabbitmq-exporter-evil:v1", "kbudde/rabbitmq-exporter-evil"),
        ("prom/prometheus2:v1", "prom/prometheus2"),
        ("evil.example/busybox:v1", "busybox"),
        ("evil/busybox:v1", "evil/busybox"),
        (
            "registry.k8s.io/kube-state-metrics/kube-state-metrics-evil:v1",
            "kube-state-metrics/kube-state-metrics-evil",
        ),
    ] {
        // It exists: what refuses it is the missing signature.
        world.push(local, "v1").await?;
        match world.admit("matrix-dev", image).await? {
            Verdict::Refused(text) => {
                ensure!(text.contains(Kind::under_test().unsigned()), "{image}: {text}");
            }
            other => anyhow::bail!("{image}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn lists_and_own_exclusions_take_effect_and_expire() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("excludes").await?;
        for repository in ["listed/a", "own/b", "expired/c"] {
            world.push(repository, "v1").await?;
        }
        let (listed, own, expired) =
            ("quay.io/listed/a:v1", "quay.io/own/b:v1", "quay.io/expired/c:v1");
        world.wait_until_refused("excludes-dev", listed).await?;

        let list = "{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {name: more}, spec: {images: [{image: 'quay.io/listed/*', reason: test}]}}";
        world.apply(list).await?;
        world.wait_until_admitted("excludes-dev", listed).await?;
        world.kubectl(&["delete", "iel", "more"]).await?;
        world.wait_until_refused("excludes-dev", listed).await?;

        let exclude = |date: &str| {
            manifest(
                "excludes",
                &format!(
                    "  policy: {{exclude: [{{image: 'quay.io/own/*', reason: test}}, {{image: 'quay.io/expired/*', reason: test, expires: '{date}'}}]}}\n"
                ),
            )
        };
        world.apply(&exclude("2999-12-31")).await?;
        world.wait_until_admitted("excludes-dev", own).await?;
        world.wait_until_admitted("excludes-dev", expired).await?;
        world.apply(&exclude("2020-01-01")).await?;
        world.wait_until_refused("excludes-dev", expired).await?;
        world.wait_until_admitted("excludes-dev", own).await?;
        wait_until("an event says that it expired", async || {
            let field = "--field-selector=reason=ExclusionExpired,regarding.name=excludes";
            let events = world
                .kubectl(&["get", "events.events.k8s.io", "-n", "default", field, "-o", "name"])
                .await?;
            Ok(!events.trim().is_empty())
        })
        .await?;
        ensure!(world.ring("excludes", "{.status.currentVersion}").await? == "1");
        Ok(())
    });
}

/// A list that the policies have no room for: a tree, and patterns of the greatest
/// length.
fn too_large() -> String {
    let mut images = vec!["{image: 'quay.io/toomuch/*', reason: test}".to_owned()];
    images.extend((0..299).map(|number| {
        let image = format!("quay.io/bulk/{number:03}-");
        format!("{{image: '{image}{}', reason: test}}", "a".repeat(255 - image.len()))
    }));
    format!(
        "{{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {{name: toomuch}}, spec: {{images: [{}]}}}}",
        images.join(", ")
    )
}

#[test]
fn a_list_that_is_too_large_holds_up_nothing_and_takes_nothing_away() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("bounded").await?;
        for repository in ["bounded/a", "toomuch/b"] {
            world.push(repository, "v1").await?;
        }
        let (good, left_out) = ("quay.io/bounded/a:v1", "quay.io/toomuch/b:v1");
        let list = "{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {name: bounded}, spec: {images: [{image: 'quay.io/bounded/*', reason: test}]}}";
        world.apply(list).await?;
        world.wait_until_admitted("bounded-dev", good).await?;

        let too_many = async || {
            let operator = shared.operator.lock().await;
            let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
            let mut lines = metrics.lines();
            let series = "signingkeyring_exclusion_lists_too_large ";
            let value = lines.find_map(|line| line.strip_prefix(series));
            Ok::<_, anyhow::Error>(value.map(str::to_owned))
        };
        ensure!(too_many().await?.as_deref() == Some("0"));
        world.apply(&too_large()).await?;
        wait_until("an event says that the list is too large", async || {
            let field = "--field-selector=reason=ExclusionListTooLarge,regarding.name=toomuch";
            let path = "-o=jsonpath={.items[*].note}";
            let events = world
                .kubectl(&["get", "events.events.k8s.io", "-n", "default", field, path])
                .await?;
            Ok(events.starts_with("300 of its images do not count")
                && events.contains("may have 76458 bytes"))
        })
        .await?;
        ensure!(too_many().await?.as_deref() == Some("1"));

        // Every policy is still written, a new ring's rule and what is good.
        world.ready_ring("bounded-later").await?;
        for namespace in ["bounded-dev", "bounded-later-dev"] {
            world.wait_until_admitted(namespace, good).await?;
            world.wait_until_refused(namespace, left_out).await?;
        }
        world.kubectl(&["delete", "iel", "toomuch"]).await?;
        wait_until("no list is too large any more", async || {
            Ok(too_many().await?.as_deref() == Some("0"))
        })
        .await?;
        world.wait_until_admitted("bounded-dev", good).await?;
        world.kubectl(&["delete", "iel", "bounded"]).await?;
        world.wait_until_refused("bounded-dev", good).await
    });
}
