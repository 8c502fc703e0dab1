//! From accept to a session: address limits, TLS, CONNECT, credentials.
//!
//! All memory of this phase is given back before the session runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use schema::{RouterId, partition_of};
use store::Entry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::connect::{self, Accepted, Connect, Refused};
use super::connection::{Connection, Socket};
use super::frame::{self, Version, packet};
use super::logins::{self, Login, LoginOutcome};
use super::mailbox::Mailbox;
use super::metering::Attempt;
use super::node::{Node, monotonic_us};
use super::registry::Handle;
use super::session::{Connected, Identity, Session};
use crate::auth::{AuthError, ClientCertificate, Presented};

/// Serves one connection from accept to its end.
pub(crate) async fn serve(
    node: Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    is_tls: bool,
    permit: OwnedSemaphorePermit,
) {
    // Boxed, so that what only the first phase needs is freed with it.
    let established = Box::pin(establish_unless_closing(&node, stream, peer, is_tls)).await;
    let (connection, handle) = match established {
        Ok(established) => established,
        Err(attempt) => return node.metrics.attempt(attempt),
    };
    node.metrics.attempt(Attempt::Accepted);
    let gauge = node.metrics.connections.with_label_values(&labels(&handle));
    gauge.inc();
    Box::new(connection).run().await;
    gauge.dec();
    drop(permit);
}

fn labels(handle: &Handle) -> [&'static str; 2] {
    let protocol = match handle.version {
        Version::V3 => "mqtt3",
        Version::V5 => "mqtt5",
    };
    [protocol, if handle.is_tls { "tls" } else { "tcp" }]
}

async fn establish_unless_closing(
    node: &Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    is_tls: bool,
) -> Result<(Connection, Arc<Handle>), Attempt> {
    let mut closing = node.closing.subscribe();
    tokio::select! {
        established = establish(node, stream, peer, is_tls) => established,
        _ = closing.wait_for(|is_closing| *is_closing) => Err(Attempt::Refused),
    }
}

async fn establish(
    node: &Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    is_tls: bool,
) -> Result<(Connection, Arc<Handle>), Attempt> {
    if !node.limiter().connect(peer.ip(), monotonic_us()) {
        return Err(Attempt::AddressLimit);
    }
    let (place, evicted) = node.unauthenticated.enter();
    node.metrics.unauthenticated.set(count(node.unauthenticated.len()));
    let first = async {
        let (mut socket, certificate) = secure(node, stream, is_tls).await?;
        let (packet, rest) = first_packet(node, &mut socket).await?;
        Ok((socket, certificate, packet, rest))
    };
    let (mut socket, certificate, packet, rest) = tokio::select! {
        first = first => first?,
        Ok(()) = evicted => return Err(Attempt::Silent),
    };
    drop(place);
    node.metrics.unauthenticated.set(count(node.unauthenticated.len()));
    let connect = match connect::read(&packet, node.options.payload.max_payload_bytes) {
        Ok(connect) => connect,
        Err((version, refused)) => {
            answer(node, &mut socket, version, refused).await;
            let is_mqtt = refused != Refused::NotMqtt;
            if is_mqtt {
                tell(node, peer, None, "", Some(logins::reason_of_refusal(refused)));
            }
            return Err(if is_mqtt { Attempt::Refused } else { Attempt::NotMqtt });
        }
    };
    let router = match authenticate(node, &connect, certificate.as_ref(), peer).await {
        Ok(router) => router,
        Err(error) => {
            answer(node, &mut socket, Some(connect.version), error.into()).await;
            return Err(match error {
                AuthError::BadCredentials | AuthError::NoCredentials => Attempt::BadCredentials,
                AuthError::Disabled => Attempt::Disabled,
                AuthError::Busy => Attempt::Busy,
            });
        }
    };
    admit(node, socket, connect, router, peer, rest).await
}

async fn secure(
    node: &Node,
    stream: TcpStream,
    is_tls: bool,
) -> Result<(Socket, Option<ClientCertificate>), Attempt> {
    let Some(tls) = node.tls.as_ref().filter(|_| is_tls) else {
        return Ok((Socket::Plain(stream), None));
    };
    let current = tls.current();
    let timeout = Duration::from_millis(node.options.listener.handshake_timeout_ms);
    let handshake = TlsAcceptor::from(Arc::clone(&current.config)).accept(stream);
    let stream = match tokio::time::timeout(timeout, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Err(Attempt::TlsFailed),
        Err(_elapsed) => return Err(Attempt::Silent),
    };
    let certificate = current.client_certificate(stream.get_ref().1);
    Ok((Socket::Tls(Box::new(stream)), certificate))
}

