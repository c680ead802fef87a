//! A registry that asks who one is: it has what the cluster's registry has, for who
//! gives a name and a password.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

const NAME: &str = "puller";
const PASSWORD: &str = "of-no-worth";

/// Name and password as HTTP has them.
const AUTHORIZATION: &str = "Basic cHVsbGVyOm9mLW5vLXdvcnRo";

/// What who gives none is told, by the protocol of registries.
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic \
                            realm=\"private\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A registry that asks for a password; it ends with this value.
#[derive(Debug)]
pub struct PrivateRegistry {
    /// The registry, as image references name it.
    pub name: String,
    serving: JoinHandle<()>,
}

impl PrivateRegistry {
    /// Starts one in front of the cluster's.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start(registry: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let name = format!("localhost:{}", listener.local_addr()?.port());
        let serving = tokio::spawn(serve(listener, registry.replace("localhost", "127.0.0.1")));
        Ok(Self { name, serving })
    }

    /// A pull secret for it.
    #[must_use]
    pub fn pull_secret(&self, namespace: &str, name: &str) -> Value {
        let login = json!({"username": NAME, "password": PASSWORD});
        let config = json!({"auths": {&self.name: login}}).to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config},
        })
    }
}

impl Drop for PrivateRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, registry: String) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let registry = registry.clone();
        tokio::spawn(async move {
            let answered = timeout(Duration::from_secs(30), answer(connection, &registry)).await;
            if let Ok(Err(error)) = answered {
                eprintln!("private registry: {error:#}");
            }
        });
    }
}

/// Answers one request, which is all that a connection is for: with another one somebody
/// else could come by it.
async fn answer(connection: TcpStream, registry: &str) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut head = String::new();
    let mut authorized = false;
    loop {
        let mut line = Vec::new();
        connection.read_until(b'\n', &mut line).await?;
        // Clients try TLS first.
        let Some(line) = String::from_utf8(line).ok().filter(|line| line.ends_with("\r\n")) else {
            return Ok(());
        };
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorized = value.trim() == AUTHORIZATION,
            "connection" => {}
            _ => head.push_str(&line),
        }
    }
    if !head.starts_with("GET ") && !head.starts_with("HEAD ") {
        bail!("it is only read from: {head}");
    }
    if !authorized {
        connection.write_all(UNAUTHORIZED.as_bytes()).await?;
        return Ok(());
    }
    let mut registry = TcpStream::connect(registry).await.context("reaching the registry")?;
    registry.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await?;
    // Either side may just drop the connection: that is how HTTP clients end.
    let _ = copy(&mut registry, &mut connection).await;
    let _ = connection.shutdown().await;
    Ok(())
}
