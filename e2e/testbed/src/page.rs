//! Pages of which a test writes a part: what it has seen.

use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::tools;

/// What stands behind the part that a test writes.
const END: &str = "<!-- The end of what was seen. -->";

/// Compares the part of a page that a test writes with what it has seen, or writes it
/// where `SIGNING_DOCS=write` asks for that. It stands behind the line that names the
/// test, which is a file of `e2e/tests`.
///
/// # Errors
/// If the page says something else, or nothing.
pub fn shows(page: &str, test: &str, seen: &str) -> Result<()> {
    let path = tools::root().join(page);
    let text = fs::read_to_string(&path)?;
    let begin =
        format!("<!-- What follows was seen by e2e/tests/{test}, which also writes it. -->\n");
    let (before, rest) = text.split_once(&begin).context("the page has no place for it")?;
    let (_, after) = rest.split_once(END).context("the page has no end of it")?;
    let right = format!("{before}{begin}{seen}{END}{after}");
    if env::var("SIGNING_DOCS").is_ok_and(|wish| wish == "write") {
        fs::write(&path, &right)?;
    }
    let program = test.split('/').next().unwrap_or_default();
    ensure!(
        fs::read_to_string(&path)? == right,
        "{page} says something else. Seen:\n{seen}Where that is right, run SIGNING_DOCS=write \
         cargo test --package signingkeyring-e2e-tests --test {program}"
    );
    Ok(())
}
