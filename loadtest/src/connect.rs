//! Opens a connection as a router does: TCP, TLS where asked, CONNECT, CONNACK.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::packets::{Connect, Packet, Version, parse};

/// How long a connection may take to be accepted.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the fleet connects to.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// More addresses of the same service; which one it is to be follows from
    /// the connection's number.
    pub others: Vec<SocketAddr>,
    pub tls: Option<Tls>,
    /// Source addresses taken in turns by connection number: one address has
    /// about 28,000 ports. Empty lets the system choose.
    pub sources: Vec<IpAddr>,
}

impl Target {
    /// A service with one address.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self { address, others: Vec::new(), tls, sources: Vec::new() }
    }

    fn address(&self, number: u32) -> SocketAddr {
        match number as usize % (self.others.len() + 1) {
            0 => self.address,
            place => self.others[place - 1],
        }
    }
}

/// What the server's certificate is checked against.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

/// Who a connection is.
#[derive(Clone, Debug)]
pub struct Login {
    pub version: Version,
    pub client_id: String,
    /// The access token, as ThingsBoard has it in the user name.
    pub user: Option<String>,
    pub password: Option<String>,
    pub keep_alive_s: u16,
}

/// A connection that the server has accepted.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    /// How many publishes at QoS 1 the server takes at once.
    pub receive_maximum: u16,
    /// Bytes of the largest packet that the server takes, if it said so.
    pub maximum_packet_size: Option<u32>,
    /// Bytes that came behind the CONNACK.
    pub rest: Vec<u8>,
}

/// Why a connection didn't come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection before its CONNACK")]
    Closed,
    #[error("the server refused the connection with code {code:#04x}")]
    Refused { code: u8 },
    #[error("the server's first packet is no CONNACK")]
    NoConnAck,
    #[error("no CONNACK within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

impl ConnectError {
    /// Whether the server will say the same again soon: it doesn't want this
    /// client, and isn't only busy (3 and 0x88: unavailable, 0x89: busy).
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Refused { code } if !matches!(code, 3 | 0x88 | 0x89))
    }
}

/// Trusts exactly the certificates of a PEM file.
///
/// # Errors
/// If the file can't be read or holds no certificate that can be trusted.
pub fn tls_from_ca(ca: &Path, server_name: &str) -> anyhow::Result<Tls> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Tls { config: Arc::new(config), server_name: ServerName::try_from(server_name.to_owned())? })
}

/// Connects and waits for the server's answer.
///
/// # Errors
/// [`ConnectError`] if the server isn't there, doesn't answer or says no.
pub async fn connect(
    target: &Target,
    number: u32,
    login: &Login,
) -> Result<Accepted, ConnectError> {
    tokio::time::timeout(CONNECT_TIMEOUT, async {
        let stream = open(target, number).await?;
        greet(stream, login).await
    })
    .await
    .map_err(|_| ConnectError::Timeout)?
}

/// Opens the stream alone, with no MQTT in it yet.
///
/// # Errors
/// If the server can't be reached or its certificate isn't trusted.
pub async fn open(target: &Target, number: u32) -> io::Result<Stream> {
    let address = target.address(number);
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if !target.sources.is_empty() {
        let source = target.sources[number as usize % target.sources.len()];
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    match &target.tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            let stream = connector.connect(tls.server_name.clone(), stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }
}

async fn greet(mut stream: Stream, login: &Login) -> Result<Accepted, ConnectError> {
    let mut hello = Vec::new();
    let connect = Connect {
        version: login.version,
        client_id: &login.client_id,
        user: login.user.as_deref(),
        password: login.password.as_deref(),
        keep_alive_s: login.keep_alive_s,
    };
    connect.append(&mut hello);
    stream.write_all(&hello).await?;
    stream.flush().await?;

    let mut bytes = Vec::with_capacity(64);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ConnectError::Closed);
        }
        match parse(login.version, &bytes) {
            Ok(None) => {}
            Ok(Some((
                Packet::ConnAck { code: 0, receive_maximum, maximum_packet_size },
                length,
            ))) => {
                let rest = bytes.split_off(length);
                return Ok(Accepted { stream, receive_maximum, maximum_packet_size, rest });
            }
            Ok(Some((Packet::ConnAck { code, .. }, _))) => {
                return Err(ConnectError::Refused { code });
            }
            Ok(Some(_)) | Err(_) => return Err(ConnectError::NoConnAck),
        }
    }
}

/// A stream, plain or TLS.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
