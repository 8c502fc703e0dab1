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

use super::unstalled::Unstalled;

/// How long a connection may take until the head of its next request is whole;
/// a connection that is kept alive without a request ends at this too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after the operating system refused a connection, for want of file
/// descriptors mostly, so that it isn't asked in a circle.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What connections may use.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// At once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take no byte of its answer.
    pub write_stall: Duration,
}

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
        limits: ConnectionLimits,
    ) -> std::io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, router, limits, stopped));
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
    limits: ConnectionLimits,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(limits.max_connections));
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
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "an API connection ended before it began");
                    continue;
                }
                let stream = Unstalled::new(stream, limits.write_stall);
                serve(stream, peer, router.clone(), place, &graceful);
            }
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
    stream: Unstalled<TcpStream>,
    peer: SocketAddr,
    router: Router,
    place: OwnedSemaphorePermit,
    graceful: &GracefulShutdown,
) {
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::routing::get;
    use bytes::Bytes;
    use http_body::Frame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// An answer without an end that tells when it is given up.
    struct Endless(Option<mpsc::Sender<()>>);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 65_536])))))
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            let _ = self.0.take().map(|given_up| given_up.try_send(()));
        }
    }

    async fn serve_endless(write_stall: Duration) -> (HttpServer, mpsc::Receiver<()>) {
        let (sender, given_up) = mpsc::channel(8);
        let answer = move || async move { Body::new(Endless(Some(sender))) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = ConnectionLimits { max_connections: 8, write_stall };
        let router = Router::new().route("/", get(answer));
        (HttpServer::start(listener, router, limits).unwrap(), given_up)
    }

    async fn ask(server: &HttpServer) -> TcpStream {
        let mut client = TcpStream::connect(server.local_addr()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        client
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (server, mut given_up) = serve_endless(Duration::from_millis(50)).await;
        let _silent = ask(&server).await;
        timeout(DEADLINE, given_up.recv()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_served_on() {
        let (server, mut given_up) = serve_endless(DEADLINE).await;
        let mut client = ask(&server).await;
        let mut piece = vec![0; 64 << 10];
        for _ in 0..200 {
            client.read_exact(&mut piece).await.unwrap();
        }
        assert!(given_up.try_recv().is_err());
        drop(client);
        timeout(DEADLINE, given_up.recv()).await.unwrap().unwrap();
    }
}
