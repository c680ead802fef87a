//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tracing::info;

use crate::context::Context;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves for ever. Healthy means that the process runs; ready, that it has
/// seen the whole cluster and works.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(context: &Context, ready: Arc<AtomicBool>) -> std::io::Result<()> {
    let metrics = Arc::clone(&context.metrics);
    let router =
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move || async move {
                    if ready.load(Ordering::Relaxed) {
                        (StatusCode::OK, "ok\n")
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "the cluster is still being listed\n")
                    }
                }),
            )
            .route(
                "/metrics",
                get(move || async move {
                    ([(CONTENT_TYPE, OPENMETRICS)], metrics.text()).into_response()
                }),
            );
    let listener = TcpListener::bind(context.settings.listen).await?;
    info!(address = %listener.local_addr()?, "serving health and metrics");
    axum::serve(listener, router).await
}
