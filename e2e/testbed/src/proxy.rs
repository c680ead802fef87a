//! A forward proxy that leads every host to the local registry, under TLS.
//!
//! Kyverno is told to use it (`HTTPS_PROXY`) and to trust its authority
//! (`SSL_CERT_FILE`), so that policies are tested with the host names they
//! hold: `quay.io/a/b` is served by the local registry's `a/b`.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::Authority;

/// Serves for ever; what one connection does wrong ends only that one.
pub async fn serve(listener: TcpListener, authority: Arc<Authority>, registry: String) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let (authority, registry) = (Arc::clone(&authority), registry.clone());
        tokio::spawn(async move {
            if let Err(error) = forward(connection, &authority, &registry).await {
                eprintln!("proxy: {error:#}");
            }
        });
    }
}

async fn forward(connection: TcpStream, authority: &Authority, registry: &str) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut request = String::new();
    connection.read_line(&mut request).await?;
    let mut header = String::new();
    while header != "\r\n" {
        header.clear();
        if connection.read_line(&mut header).await? == 0 {
            bail!("the request ended early");
        }
    }
    let mut words = request.split_whitespace();
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        bail!("not a CONNECT: {request:?}");
    };
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    connection.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut inside = TlsAcceptor::from(Arc::new(tls(authority, host)?))
        .accept(connection)
        .await
        .with_context(|| format!("TLS as {host}"))?;
    let mut registry = TcpStream::connect(registry).await.context("reaching the registry")?;
    // Either side may just drop the connection: that is how HTTP clients end.
    let _ = copy_bidirectional(&mut inside, &mut registry).await;
    Ok(())
}

/// How one serves under TLS as this host.
pub(crate) fn tls(authority: &Authority, host: &str) -> Result<ServerConfig> {
    let identity = authority.server(&[host])?;
    let certificate =
        rustls::pki_types::CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?)
}
