//! The operator of the commit before replicas elected a leader, built from the history.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::tools;

/// A folder that is not the sources'.
fn folder() -> PathBuf {
    tools::root().join("target/before")
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// The commit before replicas elected a leader, where the history is there.
pub fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(tools::root()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let added = ["log", "--diff-filter=A", "--format=%H", "--", "operator/src/leadership.rs"];
    let first = git(&added)?.lines().last()?.to_owned();
    git(&["rev-parse", "--verify", "--quiet", &format!("{first}^")])
}

/// Builds the operator of a commit, in a folder of its own.
pub fn built(commit: &str) -> Result<PathBuf> {
    let (sources, target) = (folder().join("sources"), folder().join("target"));
    if sources.exists() {
        fs::remove_dir_all(&sources)?;
    }
    fs::create_dir_all(&sources)?;
    let archive = folder().join("sources.tar");
    let to = format!("--output={}", archive.display());
    run(Command::new("git").args(["archive", &to, commit]).current_dir(tools::root()))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&sources))?;
    run(Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--package=signingkeyring-operator"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&sources))?;
    Ok(target.join("debug/signingkeyring-operator"))
}
