//! A cluster of one's own: started by a program that ends it when its owner
//! is gone, however that came about.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use crate::{components::tail, supervisor::Info, tools};

/// A cluster of one's own; it ends with this value, or with this process.
#[derive(Debug)]
pub struct Cluster {
    /// How to use it.
    pub info: Info,
    pipe: Mutex<Pipe>,
    /// Ends when its standard input closes.
    _supervisor: Child,
}

#[derive(Debug)]
struct Pipe {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Starts a cluster with the program `cluster`; `name` is its folder's.
    ///
    /// # Errors
    /// If it does not start; its log is shown.
    pub async fn start(program: &Path, name: &str) -> Result<Self> {
        Self::start_with(program, name, &[]).await
    }

    /// Starts one with a node, in namespaces for it alone ([`crate::node::enter`]).
    ///
    /// # Errors
    /// If it does not start; its log is shown.
    pub async fn start_with_node(program: &Path, name: &str) -> Result<Self> {
        Self::start_with(program, name, &["--node"]).await
    }

    async fn start_with(program: &Path, name: &str, flags: &[&str]) -> Result<Self> {
        let folder = tools::folder().join("run").join(name);
        let mut supervisor = Command::new(program)
            .arg("hold")
            .arg("--folder")
            .arg(&folder)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let commands = supervisor.stdin.take().context("no standard input")?;
        let stdout = supervisor.stdout.take().context("no standard output")?;
        let mut answers = BufReader::new(stdout).lines();
        let Some(line) = answers.next_line().await? else {
            bail!("the cluster did not start; see the lines above");
        };
        let info = serde_json::from_str(&line).context("the cluster's first line")?;
        Ok(Self { info, pipe: Mutex::new(Pipe { commands, answers }), _supervisor: supervisor })
    }

    /// Stops a component at once, as a crash would.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn stop(&self, component: &str) -> Result<()> {
        self.command(&format!("stop {component}")).await
    }

    /// Starts a component again and waits until it serves.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_again(&self, component: &str) -> Result<()> {
        self.command(&format!("start {component}")).await
    }

    /// Stops a component and starts it again with more flags. Those that have a
    /// space cannot be given.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart_with(&self, component: &str, flags: &[&str]) -> Result<()> {
        self.stop(component).await?;
        let words: Vec<&str> = ["start", component].iter().chain(flags).copied().collect();
        self.command(&words.join(" ")).await
    }

    async fn command(&self, command: &str) -> Result<()> {
        let mut pipe = self.pipe.lock().await;
        pipe.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let answer = pipe.answers.next_line().await?.context("the supervisor is gone")?;
        ensure!(answer == "ok", "{command}: {answer}");
        Ok(())
    }

    /// The ends of all components' logs, for a failure's report.
    #[must_use]
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(&self.info.folder).into_iter().flatten().flatten();
        let mut logs: Vec<_> = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        logs.sort();
        logs.iter().map(|log| tail(log)).collect::<Vec<_>>().join("\n")
    }
}

/// A client with a kubeconfig's rights.
///
/// # Errors
/// If it cannot be read.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
