//! The certificate by which the metrics are served: that of a folder, read again when it
//! changes, or one that is made at the start and trusted by nobody.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::lock::RwLock;

/// As a Secret of the type kubernetes.io/tls has them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// Whom a certificate is for that is made here: nobody looks.
const NAME: &str = "signingkeyring-operator";

/// The certificate that is shown now.
pub(super) struct Certificate {
    folder: Option<PathBuf>,
    shown: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// The one of a folder, or one that is made now.
    ///
    /// # Errors
    /// If the folder has none, or none can be made.
    pub(super) fn open(folder: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        let shown = match folder {
            Some(folder) => Pair::read(folder)?.parse(folder)?,
            None => made()?,
        };
        let shown = RwLock::new(Arc::new(shown));
        Ok(Arc::new(Self { folder: folder.map(Path::to_owned), shown }))
    }

    /// How connections are secured with it.
    ///
    /// # Errors
    /// If the cryptography that is built in cannot do that.
    pub(super) fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        Ok(Arc::new(config))
    }

    /// Reads it again whenever it has changed, for ever.
    pub(super) async fn follow(&self) {
        let Some(folder) = &self.folder else { return std::future::pending().await };
        let mut last = None;
        loop {
            self.look(folder, &mut last);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Shows what is in the folder, unless that was the last to be looked at. What cannot
    /// be used changes nothing: one file may be written before the other.
    fn look(&self, folder: &Path, last: &mut Option<[u8; 32]>) {
        let parsed = Pair::read(folder).and_then(|pair| {
            let is_known = last.replace(pair.digest()) == Some(pair.digest());
            if is_known { Ok(None) } else { pair.parse(folder).map(Some) }
        });
        match parsed {
            Ok(None) => {}
            Ok(Some(parsed)) => {
                let mut shown = self.shown.write();
                if shown.cert != parsed.cert {
                    info!(folder = %folder.display(), "metrics are served by another certificate");
                }
                *shown = Arc::new(parsed);
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "metrics are served by the certificate of before"
                );
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read()))
    }
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The two files as they were read.
struct Pair {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Pair {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Self { certificate: read(CERTIFICATE)?, key: Zeroizing::new(read(KEY)?) })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.certificate));
        digest.update(&self.key);
        digest.finalize().into()
    }

    fn parse(&self, folder: &Path) -> anyhow::Result<CertifiedKey> {
        let path = |name: &str| folder.join(name).display().to_string();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.with_context(|| format!("{} is no PEM", path(CERTIFICATE)))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("{} has no private key as PEM", path(KEY)))?;
        CertifiedKey::from_der(chain, key, &default_provider())
            .with_context(|| format!("{} and {KEY} are not of each other", path(CERTIFICATE)))
    }
}

fn made() -> anyhow::Result<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])
        .context("making a certificate for the metrics")?;
    let key =
        PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &default_provider())?)
}

#[cfg(test)]
mod tests;
