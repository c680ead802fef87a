//! Where the programs are that the test cluster is made of.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder with what `make cluster-tools` builds.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("target/cluster")
}

/// The variable that says which Kyverno the clusters of a run have, by its minor
/// version (`1.18`); without it they have the one that `e2e/cluster/go.mod` pins.
pub const KYVERNO: &str = "SIGNING_KYVERNO";

/// The minor version of the Kyverno that this run is about, if it is an older one.
#[must_use]
pub fn older_kyverno() -> Option<String> {
    env::var(KYVERNO).ok().filter(|version| !version.is_empty())
}

/// The Kyverno that the clusters of this run have, as its program and the folder of
/// its CRDs are called.
#[must_use]
pub fn kyverno() -> String {
    older_kyverno().map_or("kyverno".to_owned(), |version| format!("kyverno-{version}"))
}

/// A program that `make cluster-tools` builds.
///
/// # Errors
/// If it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = folder().join("bin").join(name);
    ensure!(path.exists(), "{} does not exist; build it with: make cluster-tools", path.display());
    Ok(path)
}

/// A program of this workspace, next to the running one's.
///
/// # Errors
/// If it has not been built.
pub fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found =
        here.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; build it with: make binaries"))
}
