//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use tracing::info;

use crate::{
    leadership::Leadership,
    telemetry::{Metrics, Requests},
};

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
        *self.lock() = Arc::clone(metrics);
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
        let metrics = Arc::clone(&self.lock());
        metrics.text(self.leadership.is_leader() && *self.has_listed.borrow())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Metrics>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves for ever. Healthy means that the process runs; ready, that it has
/// seen the whole cluster and works, or could.
///
/// # Errors
/// If the address cannot be bound.
pub(crate) async fn serve(listen: SocketAddr, health: &Arc<Health>) -> std::io::Result<()> {
    let (ready, metrics) = (Arc::clone(health), Arc::clone(health));
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready.readiness() }))
        .route(
            "/metrics",
            get(move || async move {
                ([(CONTENT_TYPE, OPENMETRICS)], metrics.metrics()).into_response()
            }),
        );
    let listener = TcpListener::bind(listen).await?;
    info!(address = %listener.local_addr()?, "serving health and metrics");
    axum::serve(listener, router).await
}
