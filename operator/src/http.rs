//! `/healthz`, `/readyz` and `/metrics`.

mod access;
mod certificate;
mod secure;

use std::{net::SocketAddr, sync::Arc};

use access::{Access, Answer};
use anyhow::Context as _;
use axum::{
    Router,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use certificate::Certificate;
use kube::Client;
use tokio::{net::TcpListener, sync::watch};
use tracing::info;

use crate::{
    leadership::Leadership,
    lock::Mutex,
    settings::Settings,
    telemetry::{Metrics, Requests},
};

const METRICS: &str = "/metrics";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told of this replica: each time it begins to follow the cluster anew, that
/// begins anew, too.
#[derive(Debug)]
pub(crate) struct Health {
    leadership: Leadership,
    has_listed: watch::Sender<bool>,
    metrics: Mutex<Arc<Metrics>>,
}

impl Health {
    /// Of a replica that has seen nothing yet; `has_listed` is told when it has.
    pub(crate) fn new(
        leadership: Leadership,
        has_listed: watch::Sender<bool>,
        requests: &Requests,
    ) -> Arc<Self> {
        let metrics = Mutex::new(Arc::new(Metrics::new(requests)));
        Arc::new(Self { leadership, has_listed, metrics })
    }

    /// It begins to list the cluster.
    pub(crate) fn lists(&self, metrics: &Arc<Metrics>) {
        *self.metrics.lock() = Arc::clone(metrics);
        self.has_listed.send_replace(false);
    }

    /// It has seen the whole cluster.
    pub(crate) fn has_listed(&self) {
        self.has_listed.send_replace(true);
    }

    /// A replica that only waits for its turn is as ready as it can be.
    fn readiness(&self) -> (StatusCode, &'static str) {
        if !*self.has_listed.borrow() {
            (StatusCode::SERVICE_UNAVAILABLE, "the cluster is still being listed\n")
        } else if !self.leadership.can_be_leader() {
            (StatusCode::SERVICE_UNAVAILABLE, "the Lease could not be looked at yet\n")
        } else if self.leadership.is_leader() {
            (StatusCode::OK, "leader\n")
        } else {
            (StatusCode::OK, "standby\n")
        }
    }

    fn metrics(&self) -> String {
        let metrics = Arc::clone(&self.metrics.lock());
        metrics.text(self.leadership.is_leader() && *self.has_listed.borrow())
    }
}

/// Serves for ever. Healthy means that the process runs; ready, that it has
/// seen the whole cluster and works, or could.
///
/// # Errors
/// If an address cannot be bound, or there is no certificate.
pub(crate) async fn serve(
    settings: &Settings,
    client: &Client,
    health: &Arc<Health>,
) -> anyhow::Result<()> {
    let ready = Arc::clone(health);
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready.readiness() }));
    let health = Arc::clone(health);
    if !settings.metrics_secure {
        let router = router.route(METRICS, get(move || async move { shown(&health) }));
        return Ok(axum::serve(bind(settings.listen, "health and metrics").await?, router).await?);
    }
    let certificate = Certificate::open(settings.metrics_cert_path.as_deref())?;
    let access = Arc::new(Access::new(client.clone(), METRICS));
    let metrics = Router::new().route(
        METRICS,
        get(move |headers: HeaderMap| async move {
            match access.judge(&headers).await {
                Answer::Allowed => shown(&health),
                refused => refusal(refused),
            }
        }),
    );
    let open = bind(settings.listen, "health").await?;
    let secured = bind(settings.metrics_bind_address, "metrics by HTTPS").await?;
    let config = certificate.server()?;
    tokio::select! {
        result = axum::serve(open, router).into_future() => Ok(result?),
        never = secure::serve(secured, config, metrics) => match never {},
        () = certificate.follow() => Ok(()),
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("serving on {address}"))?;
    info!(address = %listener.local_addr()?, "serving {what}");
    Ok(listener)
}

fn shown(health: &Health) -> Response {
    ([(CONTENT_TYPE, OPENMETRICS)], health.metrics()).into_response()
}

/// What who may not read the metrics is told.
fn refusal(answer: Answer) -> Response {
    match answer {
        Answer::Unauthorized => {
            let how = [(WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, how, "Unauthorized\n").into_response()
        }
        Answer::Forbidden => {
            let why = "Forbidden: it takes the right to get the path /metrics\n";
            (StatusCode::FORBIDDEN, why).into_response()
        }
        Answer::Allowed | Answer::Unknown => {
            let why = "the API server does not say who asks; see the operator's log\n";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}
