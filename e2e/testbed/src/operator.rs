//! The operator's process in a test or the demo.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};

use crate::{
    components::tail,
    pki::{Credential, kubeconfig},
    world::{DEADLINE, World, wait_until},
};

/// How long one that is asked what it does may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The operator's process, with its own ServiceAccount's rights.
#[derive(Debug)]
pub struct Operator {
    guard: Child,
    /// The guard's standard input: when it closes, the operator ends. Not left
    /// in the `Child`, which closes it to wait.
    lifeline: ChildStdin,
    /// Its log.
    pub log: PathBuf,
    /// Where it serves health and metrics.
    pub port: u16,
}

/// What tells one of several operators from the others.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The name of its log.
    pub name: &'a str,
    /// Where the API server is to it.
    pub server: &'a str,
}

/// What one of several operators says that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It works.
    Leader,
    /// It waits until the leader does not any more.
    Standby,
}

/// How the operator was installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub account: String,
    /// What its Deployment says of its environment.
    pub environment: Vec<(String, String)>,
}

impl Default for Installed {
    fn default() -> Self {
        Self {
            namespace: "signing-system".to_owned(),
            account: "signingkeyring-operator".to_owned(),
            environment: Vec::new(),
        }
    }
}

impl Installed {
    /// What the Deployment of that name says, with the variables whose values are there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(world: &World, namespace: &str, name: &str) -> Result<Self> {
        let deployment = ["deployment", name, "-n", namespace];
        let pod = "{.spec.template.spec";
        let account = world.get(&deployment, &format!("{pod}.serviceAccountName}}")).await?;
        let variables = world.get(&deployment, &format!("{pod}.containers[0].env}}")).await?;
        let variables: Vec<serde_json::Value> = serde_json::from_str(&variables)?;
        let mut environment = vec![("SIGNING_NAMESPACE".to_owned(), namespace.to_owned())];
        environment.extend(variables.iter().filter_map(|variable| {
            Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned()))
        }));
        Ok(Self { namespace: namespace.to_owned(), account, environment })
    }
}

impl Operator {
    /// Starts the operator and waits until it is ready.
    ///
    /// # Errors
    /// If it is not; the text has the end of its log.
    pub async fn start(
        world: &World,
        guard: &Path,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::start_as(world, guard, program, &Installed::default(), arguments).await
    }

    /// Starts one that was installed under another name.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn start_as(
        world: &World,
        guard: &Path,
        program: &Path,
        installed: &Installed,
        arguments: &[&str],
    ) -> Result<Self> {
        let server = world.info.server.clone();
        let way = Way { name: "operator", server: &server };
        Self::start_on(world, guard, program, installed, way, arguments).await
    }

    /// Starts one of several.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn start_on(
        world: &World,
        guard: &Path,
        program: &Path,
        installed: &Installed,
        way: Way<'_>,
        arguments: &[&str],
    ) -> Result<Self> {
        let namespace = format!("--namespace={}", installed.namespace);
        let account = ["create", "token", &installed.account, &namespace, "--duration=8h"];
        let token = world.kubectl(&account).await?;
        let folder = &world.info.folder;
        let credential = Credential::Token(token.trim());
        let path = folder.join(format!("{}.kubeconfig", way.name));
        fs::write(&path, kubeconfig(way.server, folder, &credential))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = folder.join(format!("{}.log", way.name));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut guard = Command::new(guard)
            .arg("guard")
            .arg(program)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .env("KUBECONFIG", &path)
            .envs(installed.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            // A terminal's Ctrl-C is for its owner, who ends it then.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let lifeline = guard.stdin.take().context("no standard input")?;
        let operator = Self { guard, lifeline, log, port };
        let ready = wait_until("the operator is ready", async || {
            Ok(http_get(port, "/readyz").await?.starts_with("HTTP/1.1 200"))
        });
        if let Err(error) = ready.await {
            bail!("{error:#}\n{}", tail(&operator.log));
        }
        Ok(operator)
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        drop(self.lifeline);
        self.guard.wait().await?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and returns its exit code.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn stop(mut self) -> Result<Option<i32>> {
        self.lifeline.write_all(b"term\n").await.context("it has ended already")?;
        let status = tokio::time::timeout(DEADLINE, self.guard.wait()).await;
        Ok(status.context("it does not end")??.code())
    }

    /// The most memory that its process has had so far, in KiB.
    ///
    /// # Errors
    /// If it has ended.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let peak = field(&self.status()?, "VmHWM:").context("the kernel does not tell its peak")?;
        Ok(peak.parse()?)
    }

    /// The id of its process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn process(&self) -> Result<u32> {
        let process = field(&self.status()?, "Pid:").context("the kernel does not tell its id")?;
        Ok(process.parse()?)
    }

    /// What the kernel says of its process.
    fn status(&self) -> Result<String> {
        let guard = self.guard.id().context("it has ended already")?.to_string();
        let processes = fs::read_dir("/proc")?.flatten();
        let statuses = processes.filter_map(|p| fs::read_to_string(p.path().join("status")).ok());
        statuses
            .into_iter()
            .find(|status| field(status, "PPid:").as_ref() == Some(&guard))
            .context("the operator has ended")
    }

    /// What `/metrics` shows.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        http_get(self.port, "/metrics").await
    }

    /// What it says that it does; nothing if it is not ready, or does not answer at once.
    pub async fn role(&self) -> Option<Role> {
        let asked = http_get(self.port, "/readyz");
        let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        match body.trim() {
            _ if !head.starts_with("HTTP/1.1 200") => None,
            "leader" => Some(Role::Leader),
            "standby" => Some(Role::Standby),
            _ => None,
        }
    }

    /// Sends it a signal, such as one by which it stops or goes on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(i32::try_from(self.process()?)?).context("no process")?;
        Ok(kill_process(process, signal)?)
    }

    /// Waits until it ends by itself; says how, with the end of its log.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn ended(&mut self) -> Result<String> {
        let status = self.guard.wait().await?;
        Ok(format!("the operator ended: {status}\n{}", tail(&self.log)))
    }
}

/// A field of what the kernel says of a process.
fn field(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// A plain HTTP request to a loopback port; returns the whole answer.
///
/// # Errors
/// If nobody answers.
async fn http_get(port: u16, path: &str) -> Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
