//! Takes HTTP connections: as many as allowed, none for ever without a request,
//! and all of them ended in order when the node stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// How long a connection may take until the head of its next request is whole;
/// a connection that is kept alive without a request ends at this too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after the operating system refused a connection, for want of file
/// descriptors mostly, so that it isn't asked in a circle.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// HTTP being served.
#[derive(Debug)]
pub struct HttpServer {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Begins to serve `router` on `listener`.
    pub fn start(
        listener: TcpListener,
        router: Router,
        max_connections: usize,
    ) -> std::io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, router, max_connections, stopped));
        Ok(Self { local_addr, stop, task })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more connections, lets requests that are being answered end
    /// within `patience`, and cuts off those that do not.
    pub async fn stop(self, patience: Duration) {
        let Self { stop, mut task, .. } = self;
        stop.send_replace(true);
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            tracing::warn!("requests of the API were cut off by the stop");
            task.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Ok(place) = place else { break };
        match accepted {
            Ok((stream, peer)) => serve(stream, peer, router.clone(), place, &graceful),
            Err(error) => {
                tracing::warn!(%error, "the API cannot take a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    place: OwnedSemaphorePermit,
    graceful: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "an API connection ended before it began");
        return;
    }
    let service = router.map_request(move |request: Request<_>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "an API connection ended early");
        }
        drop(place);
    });
}
