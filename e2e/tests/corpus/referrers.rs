//! A registry that lists what refers to an image, which the tests' own leaves to a tag,
//! or one that fails to.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// The list of an image to which nothing refers.
const NONE: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A registry that has what another one has; it ends with this value.
pub struct Referrers {
    /// The registry, as image references name it.
    pub name: String,
    serving: JoinHandle<()>,
}

impl Referrers {
    pub async fn start(registry: &str, lists: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let name = format!("localhost:{}", listener.local_addr()?.port());
        let registry = registry.replace("localhost", "127.0.0.1");
        let serving = tokio::spawn(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                let registry = registry.clone();
                tokio::spawn(async move {
                    let answered = answer(connection, &registry, lists);
                    let _ = timeout(Duration::from_secs(30), answered).await;
                });
            }
        });
        Ok(Self { name, serving })
    }

    /// An image of the other registry in this one.
    pub fn of(&self, image: &str) -> Result<String> {
        let (_, rest) = image.split_once('/').context("no registry")?;
        Ok(format!("{}/{rest}", self.name))
    }
}

impl Drop for Referrers {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers one request, which is all that a connection is for.
async fn answer(connection: TcpStream, registry: &str, lists: bool) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        connection.read_until(b'\n', &mut line).await?;
        // Clients try TLS first.
        let line = String::from_utf8(line)?;
        match line.trim_end() {
            "" => break,
            header if header.to_ascii_lowercase().starts_with("connection:") => {}
            header => lines.push(header.to_owned()),
        }
    }
    let first = lines.first().context("no request")?.clone();
    let is_list = first.contains("/referrers/");
    if is_list && !lists {
        let failed = "HTTP/1.1 500 Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.write_all(failed.as_bytes()).await?;
        return Ok(());
    }
    if is_list {
        lines[0] = first.replace("/referrers/sha256:", "/manifests/sha256-");
    }
    let mut registry = TcpStream::connect(registry).await?;
    let request = format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"));
    registry.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    registry.read_to_end(&mut text).await?;
    if is_list && !text.starts_with(b"HTTP/1.1 200") {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            NONE.len()
        );
        text = format!("{head}{NONE}").into_bytes();
    }
    connection.write_all(&text).await?;
    connection.shutdown().await?;
    Ok(())
}
