//! A connection by MQTT 3.1.1 over TLS. It is made when something is to be sent
//! and not made again by itself: whether and when is the engine's to decide.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Class, Failure, Sent};
use super::packet;
use super::session::{KEEP_ALIVE_S, Request, Session, unreachable};
use crate::engine::Account;
use crate::reach::{self, Reach};

/// How long a connection may take to be made and accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all acknowledgements of a batch may take.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an orderly end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests to the connection's task that wait.
const QUEUE: usize = 16;

/// Messages that are not acknowledged at once; what AWS allows.
const WINDOW: usize = 100;

/// Who connects to where.
#[derive(Clone)]
pub(crate) struct Login {
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub tls: Arc<ClientConfig>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Link {
    requests: mpsc::Sender<Request>,
    window: Arc<Semaphore>,
    /// Why it has ended, if it has.
    end: watch::Receiver<Option<Failure>>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Connects, and waits until the platform has accepted.
    pub async fn connect(login: &Login, reach: &Reach) -> Result<Self, Failure> {
        let session = timeout(CONNECT_TIMEOUT, open(login, reach)).await;
        let session = session.map_err(|_| Failure::timed_out())??;
        let (requests, asked) = mpsc::channel(QUEUE);
        let (ended, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            let failure = session.run(asked).await;
            ended.send_replace(Some(failure));
        });
        Ok(Self { requests, window: Arc::new(Semaphore::new(WINDOW)), end, task })
    }

    pub fn is_up(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// Publishes at QoS 1, and waits for all acknowledgements. The answer is how
    /// many of the messages' values, from the front, were acknowledged, and why
    /// the next was not. Messages bear how many values each stands for.
    pub async fn publish(&self, messages: Vec<(String, String, usize)>, account: &Account) -> Sent {
        let mut published = Vec::with_capacity(messages.len());
        for (topic, body, values) in messages {
            let _rate = account.permit(1).await;
            let place = Arc::clone(&self.window).acquire_owned().await;
            let place = place.expect("the window is never closed");
            let (acknowledged, is_acknowledged) = oneshot::channel();
            let request = Request::Publish { topic, body, acknowledged, place };
            // An error says that the connection has ended; what is awaited below
            // says so too.
            if self.requests.send(request).await.is_err() {
                published.push((is_acknowledged, values));
                break;
            }
            published.push((is_acknowledged, values));
        }
        let mut done = 0;
        let all = async {
            for (is_acknowledged, values) in published {
                if is_acknowledged.await.is_err() {
                    return Some(self.why().await);
                }
                done += values;
            }
            None
        };
        let failure = timeout(ACKNOWLEDGE_TIMEOUT, all).await.unwrap_or_else(|_| {
            let message = "the platform did not acknowledge in time";
            Some(Failure::new(Class::Retry, message))
        });
        Sent { done, refused: Vec::new(), failure }
    }

    /// Ends the connection as MQTT wants it ended. Nothing is in flight.
    pub async fn close(self) {
        if self.requests.send(Request::Close).await.is_ok() {
            let mut end = self.end.clone();
            let _ = timeout(CLOSE_TIMEOUT, end.wait_for(Option::is_some)).await;
        }
    }

    /// Why the connection has ended, of which the first sign is that a request of
    /// its is dropped.
    async fn why(&self) -> Failure {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        let failure = ended.ok().and_then(|failure| failure.clone());
        failure
            .unwrap_or_else(|| Failure::new(Class::Retry, "the connection to the platform broke"))
    }
}

async fn open(login: &Login, reach: &Reach) -> Result<Session<TlsStream<TcpStream>>, Failure> {
    let addresses = reach.resolve(&login.host, login.port).await.map_err(|error| {
        let class = if reach::is_not_allowed(&error) { Class::Pause } else { Class::Retry };
        Failure::new(class, format!("the platform cannot be reached: {error}"))
    })?;
    // The name still stands in the TLS handshake; where it leads has been looked
    // up.
    let name = ServerName::try_from(login.host.clone())
        .map_err(|error| Failure::new(Class::Pause, format!("the host is no name: {error}")))?;
    let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| unreachable(&error))?;
    // Messages are gathered before they are written.
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    let connector = TlsConnector::from(Arc::clone(&login.tls));
    let stream = connector.connect(name, stream).await.map_err(|error| unreachable(&error))?;
    let (user, password) = (login.user.as_deref(), login.password.as_deref());
    let connect = packet::connect(&login.client_id, user, password, KEEP_ALIVE_S);
    Session::open(stream, &connect).await
}