/// The first packet, and what came behind it.
async fn first_packet(node: &Node, socket: &mut Socket) -> Result<(Vec<u8>, Vec<u8>), Attempt> {
    let timeout = Duration::from_millis(node.options.listener.connect_timeout_ms);
    let read = async {
        let mut input = Vec::with_capacity(256);
        loop {
            let is_connect = input.first().is_none_or(|first| first >> 4 == packet::CONNECT);
            if !is_connect {
                return Err(Attempt::NotMqtt);
            }
            match frame::next_frame(&input, node.rules.max_packet_bytes) {
                Ok(Some(frame)) => {
                    let rest = input.split_off(frame.size);
                    return Ok((input, rest));
                }
                Ok(None) => {}
                Err(_) => return Err(Attempt::NotMqtt),
            }
            match socket.read_buf(&mut input).await {
                Ok(0) | Err(_) => return Err(Attempt::Silent),
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(Attempt::Silent))
}

async fn authenticate(
    node: &Node,
    connect: &Connect,
    certificate: Option<&ClientCertificate>,
    peer: SocketAddr,
) -> Result<Arc<Entry<schema::Router>>, AuthError> {
    if !node.limiter().may_fail(peer.ip(), monotonic_us()) {
        tell(node, peer, None, &connect.client_id, Some("too_many_failures"));
        return Err(AuthError::Busy);
    }
    let presented = Presented {
        user: connect.user.as_deref(),
        password: connect.password.as_deref(),
        client_id: &connect.client_id,
        certificate,
    };
    let checked = node.authenticator.check(presented).await;
    if let Err(error) = checked {
        let lookup = node.authenticator.lookup_key(presented);
        tell(node, peer, lookup, presented.client_id, Some(logins::reason_of(error)));
    }
    if matches!(checked, Err(AuthError::BadCredentials | AuthError::NoCredentials)) {
        node.limiter().failed(peer.ip(), monotonic_us());
    }
    node.metrics.verified_passwords.set(count(node.authenticator.verified_passwords()));
    checked
}

/// Tells who came in, or for what they were refused.
fn tell(
    node: &Node,
    peer: SocketAddr,
    lookup: Option<String>,
    client_id: &str,
    refused: Option<&'static str>,
) {
    let outcome = refused.map_or(LoginOutcome::Accepted, LoginOutcome::Refused);
    node.logins.tell(Login { peer: peer.ip(), lookup, client_id: client_id.to_owned(), outcome });
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Registers the session, and only then says that it is accepted.
async fn admit(
    node: &Arc<Node>,
    mut socket: Socket,
    connect: Connect,
    router: Arc<Entry<schema::Router>>,
    peer: SocketAddr,
    rest: Vec<u8>,
) -> Result<(Connection, Arc<Handle>), Attempt> {
    let version = connect.version;
    let limits = &node.options.session;
    let (client_id, is_assigned) = match connect.client_id.is_empty() {
        true => (assigned_client_id()?, true),
        false => (connect.client_id, false),
    };
    let keep_alive_s = keep_alive(version, connect.keep_alive_s, limits.max_keep_alive_s);
    let now = Node::now();
    let handle = Arc::new(Handle {
        number: node.registry.take_number(),
        router: Arc::clone(&router),
        client_id: client_id.into(),
        peer,
        version,
        is_tls: socket.is_tls(),
        connected_at: now.wall,
        publishes: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        telemetry_at: AtomicI64::new(0),
        silent_after_ms: AtomicI64::new(node.silent_after_ms(&router)),
        announced: AtomicU64::new(0),
        mailbox: Mailbox::new(),
    });
    let registered = Registered { node, handle: Some(Arc::clone(&handle)) };
    node.registry.insert(Arc::clone(&handle));
    // A change that came between the check and the registration has found
    // nobody to disconnect.
    let is_current = node.is_current(&router);
    let (true, Some(tenancy)) = (is_current, node.tenancy(router.tenant)) else {
        let lookup = Some(router.credentials.lookup_key());
        tell(node, peer, lookup, &handle.client_id, Some(logins::reason_of(AuthError::Disabled)));
        answer(node, &mut socket, Some(version), Refused::NotAuthorized).await;
        return Err(Attempt::Disabled);
    };
    let connected = Connected {
        version,
        identity: Identity {
            tenant: router.tenant,
            location: router.location,
            router: RouterId(router.id),
            device: router.device,
            partition: partition_of(router.tenant, router.location, node.journal.partitions()),
        },
        keep_alive_s,
        receive_maximum: connect.receive_maximum,
        topic_alias_maximum: connect.topic_alias_maximum,
        max_packet_bytes: connect.max_packet_bytes,
        wants_reason_strings: connect.wants_reason_strings,
        will: connect.will,
    };
    let keys = node.submitter.keys().cache(router.tenant, node.options.payload.max_cached_keys);
    let session = Session::new(Arc::clone(&node.rules), tenancy, connected, keys, now);
    let ack = connect::accept(
        version,
        &Accepted {
            limits,
            max_packet_bytes: node.rules.max_packet_bytes,
            assigned_client_id: is_assigned.then_some(&handle.client_id),
            keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
        },
    );
    write(node, &mut socket, &ack).await.map_err(|_| Attempt::Silent)?;
    registered.keep();
    tell(node, peer, Some(router.credentials.lookup_key()), &handle.client_id, None);
    node.ledger.connected(RouterId(router.id), now.wall);
    let connection = Connection::new(Arc::clone(node), Arc::clone(&handle), socket, session, rest);
    Ok((connection, handle))
}

/// Takes a connection out of the registry again unless it came to a session.
pub(super) struct Registered<'a> {
    pub(super) node: &'a Node,
    pub(super) handle: Option<Arc<Handle>>,
}

impl Registered<'_> {
    fn keep(mut self) {
        self.handle = None;
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.mailbox.close();
            self.node.registry.remove(&handle);
            // Who looked meanwhile has taken the router for connected.
            let router = RouterId(handle.router.id);
            self.node.ledger.look_again(router, Node::now().wall);
        }
    }
}

