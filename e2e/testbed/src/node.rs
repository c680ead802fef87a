//! A node: containerd, the kubelet and the scheduler, and what they need around them.
//! Pods have a network of their own, which a bridge joins; nothing leads out of it, since
//! all of this is in a network namespace ([`enter`]).

mod namespaces;

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
pub use namespaces::{cannot, end_pods, enter, forget, is_inside, tidy};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::tools;

/// What the node is called.
pub const NAME: &str = "node-1";
/// Its address on the bridge, to which pods send what is not for a pod.
pub const ADDRESS: &str = "10.244.0.1";
/// The Service `kubernetes`, where pods look for the API server.
const SERVICE: &str = "10.0.0.1";
const BRIDGE: &str = "pods";
/// Below which its pods' control groups are: apart from those of a kubelet that this
/// machine may have.
pub const CGROUP: &str = "signingkeyring-node";
/// Where containerd listens: its default, below a `/run` of the node's own.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
/// The file with containerd's settings.
pub const CONTAINERD: &str = "containerd.toml";
/// The file with the kubelet's.
pub const KUBELET: &str = "kubelet.yaml";

/// What the API server does besides where there is a node. The address is the node's, and
/// the files are in its folder.
pub const API_SERVER: [&str; 5] = [
    "--advertise-address=10.244.0.1",
    "--authorization-mode=Node",
    "--enable-admission-plugins=NodeRestriction",
    "--kubelet-client-certificate=admin.crt",
    "--kubelet-client-key=admin.key",
];

async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let command = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("starting {command}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes what the node's programs find when they start: the network, the folders that are
/// not to be this machine's, control groups, and their settings.
///
/// # Errors
/// If this process may not, or is not in namespaces for it.
pub async fn prepare(folder: &Path, registry: &str) -> Result<()> {
    ensure!(is_inside(), "a node needs namespaces of its own; it would change this machine");
    for own in namespaces::OWN_FOLDERS {
        run("mount", &["-t", "tmpfs", "tmpfs", own]).await?;
    }
    for words in [
        "link set lo up".to_owned(),
        format!("link add {BRIDGE} type bridge"),
        format!("addr add {ADDRESS}/24 dev {BRIDGE}"),
        format!("addr add {SERVICE}/32 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
    ] {
        run("ip", &words.split(' ').collect::<Vec<_>>()).await?;
    }
    namespaces::make_cgroups()?;
    let programs = tools::folder().join("bin").display().to_string();
    let here = folder.display().to_string();
    fs::create_dir(folder.join("cni"))?;
    fs::write(folder.join("cni/10-pods.conflist"), NETWORK.replace("BRIDGE", BRIDGE))?;
    for (file, text) in [(CONTAINERD, CONTAINERD_SETTINGS), (KUBELET, KUBELET_SETTINGS)] {
        let text = text
            .replace("FOLDER", &here)
            .replace("PROGRAMS", &programs)
            .replace("REGISTRY", registry)
            .replace("ADDRESS", ADDRESS)
            .replace("CGROUP", CGROUP);
        fs::write(folder.join(file), text)?;
    }
    Ok(())
}

/// Leads the Service `kubernetes` to the API server, as a kube-proxy would.
///
/// # Errors
/// If its address is not there.
pub async fn serve_api(port: u16) -> Result<()> {
    let listener = TcpListener::bind((SERVICE, 443)).await.context("the Service's address")?;
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                    // Either side may just drop it.
                    let _ = copy_bidirectional(&mut connection, &mut server).await;
                }
            });
        }
    });
    Ok(())
}

/// Pushes the image that holds the namespaces of each pod.
///
/// # Errors
/// If the registry refuses.
pub async fn push_pause(registry: &str) -> Result<()> {
    push_program(registry, "pause", "1").await.map(drop)
}

/// Pushes an image that runs until it is told to end, another one for each tag; returns
/// its reference by digest.
///
/// # Errors
/// If the registry refuses.
pub async fn push_program(registry: &str, repository: &str, tag: &str) -> Result<String> {
    push_files(registry, repository, tag, "pause", &[]).await
}

/// Pushes an image of kubectl, which is linked dynamically here, with what it is linked to;
/// returns its reference by digest.
///
/// # Errors
/// If the registry refuses.
pub async fn push_kubectl(registry: &str) -> Result<String> {
    let program = tools::program("kubectl")?.display().to_string();
    let linked = run("ldd", &[&program]).await?;
    let libraries = linked.split_whitespace().filter_map(|word| word.strip_prefix('/'));
    push_files(registry, "kubectl", "1", "kubectl", &libraries.collect::<Vec<_>>()).await
}

/// Pushes an image of one of the cluster's programs, and files of this machine's.
async fn push_files(
    registry: &str,
    repository: &str,
    tag: &str,
    program: &str,
    files: &[&str],
) -> Result<String> {
    let programs = tools::folder().join("bin").display().to_string();
    let crane = tools::program("crane")?.display().to_string();
    let layer =
        tools::folder().join("run").join(format!("layer-{repository}-{tag}.tar").replace('/', "-"));
    let layer = layer.display().to_string();
    let folder = format!("--directory={programs}");
    let mut archive = vec!["--create", "--dereference", "--file", &layer, "--owner=0", "--group=0"];
    archive.extend([folder.as_str(), program]);
    // tar refuses a folder of which nothing follows.
    archive.extend(files.first().map(|_| "--directory=/"));
    archive.extend(files);
    run("tar", &archive).await?;
    let image = format!("{registry}/{repository}");
    let [bare, tagged] = [format!("{image}:{tag}-bare"), format!("{image}:{tag}")];
    let platform = "--platform=linux/amd64";
    let append = ["append", "--oci-empty-base", platform, "--new_layer", &layer, "-t", &bare];
    run(&crane, &append).await?;
    fs::remove_file(&layer)?;
    let [label, entrypoint] = [format!("--label=tag={tag}"), format!("--entrypoint=/{program}")];
    let mutate = ["mutate", &entrypoint, "--user=65532", &label, "-t", &tagged, &bare];
    run(&crane, &mutate).await?;
    Ok(format!("{image}@{}", run(&crane, &["digest", &tagged]).await?.trim()))
}

const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "BRIDGE", "isGateway": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}
}]}
"#;

/// The score by which the kernel chooses whom to end may be beyond what a container of
/// this machine may set.
const CONTAINERD_SETTINGS: &str = r#"version = 3
root = "FOLDER/containerd"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "REGISTRY/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["PROGRAMS"]
conf_dir = "FOLDER/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "PROGRAMS/runc"
SystemdCgroup = false
"#;

/// Nothing is evicted or collected: how full this machine's disk is does not matter here.
const KUBELET_SETTINGS: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ADDRESS
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: FOLDER/ca.crt}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /CGROUP
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard:
  {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
podLogsDir: FOLDER/pods
"#;
