//! The components of a test cluster: how each is started, and when it is ready.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{audit, node, tools};

/// Loopback ports, chosen once: a component that is started again has the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ports {
    etcd: u16,
    etcd_peer: u16,
    /// kube-apiserver.
    pub api_server: u16,
    controller_manager: u16,
    /// The registry.
    pub registry: u16,
    /// Kyverno, and its other replica.
    pub kyvernos: [u16; 2],
    kyverno_metrics: [u16; 2],
}

impl Ports {
    /// Ports that are free now.
    ///
    /// # Errors
    /// If there are none.
    pub fn free() -> Result<Self> {
        // Held together until all are chosen, so that they differ.
        let held: Vec<TcpListener> =
            (0..9).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports: Vec<u16> =
            held.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<_>>()?;
        Ok(Self {
            etcd: ports[0],
            etcd_peer: ports[1],
            api_server: ports[2],
            controller_manager: ports[3],
            registry: ports[4],
            kyvernos: [ports[5], ports[6]],
            kyverno_metrics: [ports[7], ports[8]],
        })
    }
}

/// One component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The store of the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// Garbage collection, namespaces, ServiceAccounts, workloads.
    ControllerManager,
    /// The image registry.
    Registry,
    /// Kyverno's admission controller.
    Kyverno,
    /// Another replica of it, which runs where a test starts it.
    KyvernoReplica,
    /// What runs a node's containers.
    Containerd,
    /// The node's agent.
    Kubelet,
    /// Which node a pod runs on.
    Scheduler,
}

/// By what one sees that a component listens.
enum Endpoint {
    Port(u16),
    Socket(&'static str),
}

impl Component {
    /// Those of every cluster, in the order of their start.
    pub const ALL: [Self; 5] =
        [Self::Registry, Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Kyverno];

    /// Those of a cluster with a node, which start after these.
    pub const OF_A_NODE: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::Scheduler];

