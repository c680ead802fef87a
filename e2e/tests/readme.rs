//! The commands of the README run as they stand there, once each and in a
//! cluster where nothing was done before: install, enrol, rotate, sign, verify,
//! uninstall.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use signingkeyring_e2e_testbed::{
    cluster::Cluster, images::Verdict, operator::Operator, tools, world::World,
};
use tokio::process::Command;

/// What a reader writes into a command, and what the test writes there. Each is
/// used.
const PLACEHOLDERS: [(&str, Meaning); 2] =
    [("registry.example/checkout/app@sha256:…", Meaning::Image), ("IMAGE", Meaning::Image)];

/// What stands for a placeholder.
#[derive(Clone, Copy)]
enum Meaning {
    /// An image in the local registry, by its digest.
    Image,
}

/// Lines that this test does not run, and why not.
const NOT_RUN: [(&str, &str); 3] = [
    ("make demo", "e2e/tests/demo.rs runs it"),
    ("make test", "runs this"),
    // The test starts the operator's program with its ServiceAccount's rights.
    ("make image IMAGE=", "e2e/tests/node.rs runs what it builds"),
];

/// An indented block of commands, and the heading above it.
#[derive(Debug)]
struct Block {
    heading: String,
    lines: String,
}

fn readme() -> Result<String> {
    Ok(fs::read_to_string(tools::root().join("README.md"))?)
}

/// The README's indented blocks. What is fenced is no command.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut is_open, mut is_fenced) = ("", false, false);
    for line in text.lines() {
        is_fenced ^= line.starts_with("```");
        let command = line.strip_prefix("    ").filter(|_| !is_fenced);
        if let Some(title) = line.strip_prefix("## ").filter(|_| !is_fenced) {
            heading = title;
        }
        match (command, blocks.last_mut().filter(|_| is_open)) {
            (Some(command), Some(block)) => block.lines.extend(["\n", command]),
            (Some(command), None) => {
                blocks.push(Block { heading: heading.to_owned(), lines: command.to_owned() });
            }
            (None, _) => {}
        }
        // As in Markdown, an empty line ends no block.
        is_open = command.is_some() || is_open && line.is_empty();
    }
    blocks
}

/// The ring that the README shows.
fn ring(text: &str) -> Result<&str> {
    let (_, rest) = text.split_once("```yaml\n").context("no YAML")?;
    Ok(rest.split_once("```").context("a fence that does not close")?.0)
}

struct Reader {
    world: World,
    /// Where the reader is: a checkout's root, as far as the commands need it.
    folder: PathBuf,
    blocks: Vec<Block>,
    image: String,
    used: BTreeSet<&'static str>,
}

impl Reader {
    /// Runs the next block below a heading with bash.
    async fn run(&mut self, heading: &str) -> Result<()> {
        let next = self.blocks.iter().position(|block| block.heading == heading);
        let block = self.blocks.remove(next.with_context(|| format!("no block in {heading}"))?);
        let is_run = |line: &&str| NOT_RUN.iter().all(|(left_out, _)| !line.starts_with(left_out));
        let lines: Vec<&str> = block.lines.lines().filter(is_run).collect();
        let mut script = lines.join("\n");
        for (placeholder, Meaning::Image) in PLACEHOLDERS {
            if script.contains(placeholder) {
                script = script.replace(placeholder, &self.image);
                self.used.insert(placeholder);
            }
        }
        println!("--- {heading}\n{script}");
        let programs = format!(
            "{}:{}",
            tools::folder().join("bin").display(),
            env::var("PATH").unwrap_or_default()
        );
        let shell = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.folder)
            .env("PATH", programs)
            .env("KUBECONFIG", &self.world.info.kubeconfig)
            .env_remove("COSIGN_PASSWORD")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(300), shell).await??;
        let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        ensure!(output.status.success(), "{script}\n{text}");
        println!("{text}");
        Ok(())
    }
}

/// A folder with what the commands name of a checkout.
fn checkout(folder: &Path) -> Result<()> {
    for name in ["manifests", "crds"] {
        let copy = std::process::Command::new("cp")
            .arg("--recursive")
            .args([&tools::root().join(name), &folder.join(name)])
            .status()?;
        ensure!(copy.success(), "copying {name}");
    }
    Ok(())
}

