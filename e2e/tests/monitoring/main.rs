//! A real Prometheus scrapes the real operator: alerts fire while faults are made, and each
//! query of the dashboard returns something after a rotation. How long an alert waits is
//! left out here; operator/tests/alerting has that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod secured;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    operator::{Installed, Operator},
    prometheus::{Prometheus, Target},
    tools,
    world::{World, manifest, namespaces, wait_until},
};

const FILES: &str = "manifests/chart/files";

/// With an end that is always far enough, and a schedule.
const ENDS: &str =
    "  policy: {exclude: [{image: 'quay.io/x/*', reason: test, expires: '2999-01-01'}]}\n";

/// The rules, without the time for which each waits before it fires.
fn impatient(world: &World) -> Result<PathBuf> {
    let rules = fs::read_to_string(tools::root().join(FILES).join("alerts.yaml"))?;
    let lines = rules.lines().filter(|line| !line.starts_with("    for: "));
    let path = world.info.folder.join("alerts.yaml");
    fs::write(&path, lines.collect::<Vec<_>>().join("\n"))?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_and_the_dashboard_has_something_to_show() {
    let guard = tools::built("cluster").unwrap();
    let cluster = Cluster::start(&guard, "monitoring").await.unwrap();
    let world = World { info: cluster.info.clone() };
    if let Err(error) = monitored(&cluster, &world, &guard).await {
        panic!("{error:#}\n{}", cluster.logs());
    }
}

async fn monitored(cluster: &Cluster, world: &World, guard: &std::path::Path) -> Result<()> {
    world.install().await?;
    let installed = Installed::read(world, "signing-system", "signingkeyring-operator").await?;
    let program = tools::built("signingkeyring-operator")?;
    let quick = ["--recheck-interval=2s"];
    let operator = Operator::start_as(world, guard, &program, &installed, &quick).await?;
    let rules = impatient(world)?;
    let prometheus = Prometheus::start(world, Target::Open(operator.port), &rules).await?;
    named_as_prometheus_wants(world, &operator).await?;
    secured::metrics_are_for_who_may_read_them(world, guard, &installed, &rules).await?;

    world.apply(&namespaces("watched")).await?;
    let spec = manifest("watched", ENDS).replace("{soak: 1s}", "{soak: 1s, every: 90d}");
    world.apply(&spec).await?;
    world.wait_for_condition("watched", "Ready", "True").await?;
    world.ready_ring("lost").await?;
    wait_until("no alert fires", async || Ok(prometheus.firing().await?.is_empty())).await?;
    world.rotate("watched", "seen").await?;

    // A ledger is lost.
    world.kubectl(&["delete", "secret", "ring-lost", "-n", "signing-system"]).await?;
    prometheus.wait_until_fires("SigningRingStalled", "ring=\"lost\"").await?;
    let firing = prometheus.firing().await?;
    ensure!(firing.iter().all(|alert| alert == "SigningRingStalled"), "{firing:?}");
    dashboard(&prometheus).await?;

    // A list of the platform's is about to expire.
    let soon = jiff::Zoned::now().date().tomorrow()?;
    let list = format!(
        "{{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {{name: ends}}, \
         spec: {{images: [{{image: 'quay.io/y/*', reason: test, expires: '{soon}'}}]}}}}"
    );
    world.apply(&list).await?;
    prometheus.wait_until_fires("SigningExclusionExpires", "name=\"ends\"").await?;

    // Kyverno's webhooks are gone, and nobody puts them back.
    cluster.stop("kyverno").await?;
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        world.kubectl(&["delete", kind, "-l", "webhook.kyverno.io/managed-by=kyverno"]).await?;
    }
    prometheus.wait_until_fires("SigningGateOpen", "ring=\"watched\"").await?;
    cluster.start_again("kyverno").await?;
    let open = "ALERTS{alertstate=\"firing\",alertname=\"SigningGateOpen\"}";
    wait_until("it is over", async || Ok(prometheus.query(open).await?.is_empty())).await?;

    operator.kill().await?;
    prometheus.wait_until_fires("SigningLeaderMissing", "severity=\"critical\"").await
}

/// What the alerts ask for is there, and promtool has nothing to say of any name. It reads the
/// older text format, in which the type of a counter is of its whole name.
async fn named_as_prometheus_wants(world: &World, operator: &Operator) -> Result<()> {
    let answer = operator.metrics().await?;
    let (_, metrics) = answer.split_once("\r\n\r\n").context("no body")?;
    let counters = metrics.lines().filter_map(|line| {
        line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned)
    });
    let counters: Vec<String> = counters.collect();
    ensure!(!counters.is_empty());
    let rules = fs::read_to_string(tools::root().join(FILES).join("alerts.yaml"))?;
    for word in rules.split(|c: char| !c.is_ascii_lowercase() && c != '_') {
        let name = word.strip_suffix("_total").unwrap_or(word);
        let is_shown = metrics.contains(&format!("# HELP {name} "));
        ensure!(is_shown || !name.starts_with("signingkeyring_"), "no metric {name}");
    }
    let mut older = String::new();
    for line in metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT")) {
        let of = |counter: &&String| line.split(' ').nth(2) == Some(counter.as_str());
        match counters.iter().find(of).filter(|_| line.starts_with('#')) {
            Some(name) => older.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => older.push_str(line),
        }
        older.push('\n');
    }
    world.run("promtool", &["check", "metrics"], &[], &older).await.map(drop)
}

/// Each query of the dashboard returns series.
async fn dashboard(prometheus: &Prometheus) -> Result<()> {
    let text = fs::read_to_string(tools::root().join(FILES).join("dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    ensure!(queries.len() >= panels.len());
    for query in queries {
        let query = query.replace("$__rate_interval", "1m");
        let has_series = async || Ok(!prometheus.query(&query).await?.is_empty());
        wait_until(&query, has_series).await?;
    }
    Ok(())
}