    /// The name of its program, its log and in commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Registry => "registry",
            Self::Kyverno => "kyverno",
            Self::KyvernoReplica => "kyverno-replica",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The component of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let more = Self::OF_A_NODE.into_iter().chain([Self::KyvernoReplica]);
        let mut all = Self::ALL.into_iter().chain(more);
        all.find(|component| component.name() == name)
    }

    fn program(self) -> String {
        match self {
            Self::Registry => "crane".to_owned(),
            Self::Kyverno | Self::KyvernoReplica => tools::kyverno(),
            other => other.name().to_owned(),
        }
    }

    /// Which replica of Kyverno it is, if it is one.
    fn replica(self) -> Option<usize> {
        match self {
            Self::Kyverno => Some(0),
            Self::KyvernoReplica => Some(1),
            _ => None,
        }
    }

    fn webhook(self, ports: &Ports) -> u16 {
        ports.kyvernos[self.replica().unwrap_or(0)]
    }

    fn endpoint(self, ports: &Ports) -> Endpoint {
        Endpoint::Port(match self {
            Self::Etcd => ports.etcd,
            Self::ApiServer => ports.api_server,
            Self::ControllerManager => ports.controller_manager,
            Self::Registry => ports.registry,
            Self::Kyverno => ports.kyvernos[0],
            Self::KyvernoReplica => ports.kyvernos[1],
            Self::Containerd => return Endpoint::Socket(node::SOCKET),
            // Their defaults: a node has a network of its own.
            Self::Kubelet => 10248,
            Self::Scheduler => 10259,
        })
    }

    fn arguments(self, ports: &Ports, folder: &Path) -> Vec<String> {
        let path = |name: &str| folder.join(name).display().to_string();
        let etcd = format!("http://127.0.0.1:{}", ports.etcd);
        let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
        match self {
            Self::Etcd => vec![
                format!("--data-dir={}", path("etcd")),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                // The data lives as long as the process.
                "--unsafe-no-fsync".into(),
            ],
            Self::ApiServer => vec![
                format!("--etcd-servers={etcd}"),
                format!("--secure-port={}", ports.api_server),
                "--bind-address=127.0.0.1".into(),
                format!("--tls-cert-file={}", path("server.crt")),
                format!("--tls-private-key-file={}", path("server.key")),
                format!("--client-ca-file={}", path("ca.crt")),
                "--authorization-mode=RBAC".into(),
                "--service-cluster-ip-range=10.0.0.0/24".into(),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", path("accounts.pub")),
                format!("--service-account-signing-key-file={}", path("accounts.key")),
                format!("--audit-policy-file={}", path(audit::POLICY)),
                format!("--audit-log-path={}", path(audit::LOG)),
                // In MB: one that is begun anew would seem to hold all that was asked.
                "--audit-log-maxsize=100000".to_owned(),
            ],
            Self::ControllerManager => vec![
                format!("--kubeconfig={}", path("admin.kubeconfig")),
                format!("--secure-port={}", ports.controller_manager),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={}", path("controller-manager")),
                "--leader-elect=false".into(),
                format!("--service-account-private-key-file={}", path("accounts.key")),
                format!("--root-ca-file={}", path("ca.crt")),
            ],
            Self::Registry => vec![
                "registry".into(),
                "serve".into(),
                format!("--address=127.0.0.1:{}", ports.registry),
                format!("--disk={}", path("images")),
            ],
            Self::Kyverno | Self::KyvernoReplica => vec![
                format!("--kubeconfig={}", path("admin.kubeconfig")),
                format!("--serverIP=127.0.0.1:{}", self.webhook(ports)),
                format!("--webhookServerPort={}", self.webhook(ports)),
                "--caSecretName=kyverno-ca".into(),
                "--tlsSecretName=kyverno-tls".into(),
                "--tlsKeyAlgorithm=ECDSA".into(),
                "--controllerRuntimeMetricsAddress=0".into(),
                // Its default port would be taken by the Kyverno of another cluster.
                format!("--metricsPort={}", ports.kyverno_metrics[self.replica().unwrap_or(0)]),
                "--admissionReports=false".into(),
                "--leaderElectionRetryPeriod=500ms".into(),
                "-v=2".into(),
            ],
            Self::Containerd => vec![format!("--config={}", path(node::CONTAINERD))],
            Self::Kubelet => vec![
                format!("--config={}", path(node::KUBELET)),
                format!("--kubeconfig={}", path("kubelet.kubeconfig")),
                format!("--hostname-override={}", node::NAME),
                format!("--node-ip={}", node::ADDRESS),
            ],
            Self::Scheduler => vec![
                format!("--kubeconfig={}", path("kube-scheduler.kubeconfig")),
                "--bind-address=127.0.0.1".into(),
                "--leader-elect=false".into(),
            ],
        }
    }

    fn environment(self, folder: &Path, proxy: u16) -> Vec<(&'static str, String)> {
        let Some(replica) = self.replica() else { return Vec::new() };
        // All of the first six have to be set for Kyverno to start.
        vec![
            ("KYVERNO_NAMESPACE", "kyverno".into()),
            ("KYVERNO_SERVICEACCOUNT_NAME", "kyverno-admission-controller".into()),
            ("KYVERNO_DEPLOYMENT", "kyverno-admission-controller".into()),
            ("KYVERNO_POD_NAME", format!("kyverno-{replica}")),
            ("INIT_CONFIG", "kyverno".into()),
            ("METRICS_CONFIG", "kyverno-metrics".into()),
            ("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}")),
            ("SSL_CERT_FILE", folder.join("ca.crt").display().to_string()),
        ]
    }
}

/// A component that runs; it ends with this value.
#[derive(Debug)]
pub struct Running {
    /// Which it is.
    pub component: Component,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a component, with more flags, and waits until it listens.
    ///
    /// # Errors
    /// If it cannot be started or ends; the text has the end of its log.
    pub async fn start(
        component: Component,
        ports: &Ports,
        folder: &Path,
        proxy: u16,
        flags: &[&str],
    ) -> Result<Self> {
        let name = component.name();
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(tools::program(&component.program())?)
            .args(component.arguments(ports, folder))
            .args(flags)
            .envs(component.environment(folder, proxy))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut running = Self { component, child, log };
        running.wait_until_listening(component.endpoint(ports)).await?;
        Ok(running)
    }

    async fn wait_until_listening(&mut self, endpoint: Endpoint) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let name = self.component.name();
        loop {
            let (listens, at) = match endpoint {
                Endpoint::Port(port) => {
                    (TcpStream::connect(("127.0.0.1", port)).await.is_ok(), format!("port {port}"))
                }
                Endpoint::Socket(path) => {
                    (UnixStream::connect(path).await.is_ok(), path.to_owned())
                }
            };
            if listens {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended: {status}\n{}", tail(&self.log));
            }
            if Instant::now() > deadline {
                bail!("{name} does not listen on {at}\n{}", tail(&self.log));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the process has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends the process at once and waits for it.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The end of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    format!("--- the end of {}:\n{}", log.display(), lines[from..].join("\n"))
}
