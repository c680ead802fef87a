//! A release from its first try to its end.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{images::Verdict, tools, world::wait_until};

use crate::{Admin, CHART, NAMESPACE, RELEASE};

const LIST: [&str; 2] = ["imageexclusionlist", "odj-platform"];
const TEST: &str = "signingkeyring-test";

/// Installs the chart in a cluster in which nothing is but Kyverno, upgrades it under a
/// ring, and takes it away as its README says.
pub async fn chart(admin: &Admin) -> Result<()> {
    let world = &admin.world;
    let notes = admin.install(&tools::root().join(CHART)).await?;
    // What they say of the namespace, which Helm has created.
    let label = notes.lines().find(|line| line.trim_start().starts_with("kubectl label"));
    world.do_as_told(label.context("no command")?).await?;
    let first = admin.uid(&LIST).await?;

    let operator = admin.operator().await?;
    world.ready_ring("charted").await?;
    let [signed, unsigned] = [world.push("charted", "1").await?, world.push("charted", "2").await?];
    world.sign(&signed, "charted-ci/image-signing").await?;
    ensure!(world.admit("charted-dev", &signed).await? == Verdict::Admitted);
    let refused = world.admit("charted-dev", &unsigned).await?;
    ensure!(matches!(refused, Verdict::Refused(_)), "{refused:?}");
    pods_are_restricted(admin).await?;
    tests_pass(admin).await?;

    // An upgrade writes what has changed alone.
    let ring = world.ring("charted", "{.metadata.generation}").await?;
    let policy = world.ring("charted", "{.status.policy.name}").await?;
    let written = world.policy(&policy).await?["metadata"]["generation"].clone();
    let gke = "exclusions.lists.gke[0].image=gke.gcr.io/*,exclusions.lists.gke[0].reason=nodes";
    let set = ["--set", "priorityClassName=system-cluster-critical", "--set", gke];
    admin.upgrade(&set).await?;
    ensure!(admin.uid(&LIST).await? == first, "the list was deleted and is another one");
    let mutable = world.get(&["deployment", "signingkeyring-operator", "-n", NAMESPACE], PRIORITY);
    ensure!(mutable.await? == "system-cluster-critical");
    wait_until("the new list is in force", async || {
        Ok(world.policy(&policy).await?.to_string().contains("gke.gcr.io"))
    })
    .await?;
    admin.upgrade(&[]).await?;
    ensure!(admin.uid(&LIST).await? == first);
    ensure!(world.get(&["imageexclusionlist", "gke"], "{.kind}").await.is_err(), "it is left");
    wait_until("it is not in force any more", async || {
        Ok(!world.policy(&policy).await?.to_string().contains("gke.gcr.io"))
    })
    .await?;
    // As when an earlier version is to run with the CRDs of a later one.
    admin.upgrade(&["--set", "crds.enabled=false"]).await?;
    admin.upgrade(&[]).await?;
    // Of the first revision the lists are hooks, so that going back to it deletes them first.
    admin.helm(&["rollback", RELEASE, "1"]).await?;
    wait_until("the list is back", async || Ok(admin.uid(&LIST).await.is_ok())).await?;
    admin.upgrade(&[]).await?;
    ensure!(world.ring("charted", "{.metadata.generation}").await? == ring);
    let now = world.policy(&policy).await?["metadata"]["generation"].clone();
    ensure!(now.as_u64() > written.as_u64());
    world.wait_for_condition("charted", "Ready", "True").await?;

    uninstall(admin).await?;
    ensure!(operator.stop().await? == Some(0));
    let crds = world.kubectl(&["get", "crd", "-o", "name"]).await?;
    ensure!(!crds.contains("signing.odj.cloud"), "{crds}");
    world.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=90s"]).await.map(drop)
}

const PRIORITY: &str = "{.spec.template.spec.priorityClassName}";

/// The indented commands of the chart's README under this heading.
fn documented(heading: &str) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(tools::root().join(CHART).join("README.md"))?;
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let lines = section.context("no such section")?.replace("\\\n", " ");
    Ok(lines.lines().filter_map(|line| Some(line.strip_prefix("    ")?.to_owned())).collect())
}

async fn uninstall(admin: &Admin) -> Result<()> {
    let commands = documented("Uninstall")?;
    ensure!(commands.len() == 4, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let [program, arguments @ ..] = &words[..] else { continue };
        match *program {
            "helm" => admin.helm(arguments).await?,
            _ => admin.world.run(program, arguments, &[], "").await?,
        };
    }
    Ok(())
}

/// What another test has installed by the chart is taken away.
pub async fn taken_away(admin: &Admin) -> Result<()> {
    let operator = admin.operator().await?;
    uninstall(admin).await?;
    ensure!(operator.stop().await? == Some(0));
    let left =
        admin.world.kubectl(&["get", "deployments,validatingadmissionpolicies", "-A"]).await?;
    ensure!(!left.contains("signingkeyring"), "{left}");
    // The namespace is part of the manifests by which all this was installed first.
    admin.world.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=90s"]).await.map(drop)
}

/// Its namespace is restricted, and both of its Pods are there all the same: no node runs
/// them, and that is all that they wait for.
async fn pods_are_restricted(admin: &Admin) -> Result<()> {
    let enforce = "{.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
    ensure!(admin.world.get(&["namespace", NAMESPACE], enforce).await? == "restricted");
    let pods = ["pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=signingkeyring-operator"];
    wait_until("the Deployment has its Pods", async || {
        Ok(admin.world.get(&pods, "{.items[*].status.phase}").await? == "Pending Pending")
    })
    .await
}

/// `helm test`, whose Pod no kubelet runs here: its commands are run as its ServiceAccount,
/// and what came of them is reported.
async fn tests_pass(admin: &Admin) -> Result<()> {
    let world = &admin.world;
    let kubelet = async {
        let pod = ["get", "pod", TEST, "-n", NAMESPACE, "--output=json"];
        wait_until("its Pod is there", async || Ok(world.kubectl(&pod).await.is_ok())).await?;
        let pod: Value = serde_json::from_str(&world.kubectl(&pod).await?)?;
        let account = pod["spec"]["serviceAccountName"].as_str().context("no account")?;
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        let containers = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
        let containers: Vec<&Value> = containers.into_iter().flatten().flatten().collect();
        ensure!(containers.len() == 2);
        for container in containers {
            let arguments = container["args"].as_array().context("no arguments")?;
            let arguments = arguments.iter().filter_map(Value::as_str).chain([account.as_str()]);
            world.kubectl(&arguments.collect::<Vec<_>>()).await?;
        }
        let patch = json!({"status": {"phase": "Succeeded"}}).to_string();
        let report = ["patch", "pod", TEST, "-n", NAMESPACE, "--subresource=status", "-p", &patch];
        world.kubectl(&report).await
    };
    let (test, ran) = tokio::join!(admin.helm(&["test", RELEASE, "--timeout=90s"]), kubelet);
    ran?;
    let test = test?;
    ensure!(test.contains("Phase:") && test.contains("Succeeded"), "{test}");
    Ok(())
}
