//! What stands between the API server and Kyverno's replicas in a real cluster, and not
//! in this one: a Service, and a kubelet that probes a container and says when the
//! Service may lead to it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_rustls::TlsConnector;

/// When a container is probed, as its Pod's spec says it.
#[derive(Clone, Copy, Debug)]
pub struct Probes {
    /// `startupProbe`: its initial delay, and its period.
    pub startup: [Duration; 2],
    /// `readinessProbe`: its initial delay, and its period.
    pub readiness: [Duration; 2],
    /// `readinessProbe.successThreshold`.
    pub successes: u32,
}

impl Probes {
    /// Those of Kyverno's chart, 1.19.
    pub const CHART: Self = Self {
        startup: [Duration::from_secs(2), Duration::from_secs(6)],
        readiness: [Duration::from_secs(5), Duration::from_secs(10)],
        successes: 1,
    };

    /// Those that find the port open as soon as it is.
    pub const ONCE: Self = Self {
        startup: [Duration::ZERO, Duration::from_millis(5)],
        readiness: [Duration::ZERO, Duration::from_secs(1)],
        successes: 1,
    };

    /// Those that find it again a second later.
    pub const TWICE: Self = Self { successes: 2, ..Self::ONCE };
}

/// A Service that leads to containers which are ready, over TCP.
#[derive(Debug)]
pub struct Service {
    /// Its port on 127.0.0.1.
    pub port: u16,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    tls: Arc<ClientConfig>,
}

#[derive(Debug)]
struct Endpoint {
    port: u16,
    ready: bool,
    kubelet: Option<JoinHandle<()>>,
}

type Endpoints = Mutex<Vec<Endpoint>>;

fn endpoint<T>(endpoints: &Endpoints, index: usize, with: impl FnOnce(&mut Endpoint) -> T) -> T {
    with(&mut endpoints.lock().unwrap_or_else(PoisonError::into_inner)[index])
}

impl Service {
    /// A Service for containers that listen on these ports of 127.0.0.1, with
    /// certificates of this authority (PEM). None is ready.
    ///
    /// # Errors
    /// If there is no port for it, or the authority cannot be read.
    pub async fn start(ports: &[u16], authority: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let endpoint = |port: &u16| Endpoint { port: *port, ready: false, kubelet: None };
        let endpoints = Arc::new(Mutex::new(ports.iter().map(endpoint).collect()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(serve(listener, Arc::clone(&endpoints)));
        Ok(Self { port, endpoints, tls: Arc::new(config) })
    }

    /// A container starts now, and is probed until the Service may lead to it. Without
    /// probes it leads to it at once.
    pub fn container_starts(&self, index: usize, probes: Option<Probes>) {
        self.container_ends(index);
        let Some(probes) = probes else {
            return endpoint(&self.endpoints, index, |endpoint| endpoint.ready = true);
        };
        let port = endpoint(&self.endpoints, index, |endpoint| endpoint.port);
        let (endpoints, probing) =
            (Arc::clone(&self.endpoints), TlsConnector::from(Arc::clone(&self.tls)));
        let kubelet = tokio::spawn(async move {
            let start = Instant::now();
            let [delay, period] = probes.startup;
            sleep(delay).await;
            while !answers(&probing, port, "/health/liveness").await {
                sleep(period).await;
            }
            let [delay, period] = probes.readiness;
            sleep_until(start + delay).await;
            let mut successes = 0;
            while successes < probes.successes {
                if successes > 0 {
                    sleep(period).await;
                }
                if answers(&probing, port, "/health/readiness").await {
                    successes += 1;
                } else {
                    successes = 0;
                    sleep(period).await;
                }
            }
            endpoint(&endpoints, index, |endpoint| endpoint.ready = true);
        });
        endpoint(&self.endpoints, index, |endpoint| endpoint.kubelet = Some(kubelet));
    }

    /// A container has ended, or is about to: the Service does not lead to it any more.
    /// What is connected stays so as long as both sides like.
    pub fn container_ends(&self, index: usize) {
        endpoint(&self.endpoints, index, |endpoint| {
            endpoint.ready = false;
            if let Some(kubelet) = endpoint.kubelet.take() {
                kubelet.abort();
            }
        });
    }

    /// Whether the Service leads to a container.
    #[must_use]
    pub fn is_ready(&self, index: usize) -> bool {
        endpoint(&self.endpoints, index, |endpoint| endpoint.ready)
    }
}

/// Leads each connection to the next container that is ready.
async fn serve(listener: TcpListener, endpoints: Arc<Endpoints>) {
    for turn in 0_usize.. {
        let Ok((mut connection, _)) = listener.accept().await else { continue };
        let port = {
            let endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            let ready: Vec<u16> = endpoints.iter().filter(|e| e.ready).map(|e| e.port).collect();
            // Without one the connection is refused.
            ready.get(turn % ready.len().max(1)).copied()
        };
        let Some(port) = port else { continue };
        tokio::spawn(async move {
            if let Ok(mut container) = TcpStream::connect(("127.0.0.1", port)).await {
                // Either side may just drop it.
                let _ = copy_bidirectional(&mut connection, &mut container).await;
            }
        });
    }
}

/// Whether a container answers a probe.
async fn answers(probing: &TlsConnector, port: u16, path: &str) -> bool {
    get(probing, port, path).await.is_ok()
}

async fn get(probing: &TlsConnector, port: u16, path: &str) -> Result<()> {
    let connection = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut connection = probing.connect(ServerName::try_from("127.0.0.1")?, connection).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut status = String::new();
    BufReader::new(connection).read_line(&mut status).await.context("no answer")?;
    ensure!(status.contains(" 200 "), "{status}");
    Ok(())
}
