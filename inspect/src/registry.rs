//! Registries: what is asked of them, and within which bounds.
//!
//! Who one is comes from oci-client; what is read, by requests of our own, because that
//! library reads manifests of any size, and takes each refusal of a list of referrers for
//! an empty one.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use reqwest::{StatusCode, header, redirect};
use signingkeyring_core::images::Image;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{sleep, timeout},
};

use self::credentials::Credentials;
use crate::unreadable::Unreadable;

mod credentials;
mod failures;

/// What an inspection may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The time of one request.
    pub request: Duration,
    /// The time of one image.
    pub image: Duration,
    /// The requests that are under way at once.
    pub requests_at_once: usize,
    /// The images that are looked at at once.
    pub images_at_once: usize,
    /// The bytes of a manifest or of an index.
    pub manifest_bytes: usize,
    /// The bytes of a bundle, or of what was signed.
    pub blob_bytes: usize,
    /// The signatures in a `.sig` tag: cosign reads no more.
    pub signatures: usize,
    /// What refers to an image.
    pub referrers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(15),
            image: Duration::from_secs(60),
            requests_at_once: 16,
            images_at_once: 8,
            manifest_bytes: 4 << 20,
            blob_bytes: 8 << 20,
            signatures: 1000,
            referrers: 200,
        }
    }
}

/// All registries.
pub(crate) struct Registries {
    pub(crate) limits: Limits,
    /// Docker's configuration, if it is not where docker has it.
    docker_config: Option<PathBuf>,
    http: reqwest::Client,
    /// Who one is where one talks plainly, and where by TLS.
    plain: Client,
    tls: Client,
    requests: Semaphore,
    credentials: Mutex<HashMap<String, Arc<OnceCell<Credentials>>>>,
}

/// A repository, by somebody who may read it or not.
pub(crate) struct Repository<'a> {
    registries: &'a Registries,
    registry: String,
    repository: String,
    base: String,
    authorization: Authorization,
    helper: Option<&'static str>,
}

enum Authorization {
    None,
    Basic(String, String),
    Bearer(String),
}

/// What a registry answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_type: String,
    /// Empty unless it is what was asked for.
    pub(crate) body: Vec<u8>,
}

/// How often a request is tried that failed for a reason that passes.
const ATTEMPTS: u32 = 3;

impl Registries {
    /// # Errors
    /// If the system has no certificates that one could trust.
    pub(crate) fn new(
        limits: Limits,
        docker_config: Option<PathBuf>,
    ) -> Result<Self, reqwest::Error> {
        // The workspace's own. It is there already if the API server's client is.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(limits.request)
            .redirect(redirect::Policy::limited(5))
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let client = |protocol| {
            let (connect_timeout, read_timeout) = (Some(limits.request), Some(limits.request));
            Client::new(ClientConfig {
                protocol,
                connect_timeout,
                read_timeout,
                ..Default::default()
            })
        };
        Ok(Self {
            http,
            plain: client(ClientProtocol::Http),
            tls: client(ClientProtocol::Https),
            requests: Semaphore::new(limits.requests_at_once),
            credentials: Mutex::default(),
            docker_config,
            limits,
        })
    }

    /// Finds out who one is for an image's repository.
    pub(crate) async fn repository(&self, image: &Image) -> Result<Repository<'_>, Unreadable> {
        let (registry, repository) = (image.registry().to_owned(), image.repository().to_owned());
        let cell = {
            let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(registry.clone()).or_default().clone()
        };
        let (file, limit) = (self.docker_config.as_deref(), self.limits.request);
        let configured = Credentials::configured(&registry, file, limit);
        let credentials = cell.get_or_init(|| configured).await;
        let is_plain = is_this_machine(&registry);
        let client = if is_plain { &self.plain } else { &self.tls };
        let reference =
            Reference::with_tag(registry.clone(), repository.clone(), "latest".to_owned());
        let scheme = if is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{repository}", reference.resolve_registry());
        let mut found = Repository {
            registries: self,
            registry,
            repository,
            base,
            authorization: Authorization::None,
            helper: credentials.problem,
        };
        let asked = client.auth(&reference, &credentials.auth, RegistryOperation::Pull);
        let asked = self.bounded(asked).await.ok_or_else(|| found.slow("its address"))?;
        found.authorization = match (asked, &credentials.auth) {
            (Ok(Some(token)), _) => Authorization::Bearer(token),
            (Ok(None), RegistryAuth::Basic(user, password)) => {
                Authorization::Basic(user.clone(), password.clone())
            }
            (Ok(None), _) => Authorization::None,
            (Err(OciDistributionError::RequestError(error)), _) => {
                return Err(found.not_reached("its address", error));
            }
            // What a registry writes there is not repeated: it may be about secrets.
            (Err(OciDistributionError::AuthenticationFailure(_)), _) => {
                return Err(found.denied(&found.repository));
            }
            (Err(_), _) => return Err(found.malformed("a token", "it cannot be read")),
        };
        Ok(found)
    }

    /// Within the time and the number of requests.
    async fn bounded<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        // Nobody closes it.
        let _permit = self.requests.acquire().await.ok();
        timeout(self.limits.request, request).await.ok()
    }
}