/// What is enforced: the client's, unless ours is shorter. MQTT 3.1.1 can't be
/// told, so there the client's word stands.
fn keep_alive(version: Version, client_s: u16, max_s: u16) -> u16 {
    match (version, max_s) {
        (Version::V3, _) | (Version::V5, 0) => client_s,
        (Version::V5, max_s) if client_s == 0 => max_s,
        (Version::V5, max_s) => client_s.min(max_s),
    }
}

fn assigned_client_id() -> Result<String, Attempt> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Attempt::Busy)?;
    Ok(format!("baken-{:032x}", u128::from_le_bytes(bytes)))
}

async fn answer(node: &Node, socket: &mut Socket, version: Option<Version>, refused: Refused) {
    // One that hangs up before its refusal arrives knows enough.
    let _ = write(node, socket, &connect::refuse(version, refused)).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.shutdown()).await;
}

async fn write(node: &Node, socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    let timeout = Duration::from_millis(node.options.listener.connect_timeout_ms);
    let write = async {
        socket.write_all(bytes).await?;
        socket.flush().await
    };
    tokio::time::timeout(timeout, write).await.map_err(|_| io::ErrorKind::TimedOut)??;
    node.metrics.bytes_out.inc_by(bytes.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_keep_alive_holds_where_it_can_be_told() {
        assert_eq!(keep_alive(Version::V5, 60, 0), 60);
        assert_eq!(keep_alive(Version::V5, 600, 300), 300);
        assert_eq!(keep_alive(Version::V5, 0, 300), 300);
        assert_eq!(keep_alive(Version::V5, 60, 300), 60);
        assert_eq!(keep_alive(Version::V3, 600, 300), 600);
    }

    /// The size of the future that a connection is while it lives.
    fn size_of_future<F: Future>(
        _: fn(Arc<Node>, TcpStream, SocketAddr, bool, OwnedSemaphorePermit) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let task = size_of_future(|node, stream, peer, is_tls, permit| {
            serve(node, stream, peer, is_tls, permit)
        });
        let handle = size_of::<Handle>();
        assert!(task <= 2_560, "the task takes {task} bytes");
        assert!(handle <= 512, "its handle takes {handle} bytes");
        println_sizes(task, handle);
    }

    #[allow(clippy::print_stdout, reason = "seen with --nocapture")]
    fn println_sizes(task: usize, handle: usize) {
        let (connection, session) = (size_of::<Connection>(), size_of::<Session>());
        println!("task {task}, connection {connection}, session {session}, handle {handle} bytes");
    }
}
