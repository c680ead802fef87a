//! A mutating webhook that puts a sidecar into Pods that ask for one, as a mesh has it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{pki::Authority, proxy};

/// The annotation of a Pod that names the sidecar's image.
pub const SIDECAR: &str = "test/sidecar";

/// What injects sidecars; it ends with this value.
#[derive(Debug)]
pub struct Injector {
    port: u16,
    authority: String,
    serving: JoinHandle<()>,
}

impl Injector {
    /// Starts it. The API server has yet to be told, by [`Self::webhook`].
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start() -> Result<Self> {
        let authority = Authority::new()?;
        let pem = authority.pem.clone();
        let tls = TlsAcceptor::from(Arc::new(proxy::tls(&authority, "127.0.0.1")?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let serving = tokio::spawn(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                let tls = tls.clone();
                tokio::spawn(async move {
                    let answered = timeout(Duration::from_secs(30), answer(connection, tls)).await;
                    if let Ok(Err(error)) = answered {
                        eprintln!("injector: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, authority: pem, serving })
    }

    /// The webhook configuration. It is called in the order of names, so after those of
    /// Kyverno's.
    #[must_use]
    pub fn webhook(&self) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "sidecars"},
            "webhooks": [{
                "name": "sidecars.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{}/", self.port),
                    "caBundle": Base64::encode_string(self.authority.as_bytes()),
                },
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"],
                }],
            }],
        })
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(connection: TcpStream, tls: TlsAcceptor) -> Result<()> {
    let mut connection = BufReader::new(tls.accept(connection).await.context("TLS")?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    let review: Value = serde_json::from_slice(&body)?;
    let text = reviewed(&review["request"]).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await?;
    Ok(())
}

fn reviewed(request: &Value) -> Value {
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if let Some(image) = request["object"]["metadata"]["annotations"][SIDECAR].as_str() {
        let container = json!({"name": "sidecar", "image": image});
        let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": container}]);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(Base64::encode_string(patch.to_string().as_bytes()));
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