impl Repository<'_> {
    /// A manifest by its tag or digest. Nothing if there is none.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        accept: &[&str],
    ) -> Result<Option<Answer>, Unreadable> {
        let limit = self.registries.limits.manifest_bytes;
        let separator = if name.starts_with("sha256:") { '@' } else { ':' };
        let what = format!("{}{separator}{name}", self.repository);
        let answer = self.get(&format!("manifests/{name}"), accept, limit, &what).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failed(&what, answer.status)),
        }
    }

    /// The same of a digest, which it has to have.
    pub(crate) async fn manifest_of(
        &self,
        digest: &str,
        accept: &[&str],
    ) -> Result<Option<Answer>, Unreadable> {
        let answer = self.manifest(digest, accept).await?;
        answer.map(|answer| self.checked(digest, answer)).transpose()
    }

    /// A blob. Nothing if there is none.
    pub(crate) async fn blob(&self, digest: &str) -> Result<Option<Answer>, Unreadable> {
        let limit = self.registries.limits.blob_bytes;
        let what = format!("{}@{digest}", self.repository);
        let answer = self.get(&format!("blobs/{digest}"), &["*/*"], limit, &what).await?;
        match answer.status {
            StatusCode::OK => self.checked(digest, answer).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failed(&what, answer.status)),
        }
    }

    fn checked(&self, digest: &str, answer: Answer) -> Result<Answer, Unreadable> {
        let seen = crate::digest::text(&crate::digest::of(&answer.body));
        let what = format!("{}@{digest}", self.repository);
        let is_it = seen == digest;
        is_it.then_some(answer).ok_or_else(|| self.malformed(&what, "it has another digest"))
    }

    /// What a path below the repository has, whatever it is.
    pub(crate) async fn get(
        &self,
        path: &str,
        accept: &[&str],
        limit: usize,
        what: &str,
    ) -> Result<Answer, Unreadable> {
        let url = format!("{}/{path}", self.base);
        let accept = accept.join(", ");
        let mut attempt = 1;
        loop {
            let request = self.registries.http.get(&url).header(header::ACCEPT, &accept);
            let request = match &self.authorization {
                Authorization::None => request,
                Authorization::Basic(user, password) => request.basic_auth(user, Some(password)),
                Authorization::Bearer(token) => request.bearer_auth(token),
            };
            let answer = self.registries.bounded(self.answer(request, limit, what)).await;
            let answer = answer.ok_or_else(|| self.slow(what))??;
            match answer.status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied(what)),
                status if attempt < ATTEMPTS && passes(status) => {
                    sleep(Duration::from_millis(200) * attempt).await;
                    attempt += 1;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        limit: usize,
        what: &str,
    ) -> Result<Answer, Unreadable> {
        let not_reached = |error| self.not_reached(what, error);
        let mut response = request.send().await.map_err(not_reached)?;
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut answer = Answer {
            status: response.status(),
            media_type: media_type.to_owned(),
            body: Vec::new(),
        };
        if answer.status != StatusCode::OK {
            return Ok(answer);
        }
        while let Some(chunk) = response.chunk().await.map_err(not_reached)? {
            if answer.body.len() + chunk.len() > limit {
                return Err(self.too_large(what, &format!("{limit} bytes")));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// The limits of what is read.
    pub(crate) fn limits(&self) -> &Limits {
        &self.registries.limits
    }

    /// The repository's name.
    pub(crate) fn name(&self) -> &str {
        &self.repository
    }
}

/// Whether a failure is worth another attempt.
fn passes(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

/// Whether a registry is on this machine, which one talks to without TLS.
fn is_this_machine(registry: &str) -> bool {
    let (name, _) = registry.split_once(':').unwrap_or((registry, ""));
    let is_loopback =
        |name: &str| name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    name == "localhost" || name.ends_with(".localhost") || is_loopback(name)
}

#[cfg(test)]
mod tests;
