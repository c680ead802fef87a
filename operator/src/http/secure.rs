//! HTTPS, of which nobody takes up more than there is.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, header::CONNECTION},
    middleware::map_response,
    response::Response,
};
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
/// How long one may take to be secured, and how long until the head of a request is there:
/// who asks less often connects anew.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(10);
/// How long one lasts, whatever is asked on it.
const LONGEST: Duration = Duration::from_secs(180);
/// After a failure that concerns all, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves for ever; who drops this ends all connections.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
) -> Infallible {
    let acceptor = TlsAcceptor::from(config);
    let router = router.layer(map_response(closing));
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

/// Who is refused keeps no connection.
async fn closing(mut response: Response) -> Response {
    if !response.status().is_success() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
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
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(secured), TowerToHyperService::new(router));
    if let Ok(Err(error)) = timeout(LONGEST, served).await {
        debug!(%error, "a connection for metrics ended");
    }
}
