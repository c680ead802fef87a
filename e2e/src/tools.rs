//! Where the programs are that the test cluster is made of.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR"));
    e2e.parent().unwrap_or(e2e).to_owned()
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

/// The operator's binary, next to the running program's.
///
/// # Errors
/// If it has not been built.
pub fn operator() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("signingkeyring-operator"))
        .find(|path| path.is_file());
    ensure!(
        found.is_some(),
        "the operator is not built; build it with: cargo build -p signingkeyring-operator"
    );
    Ok(found.unwrap_or_default())
}
