//! What docs/own-image.md says to do, done word for word.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::tools;
use tokio::process::Command;

use crate::{Node, print};

const PAGE: &str = "docs/own-image.md";

/// The image, as the page writes it.
const IMAGE: &str = "REGISTRY/signingkeyring-operator@sha256:...";

/// The page leaves cosign's other flags to the README.
const COSIGN: &str = "cosign() { command cosign \"$@\" --yes --new-bundle-format=false \
                      --use-signing-config=false --tlog-upload=false; }\n";

/// The blocks of commands below a heading.
pub fn commands(heading: &str) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(tools::root().join(PAGE))?;
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.with_context(|| format!("{PAGE} has no heading {heading:?}"))?;
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match (line.strip_prefix("    "), blocks.last_mut()) {
            (Some(command), Some(block)) => {
                block.push_str(command);
                block.push('\n');
            }
            _ => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    ensure!(!blocks.is_empty(), "{PAGE} has no commands under {heading:?}");
    Ok(blocks)
}

/// Does what one of them says, as the cluster's administrator, with the image's reference.
pub async fn follow(node: &Node, block: &str, image: &str) -> Result<()> {
    node.step("As the page says:");
    for line in block.lines() {
        print(&format!("         {line}\n"));
    }
    let bin = tools::folder().join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("{COSIGN}{}", block.replace(IMAGE, image));
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .env("PATH", path)
        .env("KUBECONFIG", &node.world.info.kubeconfig)
        .env_remove("COSIGN_PASSWORD")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "{}\n{block}", said.concat());
    Ok(())
}
