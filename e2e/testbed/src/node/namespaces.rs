//! The namespaces that a node has for itself: of processes, mounts and the network. When
//! the first process in them ends, in whatever way, the kernel ends all others, unmounts
//! what they mounted and takes their network away. Only empty control groups are left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{BRIDGE, CGROUP, run};
use crate::tools;

/// Folders that a node's programs write to by names that nobody can change. It has its own.
pub(super) const OWN_FOLDERS: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// The variable that says to a process that it was started in such namespaces.
const INSIDE: &str = "SIGNING_INSIDE_NODE";

const CGROUPS: &str = "/sys/fs/cgroup";

/// Why there can be no node here, if that is so.
#[must_use]
pub fn cannot() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("a node needs root".to_owned());
    }
    for name in ["containerd", "kubelet", "kube-scheduler", "runc"] {
        if tools::program(name).is_err() {
            return Some(format!("{name} is not there; have it with: make node-tools"));
        }
    }
    let here = tools::root();
    if let Some(own) = OWN_FOLDERS.iter().find(|own| here.starts_with(own)) {
        return Some(format!("this repository is below {own}, of which a node has its own"));
    }
    let tried =
        namespaces(Path::new("ip")).args(["link", "add", BRIDGE, "type", "bridge"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("no namespaces for a node, or no bridge in them: {error}"))
        }
        Err(error) => Some(format!("unshare does not start: {error}")),
    }
}

fn namespaces(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program);
    command
}

/// The command that starts this program again, in namespaces for a node.
///
/// # Errors
/// If this program's file is not known.
pub fn enter() -> Result<Command> {
    let mut command = namespaces(&std::env::current_exe()?);
    command.env(INSIDE, "1");
    Ok(command)
}

/// Whether this process is in such namespaces: the first process in them is a program of
/// this repository, which no other machine's is, whatever its variables say.
#[must_use]
pub fn is_inside() -> bool {
    let first = fs::read_link("/proc/1/exe").unwrap_or_default();
    std::env::var_os(INSIDE).is_some() && first.starts_with(tools::root())
}

/// The node's control group in each hierarchy: one, or with version 1 one for each
/// controller.
fn cgroups() -> Result<Vec<PathBuf>> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.join(CGROUP)]);
    }
    let entries = fs::read_dir(root).with_context(|| format!("reading {CGROUPS}"))?;
    let folders = entries.flatten().map(|entry| entry.path());
    let hierarchies = folders.filter(|path| path.join("cgroup.procs").exists());
    Ok(hierarchies.map(|path| path.join(CGROUP)).collect())
}

pub(super) fn make_cgroups() -> Result<()> {
    tidy()?;
    for group in cgroups()? {
        fs::create_dir(&group).with_context(|| format!("creating {}", group.display()))?;
    }
    Ok(())
}

/// The control groups below one, and itself last.
fn below(group: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
    }
    found.push(group.to_owned());
}

/// Takes away the control groups that a node has left, once its namespaces are gone.
///
/// # Errors
/// If one is not empty: a process of a pod is still there.
pub fn tidy() -> Result<()> {
    let mut left = Vec::new();
    for group in cgroups()?.iter().filter(|group| group.exists()) {
        below(group, &mut left);
    }
    for group in left {
        fs::remove_dir(&group).with_context(|| format!("removing {}", group.display()))?;
    }
    Ok(())
}

/// Every process of these namespaces that runs a program of this name.
fn running(program: &str) -> Vec<i32> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.filter(|id: &i32| {
        fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|path| path.ends_with(program))
    })
    .collect()
}

/// The processes in the node's pods.
fn in_pods() -> Result<Vec<i32>> {
    let mut groups = Vec::new();
    for group in cgroups()? {
        below(&group, &mut groups);
    }
    let texts = groups.iter().filter_map(|g| fs::read_to_string(g.join("cgroup.procs")).ok());
    Ok(texts
        .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
        .collect())
}

/// Ends each process of each pod at once. Whether none was left before.
///
/// # Errors
/// If control groups cannot be read.
pub fn end_pods() -> Result<bool> {
    let left = [running("containerd-shim-runc-v2"), in_pods()?].concat();
    for process in left.iter().filter_map(|id| Pid::from_raw(*id)) {
        // It may have ended just now.
        let _ = kill_process(process, Signal::KILL);
    }
    Ok(left.is_empty())
}

/// Leaves of a node what is on its disk, as when it lost its power: once its kubelet,
/// containerd and pods have ended, mounts, `/run` and control groups go.
///
/// # Errors
/// If something stays.
pub async fn forget() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let of_pods = points
        .filter(|path| path.starts_with("/run/") || path.starts_with("/var/lib/kubelet/pods/"));
    // Those that are mounted later may be below others.
    for point in of_pods.collect::<Vec<_>>().into_iter().rev() {
        run("umount", &["--lazy", point]).await?;
    }
    for entry in fs::read_dir("/run")?.flatten() {
        fs::remove_dir_all(entry.path())?;
    }
    make_cgroups()
}
