//! Many rings are born at once, within the memory that the chart gives the operator.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    node,
    world::{manifest, namespaces, wait_until},
};

use crate::{NAMESPACE, Node, PODS, print};

const RINGS: usize = 100;

/// The control groups of the pods that ask for some of the node and not for all of it.
fn pods() -> (PathBuf, [&'static str; 2]) {
    let [second, first] = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
    let below = format!("{}/kubepods/burstable", node::CGROUP);
    if Path::new(second).join("cgroup.controllers").exists() {
        (Path::new(second).join(below), ["memory.peak", "memory.max"])
    } else {
        (Path::new(first).join(below), ["memory.max_usage_in_bytes", "memory.limit_in_bytes"])
    }
}

/// The most memory that a container has had, and its limit, in bytes.
fn memory(uid: &str, container: &str) -> Result<[u64; 2]> {
    let (pods, files) = pods();
    let folder = pods.join(format!("pod{uid}")).join(container);
    let mut values = [0; 2];
    for (value, file) in values.iter_mut().zip(files) {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        *value = text.trim().parse()?;
    }
    Ok(values)
}

/// A hundred rings are born, and no container of the operator is started again.
pub async fn births(node: &Node) -> Result<()> {
    let world = &node.world;
    node.step(&format!("{RINGS} rings are born"));
    let rings: Vec<String> = (0..RINGS).map(|number| format!("born-{number}")).collect();
    let objects: Vec<String> = rings
        .iter()
        .map(|ring| format!("{}\n---\n{}", namespaces(ring), manifest(ring, "")))
        .collect();
    world.apply(&objects.join("\n---\n")).await?;
    let ready = "{range .items[*]}{.metadata.name} \
                 {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
    for share in (1..=10).map(|tenth| RINGS * tenth / 10) {
        wait_until(&format!("{share} of them are ready"), async || {
            let found = world.get(&["skr"], ready).await?;
            let born = found.lines().filter(|l| l.starts_with("born-") && l.ends_with(" True"));
            Ok(born.count() >= share)
        })
        .await?;
    }
    node.step("They are ready. What the operator's containers took, at most:");
    let namespace = format!("--namespace={NAMESPACE}");
    let table = "{range .items[*]}{.metadata.name} {.metadata.uid} \
                 {.status.containerStatuses[0].containerID} \
                 {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let table = world.get(&["pods", &namespace, PODS], table).await?;
    for line in table.lines() {
        let [name, uid, container, restarts] =
            line.split(' ').collect::<Vec<_>>().try_into().ok().context("a pod's line")?;
        let container = container.strip_prefix("containerd://").context("a container's id")?;
        let [peak, limit] = memory(uid, container)?.map(|bytes| bytes / 1024 / 1024);
        print(&format!("  {name}: {peak} MiB of {limit}, restarts: {restarts}\n"));
        ensure!(restarts == "0", "{name} was started again");
        ensure!(limit == 256, "{name} has another limit than the chart says: {limit} MiB");
    }
    Ok(())
}
