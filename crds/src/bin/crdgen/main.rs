//! Writes the CRDs of this crate's types and a page for each kind that users write, or
//! checks that they are current.

mod reference;

use std::{fs, path::Path, process::ExitCode};

use kube::CustomResourceExt;
use signingkeyring_crds::{GateQuestion, ImageExclusionList, SigningKeyRing, UnknownRings};

const COMMAND: &str = "cargo run -p signingkeyring-crds --bin crdgen";
const USAGE: &str = "usage: crdgen [--mode write|check]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let check = match words.as_slice() {
        [] | ["--mode", "write"] => false,
        ["--mode", "check"] => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, crd) in [
        ("signingkeyrings.yaml", SigningKeyRing::crd()),
        ("imageexclusionlists.yaml", ImageExclusionList::crd()),
        ("gatequestions.yaml", GateQuestion::crd()),
        ("unknownrings.yaml", UnknownRings::crd()),
    ] {
        let yaml = serde_saphyr::to_string(&crd).map_err(|error| format!("{file}: {error}"))?;
        let text = format!("# Generated from crds/src by: {COMMAND}\n{yaml}");
        put(check, &folder.join(file), &text)?;
    }
    let pages = folder.join("../docs/reference");
    for (file, crd) in [
        ("signingkeyring.md", SigningKeyRing::crd()),
        ("imageexclusionlist.md", ImageExclusionList::crd()),
    ] {
        let crd = serde_json::to_value(&crd).map_err(|error| format!("{file}: {error}"))?;
        put(check, &pages.join(file), &reference::page(&crd, COMMAND))?;
    }
    Ok(())
}

/// Writes a file, or checks that it is what would be written.
fn put(check: bool, path: &Path, text: &str) -> Result<(), String> {
    if !check {
        return fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == text {
        return Ok(());
    }
    Err(format!(
        "{} is not what crds/src makes; {}\nwrite it anew: {COMMAND}",
        path.display(),
        difference(&found, text)
    ))
}

/// The first line that differs.
fn difference(found: &str, wanted: &str) -> String {
    let mut wanted_lines = wanted.lines();
    for (number, line) in found.lines().enumerate() {
        match wanted_lines.next() {
            Some(wanted) if wanted == line => {}
            wanted => {
                let wanted = wanted.unwrap_or("the end");
                return format!("line {} is\n-{line}\nand should be\n+{wanted}", number + 1);
            }
        }
    }
    "it ends too early".to_owned()
}
