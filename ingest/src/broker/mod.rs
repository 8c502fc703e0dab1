//! The embedded MQTT broker: listeners, connections, sessions.
//!
//! The first two steps of a reading: from a socket into a partition's queue,
//! and its PUBACK back once the journal has it. It speaks ThingsBoard's device
//! and gateway API and nothing else: no message goes from one client to
//! another. It never acknowledges what is not durable and never drops what it
//! has read from a client at QoS 1.

mod accept;
mod connect;
mod connection;
mod encode;
mod fleet;
mod frame;
mod limiter;
mod logins;
mod mailbox;
mod metering;
mod node;
mod options;
mod presence;
mod registry;
mod rejections;
mod session;
mod tls;
mod topics;
mod unauthenticated;
mod watch;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use journal::Journal;
use schema::TenantId;
use store::{Attributes, Directory};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch as signal};
use tokio::task::JoinHandle;

pub use limiter::{AddressLimits, Allowance};
pub use logins::{LOGIN_QUEUE, Login, LoginOutcome};
pub use options::{BrokerOptions, ListenerLimits, Rate, RateLimits, SessionLimits};
pub use presence::{Presence, PresenceOptions, Reach, RouterPresence};
pub use registry::{Connections, RpcError, SessionInfo};
pub use rejections::{
    REJECTION_PAYLOAD_BYTES, REJECTION_REASON_BYTES, REJECTION_TENANTS, REJECTION_TOPIC_BYTES,
    REJECTIONS_PER_TENANT, Rejection,
};
pub use tls::{TlsError, TlsFiles};

use self::fleet::Fleet;
use self::limiter::Limiter;
use self::logins::Logins;
use self::metering::{Attempt, Metrics};
use self::node::Node;
use self::session::{End, Rules};
use self::tls::Tls;
use self::unauthenticated::Unauthenticated;
use crate::auth::Authenticator;
use crate::batch::Submitter;

/// How long a listener rests when the system gives it no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("addresses for TLS are given, but no certificate")]
    NoCertificate,
    #[error("a metric could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// A running broker. [`Broker::shutdown`] ends it in order.
#[derive(Debug)]
pub struct Broker {
    node: Arc<Node>,
    plain: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Hears the other nodes, to the end.
    hearing: Option<JoinHandle<()>>,
    permits: Arc<Semaphore>,
}

impl Broker {
    /// Binds the addresses and begins to serve them, on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(
        options: BrokerOptions,
        journal: Journal,
        submitter: Submitter,
        directory: Directory,
        attributes: Attributes,
        registry: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        if options.tls_files.is_none() && !options.tls.is_empty() {
            return Err(StartError::NoCertificate);
        }
        let tls = options.tls_files.clone().map(Tls::open).transpose()?;
        if let Some(tls) = &tls {
            registry.register(Box::new(tls.expiry.clone()))?;
        }
        let listen = |addresses: &[SocketAddr]| {
            let bind = |&address| {
                listen(address, options.listener.backlog)
                    .map_err(|source| StartError::Listen { address, source })
            };
            addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let (plain, secure) = (listen(&options.plain)?, listen(&options.tls)?);
        let rules = Arc::new(Rules {
            session: options.session.clone(),
            payload: options.payload.clone(),
            max_packet_bytes: options.max_packet_bytes(),
        });
        let authenticator = Authenticator::new(directory.clone(), &options.secret, &options.auth)?;
        let permits = Arc::new(Semaphore::new(options.listener.max_connections));
        let takes_routers = !(plain.is_empty() && secure.is_empty());
        let fleet = options.cluster.clone();
        let fleet = fleet.map(|it| Fleet::new(it, options.name.clone(), takes_routers, registry));
        let fleet = fleet.transpose()?.map(Arc::new);
        let node = Arc::new(Node {
            rules,
            journal,
            submitter,
            directory,
            attributes,
            authenticator,
            registry: Arc::default(),
            fleet,
            rejections: Default::default(),
            logins: Logins::register(registry)?,
            ledger: Default::default(),
            metrics: Metrics::register(registry)?,
            tls,
            unauthenticated: Unauthenticated::new(options.listener.max_unauthenticated),
            limiter: Mutex::new(Limiter::new(options.address.clone())),
            tenants_epoch: AtomicU64::new(0),
            devices_epoch: AtomicU64::new(0),
            meters: DashMap::new(),
            closing: signal::Sender::new(false),
            options,
        });
        Ok(Self::run(node, plain, secure, permits))
    }

