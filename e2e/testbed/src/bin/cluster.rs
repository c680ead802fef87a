//! Starts and ends test clusters.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use signingkeyring_e2e_testbed::{
    components::tail,
    supervisor::{Info, Supervisor, answer},
    tools,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    signal::unix::{SignalKind, signal},
};

/// Starts and ends test clusters of real components on loopback ports.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a cluster that stays, or find the one that runs. Prints shell
    /// lines that set KUBECONFIG, REGISTRY and PATH.
    Up,
    /// End the cluster that stays.
    Down,
    /// Keep a cluster until standard input closes (or for ever, when detached)
    /// or SIGTERM comes. Prints one JSON line, then obeys commands.
    Hold {
        /// Its folder, which is emptied first.
        #[arg(long)]
        folder: PathBuf,
        /// Do not read standard input.
        #[arg(long)]
        detached: bool,
        /// Have a node run pods: in namespaces for it alone, in which this has to be started.
        #[arg(long)]
        node: bool,
    },
    /// Run a program and end it when standard input closes, so that it never
    /// outlives its owner. A line on standard input sends it SIGTERM.
    Guard {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Action::Up => up(),
        Action::Down => down(),
        Action::Hold { folder, detached, node } => {
            let runtime = tokio::runtime::Runtime::new()?;
            let result = runtime.block_on(hold(&folder, detached, node));
            // A read of standard input cannot be cancelled; do not wait for it.
            runtime.shutdown_background();
            result
        }
        Action::Guard { command } => {
            let runtime = tokio::runtime::Runtime::new()?;
            let code = runtime.block_on(guard(&command))?;
            std::process::exit(code)
        }
    }
}

async fn hold(folder: &Path, detached: bool, has_node: bool) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut cluster = tokio::select! {
        cluster = Supervisor::start(folder, has_node) => cluster?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let line = serde_json::to_string(&cluster.info())?;
    fs::write(folder.join("cluster.json"), &line)?;
    answer(&line);
    let obey = async { if detached { std::future::pending().await } else { cluster.obey().await } };
    let result = tokio::select! {
        result = obey => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    cluster.end().await;
    result
}

async fn guard(command: &[String]) -> Result<i32> {
    let (program, arguments) = command.split_first().context("no program")?;
    let mut child =
        tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?.code().unwrap_or(1)),
            line = lines.next_line() => match line {
                Ok(Some(_)) => {
                    if let Some(process) = child.id().and_then(pid) {
                        kill_process(process, Signal::TERM)?;
                    }
                }
                Ok(None) | Err(_) => {
                    child.kill().await?;
                    return Ok(1);
                }
            }
        }
    }
}

fn standing() -> PathBuf {
    tools::folder().join("up")
}

fn up() -> Result<()> {
    let folder = standing();
    let info = match running(&folder) {
        Some(info) => info,
        None => start(&folder)?,
    };
    let path = tools::folder().join("bin");
    answer(&format!("export KUBECONFIG='{}'", info.kubeconfig.display()));
    answer(&format!("export REGISTRY='{}'", info.registry));
    answer(&format!("export PATH='{}':\"$PATH\"", path.display()));
    Ok(())
}

fn start(folder: &Path) -> Result<Info> {
    end_leftovers(folder);
    eprintln!("starting the cluster");
    let log = folder.with_extension("log");
    let file = File::create(&log)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["hold", "--detached", "--folder"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        // Not to be interrupted with the terminal that started it.
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(info) = running(folder).filter(|info| info.supervisor == child.id()) {
            return Ok(info);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the cluster did not start: {status}\n{}", tail(&log));
        }
        if Instant::now() > deadline {
            bail!("the cluster is not ready after five minutes\n{}", tail(&log));
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn down() -> Result<()> {
    let folder = standing();
    let Some(info) = running(&folder) else {
        end_leftovers(&folder);
        eprintln!("no cluster is running");
        return Ok(());
    };
    let supervisor = pid(info.supervisor).context("the supervisor's id")?;
    kill_process(supervisor, Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while test_kill_process(supervisor).is_ok() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    end_leftovers(&folder);
    eprintln!("the cluster is down");
    Ok(())
}

fn read(folder: &Path) -> Option<Info> {
    serde_json::from_slice(&fs::read(folder.join("cluster.json")).ok()?).ok()
}

/// The cluster in a folder, if the process that owns it still does.
fn running(folder: &Path) -> Option<Info> {
    let info = read(folder)?;
    runs(info.supervisor, "cluster").then_some(info)
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Whether a process runs one of this repository's programs: an id may have
/// been given to somebody else's meanwhile.
fn runs(id: u32, program: &str) -> bool {
    let executable = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
    executable.starts_with(tools::root())
        && executable.to_string_lossy().trim_end_matches(" (deleted)").ends_with(program)
}

/// Ends what a supervisor left behind that was itself killed.
fn end_leftovers(folder: &Path) {
    let Some(info) = read(folder) else { return };
    for id in info.processes {
        if let Some(process) = pid(id).filter(|_| runs(id, "")) {
            eprintln!("ending process {id}, left behind");
            if let Err(error) = kill_process(process, Signal::KILL) {
                eprintln!("process {id}: {error}");
            }
        }
    }
}
