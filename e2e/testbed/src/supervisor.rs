//! Starts a whole cluster, keeps it, and ends it: the part of the program
//! `cluster` that owns the processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    audit,
    components::{Component, Ports, Running, tail},
    node,
    pki::{self, Authority, Credential},
    proxy, tools,
};

/// What one needs to know to use a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Info {
    /// Its folder: certificates, logs, data.
    pub folder: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's URL.
    pub server: String,
    /// The registry, as image references name it.
    pub registry: String,
    /// The ports of Kyverno and of its other replica.
    pub kyvernos: [u16; 2],
    /// The process that owns the cluster.
    pub supervisor: u32,
    /// The processes of the cluster.
    pub processes: Vec<u32>,
}

/// A running cluster; it ends with this value.
#[derive(Debug)]
pub struct Supervisor {
    ports: Ports,
    folder: PathBuf,
    proxy: u16,
    has_node: bool,
    running: Vec<Running>,
}

impl Supervisor {
    /// Starts a cluster in a folder of its own, which is emptied first; with a node if
    /// this process is in namespaces for one ([`node::enter`]).
    ///
    /// # Errors
    /// If a component does not start; its log is shown.
    pub async fn start(folder: &Path, has_node: bool) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::create_dir(folder.join("images"))?;
        let authority = Arc::new(Authority::new()?);
        pki::write_control_plane(&authority, &folder)?;
        audit::write_policy(&folder)?;
        let ports = Ports::free()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = listener.local_addr()?.port();
        let registry = format!("127.0.0.1:{}", ports.registry);
        tokio::spawn(proxy::serve(listener, Arc::clone(&authority), registry));
        let mut cluster = Self { ports, folder, proxy, has_node, running: Vec::new() };
        fs::write(
            cluster.kubeconfig(),
            pki::kubeconfig(&cluster.server(), &cluster.folder, &Credential::Certificate("admin")),
        )?;
        if has_node {
            let registry = cluster.info().registry;
            node::prepare(&cluster.folder, &registry).await?;
            node::serve_api(ports.api_server).await?;
            pki::write_node(&authority, &cluster.server(), &cluster.folder, node::NAME)?;
        }
        for component in Component::ALL {
            cluster.start_component(component, &[]).await?;
        }
        if has_node {
            node::push_pause(&cluster.info().registry).await?;
            for component in Component::OF_A_NODE {
                cluster.start_component(component, &[]).await?;
            }
        }
        Ok(cluster)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api_server)
    }

    /// What one needs to know to use it.
    #[must_use]
    pub fn info(&self) -> Info {
        Info {
            folder: self.folder.clone(),
            kubeconfig: self.kubeconfig(),
            server: self.server(),
            registry: format!("localhost:{}", self.ports.registry),
            kyvernos: self.ports.kyvernos,
            supervisor: std::process::id(),
            processes: self.running.iter().filter_map(Running::id).collect(),
        }
    }

    async fn start_component(&mut self, component: Component, flags: &[&str]) -> Result<()> {
        self.running.retain_mut(Running::is_alive);
        if self.running.iter().any(|running| running.component == component) {
            return Ok(());
        }
        let progress = Instant::now();
        let mut flags = flags.to_vec();
        if self.has_node && component == Component::ApiServer {
            flags.extend(node::API_SERVER);
        }
        if component == Component::Kyverno {
            self.install_kyverno().await?;
        }
        let running =
            Running::start(component, &self.ports, &self.folder, self.proxy, &flags).await?;
        self.running.push(running);
        let ready: &[&str] = match component {
            Component::ApiServer => &["get", "--raw=/readyz"],
            // Pods are admitted once their namespace has its account.
            Component::ControllerManager => &["get", "serviceaccount", "default"],
            // Answered by Kyverno's own webhook.
            Component::Kyverno => &["create", "--dry-run=server", "--filename=probe.yaml"],
            Component::Kubelet => {
                &["wait", "node", node::NAME, "--for=condition=Ready", "--timeout=5s"]
            }
            Component::Etcd
            | Component::Registry
            | Component::KyvernoReplica
            | Component::Containerd
            | Component::Scheduler => &[],
        };
        if !ready.is_empty() {
            self.wait_for(component, ready).await?;
        }
        let (name, took) = (component.name(), progress.elapsed());
        eprintln!("  {name} is ready after {:.1} s", took.as_secs_f64());
        Ok(())
    }

    async fn install_kyverno(&self) -> Result<()> {
        let probe = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: probe}\nspec: \
                     {background: false, rules: [{name: probe, match: {any: [{resources: {kinds: \
                     [ConfigMap]}}]}, validate: {message: probe, deny: {}}}]}\n";
        fs::write(self.folder.join("probe.yaml"), probe)?;
        if !self.has_kyverno_crds().await? {
            let crds = kyverno_crds().display().to_string();
            let apply = ["apply", "--server-side", "--force-conflicts", "--filename", &crds];
            self.kubectl(&apply).await?;
            let wait = ["wait", "--for=condition=Established", "--all", "crd", "--timeout=60s"];
            self.kubectl(&wait).await?;
        }
        if self.kubectl(&["get", "namespace", "kyverno"]).await.is_err() {
            self.kubectl(&["create", "namespace", "kyverno"]).await?;
            // As its chart has one.
            self.kubectl(&["create", "configmap", "kyverno", "-n=kyverno"]).await?;
        }
        Ok(())
    }

    /// Whether each of them is there: they are large, and applying them is
    /// most of what a restart of Kyverno takes.
    async fn has_kyverno_crds(&self) -> Result<bool> {
        let names = self.kubectl(&["get", "crd", "--output=name"]).await?;
        let files = fs::read_dir(kyverno_crds())?;
        let mut all = true;
        for file in files {
            let file = file?.file_name().to_string_lossy().into_owned();
            // policies.kyverno.io_validatingpolicies.yaml
            let name = file.trim_end_matches(".yaml").split_once('_');
            let (group, plural) = name.with_context(|| format!("a CRD in {file}"))?;
            all &= names.lines().any(|line| line.ends_with(&format!("/{plural}.{group}")));
        }
        Ok(all)
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(tools::program("kubectl")?)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn wait_for(&self, component: Component, arguments: &[&str]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match self.kubectl(arguments).await {
                Ok(_) if component == Component::Kyverno => {
                    // The dry run also passes while the webhook is not there yet.
                    let configuration = "kyverno-policy-validating-webhook-cfg";
                    let found = self
                        .kubectl(&[
                            "get",
                            "validatingwebhookconfiguration",
                            configuration,
                            "--output=jsonpath={.webhooks[*].name}",
                        ])
                        .await;
                    if found.is_ok_and(|names| !names.is_empty()) {
                        return Ok(());
                    }
                }
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let log = self.folder.join(format!("{}.log", component.name()));
                    bail!("{} is not ready: {error:#}\n{}", component.name(), tail(&log));
                }
                Err(_) => {}
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Follows commands, one a line, until the other side closes: `stop NAME`
    /// and `start NAME`, with more flags for it. Each is answered with a line.
    ///
    /// # Errors
    /// If standard input fails.
    pub async fn obey(&mut self) -> Result<()> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            match self.command(&line).await {
                Ok(()) => answer("ok"),
                Err(error) => answer(&format!("error {error:#}").replace('\n', " ")),
            }
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let (verb, name) = (words.next().unwrap_or_default(), words.next());
        let name = name.context("write: stop NAME or start NAME")?;
        let flags: Vec<&str> = words.collect();
        let component = Component::named(name).with_context(|| format!("no component {name}"))?;
        match verb {
            "start" => self.start_component(component, &flags).await,
            "stop" => {
                let found = self.running.iter().position(|r| r.component == component);
                match found {
                    Some(index) => self.running.remove(index).kill().await,
                    None => Ok(()),
                }
            }
            _ => bail!("no command {verb}"),
        }
    }

    /// Ends everything.
    pub async fn end(mut self) {
        // Kyverno first: it would log the end of the others as errors.
        while let Some(running) = self.running.pop() {
            if let Err(error) = running.kill().await {
                eprintln!("ending a component: {error:#}");
            }
        }
    }
}

/// The folder with the CRDs of this run's Kyverno.
fn kyverno_crds() -> PathBuf {
    tools::folder().join(format!("{}-crds", tools::kyverno()))
}

/// Standard output is the protocol of this program.
pub fn answer(line: &str) {
    println!("{line}");
}