    fn run(
        node: Arc<Node>,
        plain: Vec<TcpListener>,
        secure: Vec<TcpListener>,
        permits: Arc<Semaphore>,
    ) -> Self {
        let addresses = |listeners: &[TcpListener]| {
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
        };
        let (plain_addresses, tls_addresses) = (addresses(&plain), addresses(&secure));
        let mut tasks = vec![tokio::spawn(watch::directory(Arc::clone(&node)))];
        if node.tls.is_some() {
            tasks.push(tokio::spawn(watch::certificates(Arc::clone(&node))));
        }
        let listeners = plain.into_iter().map(|listener| (listener, false));
        for (listener, is_tls) in listeners.chain(secure.into_iter().map(|one| (one, true))) {
            let (node, permits) = (Arc::clone(&node), Arc::clone(&permits));
            tasks.push(tokio::spawn(accept_all(node, listener, is_tls, permits)));
        }
        let hearing = node.fleet.clone().map(|fleet| {
            let connections = connections(&node);
            tokio::spawn(fleet::run(Arc::clone(&node), fleet, connections))
        });
        let (plain, tls) = (plain_addresses, tls_addresses);
        Self { node, plain, tls, tasks: Mutex::new(tasks), hearing, permits }
    }

    /// Where plain MQTT is served.
    #[must_use]
    pub fn plain_addresses(&self) -> &[SocketAddr] {
        &self.plain
    }

    /// Where MQTT over TLS is served.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    #[must_use]
    pub fn connections(&self) -> Connections {
        connections(&self.node)
    }

    /// The last messages of a tenant that were refused, oldest first.
    #[must_use]
    pub fn rejections(&self, tenant: TenantId) -> Vec<Rejection> {
        self.node.rejections.of(tenant)
    }

    /// Who comes in and who is refused from now on; whoever asks first has it.
    /// Nobody need ask.
    #[must_use]
    pub fn logins(&self) -> Option<mpsc::Receiver<Login>> {
        self.node.logins.take()
    }

    /// Reads the TLS files again, now; on an error the former ones stay in use.
    ///
    /// # Errors
    /// [`TlsError`]: which file, and why.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.node.tls.as_ref().map_or(Ok(()), Tls::reload)
    }

    /// Where another node takes routers: accepts nobody any more, and asks those
    /// that are connected to go there, at a bounded rate. Elsewhere it does
    /// nothing.
    pub async fn drain(&self) {
        let Some(fleet) = self.node.fleet.as_ref().filter(|fleet| fleet.has_others()) else {
            return;
        };
        self.stop_accepting().await;
        fleet.drain(&self.node, self.node.options.listener.drain_per_s).await;
    }

    async fn stop_accepting(&self) {
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for task in tasks {
            task.abort();
            // Aborted is what it is meant to be.
            let _ = task.await;
        }
    }

    /// Accepts nobody any more, gives those that are connected what they are
    /// owed, says goodbye, and returns when all are gone.
    pub async fn shutdown(&self) {
        self.stop_accepting().await;
        self.node.closing.send_replace(true);
        let all = u32::try_from(self.node.options.listener.max_connections).unwrap_or(u32::MAX);
        let gone = async {
            loop {
                self.node.registry.for_each(|handle| handle.end(End::Shutdown));
                let wait = self.permits.acquire_many(all);
                // Some may just be being admitted; they are told in the next round.
                if tokio::time::timeout(Duration::from_millis(100), wait).await.is_ok() {
                    return;
                }
            }
        };
        let patience = self.node.options.listener.shutdown_timeout_ms.saturating_mul(2);
        if tokio::time::timeout(Duration::from_millis(patience), gone).await.is_err() {
            tracing::warn!("connections are left behind at shutdown");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(hearing) = &self.hearing {
            hearing.abort();
        }
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

fn connections(node: &Node) -> Connections {
    let (registry, fleet) = (Arc::clone(&node.registry), node.fleet.clone());
    Connections::new(registry, fleet, node.directory.clone(), node::monotonic_us)
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

async fn accept_all(node: Arc<Node>, listener: TcpListener, is_tls: bool, permits: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    node.metrics.attempt(Attempt::ConnectionLimit);
                    continue;
                };
                prepare(&stream);
                tokio::spawn(accept::serve(Arc::clone(&node), stream, peer, is_tls, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    /// A peer that vanished without a word is found out after about ten minutes.
    const SILENCE: Duration = Duration::from_secs(300);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(Duration::from_secs(60))
        .with_retries(5);
    // A socket that refuses these still works.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
    let _ = stream.set_nodelay(true);
}
