//! What a test says that cannot or need not run: it passes for libtest, and is counted
//! apart from those that ran.

use std::{fs::File, io::Write};

use anyhow::Result;

use crate::tools;

/// Says that a test was left out of a kind of run, and why: past what libtest keeps to
/// itself of a test that passes, and in the list that `make test-all` shows.
///
/// # Errors
/// If it cannot be said.
pub fn left_out(test: &str, run: &str, why: &str) -> Result<()> {
    let line = format!("LEFT OUT of {run}: {test}: {why}\n");
    let list = tools::folder().join("left-out");
    File::options().create(true).append(true).open(list)?.write_all(line.as_bytes())?;
    std::io::stderr().write_all(line.as_bytes())?;
    Ok(())
}
