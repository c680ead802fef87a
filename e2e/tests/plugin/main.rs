//! The commands of `kubectl signing`, run as `docs/kubectl-signing.md` shows them: each
//! prints what stands there, but for what differs from run to run. With `UPDATE_PAGE=1`
//! the page is written anew. What it does not show follows it, in the same cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod completion;
mod kinds;
mod left_out;
mod many;
mod normal;
mod others;
mod page;
mod picture;
mod rights;
mod scene;
mod terminal;
mod watch;
mod wrong;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{kind::Kind, tools, world::World};
use tokio::process::Command;

use normal::Normal;

/// What ran, as a terminal shows it.
struct Ran {
    code: Option<i32>,
    text: String,
}

/// A line of shell for a user of the cluster's kubeconfig.
fn command(world: &World, line: &str) -> Result<Command> {
    let plugin = tools::built("kubectl-signing")?;
    let plugins = plugin.parent().context("no folder")?;
    let programs = format!(
        "{}:{}:{}",
        plugins.display(),
        tools::folder().join("bin").display(),
        env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", line])
        .current_dir(tools::root())
        .env("PATH", programs)
        .env("KUBECONFIG", &world.info.kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs one.
async fn shell(world: &World, line: &str) -> Result<Ran> {
    let output = command(world, &format!("{{ {line} ; }} 2>&1"))?.output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), output).await;
    let output = output.with_context(|| format!("{line} does not end"))??;
    Ok(Ran {
        code: output.status.code(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// Runs one that has to end with a code and to say something.
async fn expect(world: &World, line: &str, code: i32, says: &str) -> Result<()> {
    let ran = shell(world, line).await?;
    ensure!(ran.code == Some(code), "{line}: {:?} in place of {code}\n{}", ran.code, ran.text);
    ensure!(ran.text.contains(says), "{line}: {says:?} is not in\n{}", ran.text);
    Ok(())
}

/// The commands of which the page has a picture, too, as a terminal shows them.
const PICTURES: [(&str, &str); 3] = [
    ("kubectl signing status checkout", "status.svg"),
    ("kubectl signing impact checkout --rotate", "impact.svg"),
    ("kubectl signing why localhost:5000/checkout/old:v1 -n checkout-dev", "why.svg"),
];

/// The command of the page that has a version retire.
const ROTATES: &str = "kubectl signing rotate checkout --yes --wait";

fn path() -> PathBuf {
    tools::root().join("docs/kubectl-signing.md")
}

/// The picture of a command that changes nothing. `script` is what has a terminal.
async fn picture(world: &World, normal: &mut Normal, line: &str) -> Result<String> {
    let command = format!("TERM=xterm script -qec '{} 2>/dev/null' /dev/null", normal.undo(line));
    let told = shell(world, &command).await?.text;
    let shown = normal.of(&picture::marked(&told));
    ensure!(!shown.contains('\u{1b}'), "a terminal is told what the picture has not: {shown:?}");
    Ok(picture::svg(line, &shown))
}

#[test]
fn the_page_shows_what_each_command_prints_and_the_rest_ends_as_it_should() {
    common::run_only(Kind::ClusterPolicy, "its page shows that one", async |shared| {
        let world = &shared.world;
        the_page(world).await?;
        kinds::all(world).await?;
        rights::few(world, "till").await?;
        others::undo(world, "till").await?;
        completion::by_kubectl(world, "till").await?;
        many::pods(world, "till").await
    });
}

async fn the_page(world: &World) -> Result<()> {
    scene::set(world).await?;
    let text = fs::read_to_string(path())?;
    let mut normal = Normal::new(&world.info.registry);
    let mut written = String::new();
    let mut pictures = BTreeMap::new();
    for part in page::parts(&text) {
        match part {
            page::Part::Text(text) => written.push_str(text),
            page::Part::Command(line) => {
                let ran = shell(world, &normal.undo(line)).await?;
                written.push_str(&page::shown(line, ran.code, &normal.of(&ran.text)));
                if line == ROTATES {
                    scene::retired_is_refused(world).await?;
                }
                if let Some((_, file)) = PICTURES.iter().find(|(of, _)| *of == line) {
                    pictures.insert(*file, picture(world, &mut normal, line).await?);
                }
            }
        }
    }
    ensure!(pictures.len() == PICTURES.len(), "the page lacks one of {PICTURES:?}");
    ensure!(text.contains(&format!("$ {ROTATES}\n")), "the page lacks {ROTATES:?}");
    let folder = path().with_extension("");
    for (file, picture) in pictures {
        let file = folder.join(file);
        let stands = fs::read_to_string(&file).unwrap_or_default();
        compare(&file, &stands, &picture)?;
    }
    compare(&path(), &text, &written)
}

fn compare(path: &Path, stands: &str, written: &str) -> Result<()> {
    if env::var_os("UPDATE_PAGE").is_some() {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, written)?;
        return Ok(());
    }
    let differ = stands.lines().zip(written.lines()).enumerate().find(|(_, (a, b))| a != b);
    let first = differ.map(|(line, (a, b))| format!("line {}:\n- {a}\n+ {b}", line + 1));
    ensure!(
        stands == written,
        "{} is not what runs print; write it anew with UPDATE_PAGE=1, {}\n{written}",
        path.display(),
        first.unwrap_or_default()
    );
    Ok(())
}
