//! Where the programs are that the test cluster is made of.

use std::path::{Path, PathBuf};

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
