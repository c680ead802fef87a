//! HTTPS, of which nobody takes up more than there is.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// How many connections there are at once; others wait to be taken.
const CONNECTIONS: usize = 32;
/// How long one may take to be secured, and may be idle before it is closed: longer than
/// Prometheus' usual intervals.
const HANDSHAKE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(150);
/// After a failure that concerns all, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves for ever; who drops this ends all connections.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
) -> Infallible {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer(stream, acceptor.clone(), router.clone()));
                }
                Err(error) => {
                    warn!(%error, "a connection for metrics could not be taken");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Answers what is asked on one connection. How it ends is its client's matter.
async fn answer(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let secured = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => return debug!(%error, "no TLS with who asks for metrics"),
        Err(_) => return,
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(secured), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        debug!(%error, "a connection for metrics ended");
    }
}