async fn read_and_do(cluster: &Cluster, program: &Path) -> Result<()> {
    let world = World { info: cluster.info.clone() };
    let folder = world.info.folder.join("reader");
    fs::create_dir(&folder)?;
    checkout(&folder)?;
    let text = readme()?;
    let image = world.push("checkout/app", "v1").await?;
    let blocks = blocks(&text);
    let mut reader = Reader { world, folder, blocks, image, used: BTreeSet::new() };
    let world = reader.world.clone();

    reader.run("Install and uninstall").await?;
    ensure!(!world.kubectl(&["get", "iel", "--output=name"]).await?.is_empty(), "no list");
    let operator = tools::built("signingkeyring-operator")?;
    let operator = Operator::start(&world, program, &operator, &[]).await?;
    reader.run("Install and uninstall").await?;

    // What the reader has: an application's namespaces.
    for namespace in ["checkout-dev", "checkout-ci"] {
        world.kubectl(&["create", "namespace", namespace]).await?;
    }
    world.apply(ring(&text)?).await?;
    reader.run("A ring").await?;
    reader.run("Which kind of policy").await?;
    world.wait_for_condition("checkout", "Ready", "True").await?;
    let image = reader.image.clone();
    world.wait_until_refused("checkout-dev", &image).await?;
    world.wait_for_condition("checkout", "EnforcementComplete", "True Complete").await?;

    reader.run("Who may do what").await?;
    teams_do_theirs(&world).await?;
    reader.run("Rotate, and wait for it").await?;
    ensure!(world.ring("checkout", "{.status.currentVersion}").await? == "2");

    reader.run("Sign and verify in a pipeline").await?;
    let verdict = world.admit("checkout-dev", &image).await?;
    ensure!(verdict == Verdict::Admitted, "{verdict:?}");
    reader.run("Sign and verify in a pipeline").await?;

    reader.run("Install and uninstall").await?;
    operator.kill().await?;
    nothing_is_left(&world).await?;

    let unused = PLACEHOLDERS.iter().filter(|(placeholder, _)| !reader.used.contains(placeholder));
    let unused: Vec<_> = unused.map(|(placeholder, _)| placeholder).collect();
    ensure!(unused.is_empty(), "no command has {unused:?}");
    let left = reader.blocks.iter().flat_map(|block| block.lines.lines());
    let left = left.filter(|line| NOT_RUN.iter().all(|(not, _)| !line.starts_with(not)));
    let left: Vec<_> = left.collect();
    if !left.is_empty() {
        bail!("the README has commands that nobody runs: {left:#?}");
    }
    Ok(())
}

/// The roles that the README binds to a team let it do what they say.
async fn teams_do_theirs(world: &World) -> Result<()> {
    let team = ["--as=jane", "--as-group=checkout-team", "--dry-run=server"];
    let rotate = ["annotate", "skr", "checkout", "signing.odj.cloud/rotate=x"];
    world.kubectl(&[&rotate[..], &team].concat()).await?;
    let suspend =
        ["patch", "skr", "checkout", "--type=merge", "--patch={\"spec\":{\"suspend\":true}}"];
    let refused = world.kubectl(&[&suspend[..], &team].concat()).await.err();
    let refused = refused.context("the team may do more than rotate")?.to_string();
    ensure!(refused.contains("you may only ask ring checkout for a rotation"), "{refused}");
    Ok(())
}

async fn nothing_is_left(world: &World) -> Result<()> {
    let ours = "app.kubernetes.io/managed-by=signingkeyring-operator";
    for what in [
        &["clusterpolicies"][..],
        &["secrets", "--all-namespaces", "--selector", ours],
        &["namespaces", "--selector", "signing.odj.cloud/ring"],
    ] {
        let left = world.kubectl(&[&["get", "--output=name"], what].concat()).await?;
        ensure!(left.trim().is_empty(), "left over: {left}");
    }
    let left = world.kubectl(&["get", "roles,rolebindings", "-n=kyverno", "--output=name"]).await?;
    ensure!(!left.contains("signingkeyring"), "left over: {left}");
    let all = "crds,namespaces,clusterroles,clusterrolebindings,\
               validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left = world.kubectl(&["get", all, "--output=name"]).await?;
    let left: Vec<&str> = left.lines().filter(|name| name.contains("signing")).collect();
    // Kubernetes' own role for those who sign certificates.
    let left: Vec<_> = left.iter().filter(|name| !name.contains("certificate")).collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(())
}

#[test]
fn the_readmes_commands_run_as_they_stand_there() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let program = tools::built("cluster").unwrap();
        let cluster = Cluster::start(&program, env!("CARGO_CRATE_NAME")).await.unwrap();
        if let Err(error) = read_and_do(&cluster, &program).await {
            panic!("{error:#}\n{}", cluster.logs());
        }
    });
}

#[test]
fn blocks_are_what_is_indented_and_not_fenced() {
    let text = "## One\n\n    a\n\n    b\n\ntext\n\n    c\n```yaml\n    d\n```\n## Two\n    e\n";
    let found: Vec<_> = blocks(text).into_iter().map(|b| (b.heading, b.lines)).collect();
    let expected = [("One", "a\nb"), ("One", "c"), ("Two", "e")];
    assert_eq!(found, expected.map(|(heading, lines)| (heading.to_owned(), lines.to_owned())));
}
