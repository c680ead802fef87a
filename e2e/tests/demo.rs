//! The demo that is told to stay stays, with a ring and an operator that
//! rotates it, and leaves no process behind when it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{collections::BTreeSet, fs, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signingkeyring_e2e_testbed::{
    components::tail,
    tools,
    world::{World, wait_until},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The folder of this demo's cluster: not that of a demo that somebody looks at.
const FOLDER: &str = "demo_that_stays";

/// A process, told from a later one of the same id by when it was started.
type Process = (u32, String);

/// Every process there is, and its parent.
fn processes() -> Vec<(Process, u32)> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // A name may have blanks and brackets; the rest has none.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, parent) = (*fields.first()?, fields.get(1)?.parse().ok()?);
        let start = (*fields.get(19)?).to_owned();
        (state != "Z").then_some(((id, start), parent))
    })
    .collect()
}

/// Those that a process started, and that these started.
fn below(ancestor: u32) -> BTreeSet<Process> {
    let all = processes();
    let mut found = BTreeSet::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for (process, _) in all.iter().filter(|(_, of)| *of == parent) {
            if found.insert(process.clone()) {
                parents.push(process.0);
            }
        }
    }
    found
}

fn program(process: &Process) -> String {
    let path = fs::read_link(format!("/proc/{}/exe", process.0)).unwrap_or_default();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Waits until the demo says that it stays.
async fn stays(demo: &mut Child) -> Result<()> {
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        if line.contains("until you press Ctrl-C") {
            // Nothing reads what is still printed, which is less than a pipe takes.
            return Ok(());
        }
    }
    anyhow::bail!("the demo ended: {:?}", demo.wait().await?)
}

async fn look_and_end(demo: &mut Child, folder: &Path) -> Result<()> {
    let info = serde_json::from_slice(&fs::read(folder.join("cluster.json"))?)?;
    let world = World { info };
    ensure!(world.condition("checkout", "Ready").await?.starts_with("True"));
    // Only an operator that lives can do this; the name is the one that is printed.
    world.rotate("checkout", "again").await?;
    ensure!(demo.try_wait()?.is_none(), "the demo has ended by itself");

    let id = demo.id().context("the demo has no id")?;
    let started = below(id);
    let programs: BTreeSet<String> = started.iter().map(program).collect();
    for name in ["kube-apiserver", "kyverno", "signingkeyring-operator"] {
        // The Kyverno of before has its version behind it.
        let runs = programs.iter().any(|program| program.starts_with(name));
        ensure!(runs, "no {name} among {programs:?}");
    }
    // What Ctrl-C sends.
    kill_process(Pid::from_raw(i32::try_from(id)?).context("an id")?, Signal::INT)?;
    ensure!(demo.wait().await?.success(), "the demo did not end well");
    wait_until("nothing that it started is left over", async || {
        let alive: BTreeSet<Process> =
            processes().into_iter().map(|(process, _)| process).collect();
        let left: Vec<_> = started.intersection(&alive).map(|p| (p.0, program(p))).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(true)
    })
    .await
}

#[test]
fn a_demo_that_is_kept_stays_until_it_is_ended_and_leaves_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result: Result<()> = runtime.block_on(async {
        let folder = tools::folder().join("run").join(FOLDER);
        let mut demo = Command::new(tools::built("demo")?)
            .args(["--keep", "--folder", FOLDER])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let shown = async {
            stays(&mut demo).await?;
            look_and_end(&mut demo, &folder).await
        };
        shown.await.with_context(|| tail(&folder.join("operator.log")))
    });
    if let Err(error) = result {
        panic!("{error:#}");
    }
}
