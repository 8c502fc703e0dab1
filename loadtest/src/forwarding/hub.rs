//! The double of AWS IoT Core: MQTT over TLS with client certificates, which
//! acknowledges each publish at QoS 1 and discards, without a word, what goes over
//! 100 a second of a connection. It runs as `loadtest hub`, a process of its own
//! that is asked by its standard input and answers by its standard output.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::frames::{self, Frame};
use super::process::{Address, Ask};
use super::tally::Taken;
use crate::packets::append_puback;

/// What AWS takes of a connection.
const PUBLISHES_PER_S: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
/// A read that brings nothing whole is followed by the next.
const INPUT_BYTES: usize = 16 << 10;
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];

type Shared = Arc<Mutex<Taken>>;

/// Serves until the standard input ends.
///
/// # Errors
/// If no port is free or the asking process is gone.
pub async fn serve() -> anyhow::Result<()> {
    // It is an error only if the process has one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (config, address) = identities(listener.local_addr()?.port())?;
    let taken: Shared = Arc::new(Mutex::new(Taken::new(0, 0)));
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(config), Arc::clone(&taken)));
    let answered = tokio::task::spawn_blocking(move || answer(&address, &taken)).await?;
    accepting.abort();
    answered
}

/// Says where the double is, then answers what is asked, a line of JSON each.
fn answer(address: &Address, taken: &Shared) -> anyhow::Result<()> {
    let mut answers = std::io::stdout();
    writeln!(answers, "{}", serde_json::to_string(address)?)?;
    for line in std::io::stdin().lines() {
        let ask = serde_json::from_str(&line?).context("a question of another form")?;
        if let Ask::Begin { base_ms, selected_keys } = ask {
            lock(taken).begin(base_ms, selected_keys);
        }
        let tally = lock(taken).tally;
        writeln!(answers, "{}", serde_json::to_string(&tally)?)?;
    }
    Ok(())
}

/// An authority of this process' own, and what it has signed: the server's
/// certificate and the one that all clients show.
fn identities(port: u16) -> anyhow::Result<(Arc<ServerConfig>, Address)> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "loadtest");
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);

    let server_key = KeyPair::generate()?;
    let server =
        CertificateParams::new(["localhost".to_owned()])?.signed_by(&server_key, &issuer)?;
    let client_key = KeyPair::generate()?;
    let client = CertificateParams::default().signed_by(&client_key, &issuer)?;

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)?;
    let address = Address {
        port,
        ca: authority.pem(),
        certificate: client.pem(),
        private_key: client_key.serialize_pem(),
    };
    Ok((Arc::new(config), address))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, taken: Shared) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (acceptor, taken) = (acceptor.clone(), Arc::clone(&taken));
        tokio::spawn(async move {
            let mut is_up = false;
            // How a connection ends is the forwarder's to tell.
            let _ = session(socket, &acceptor, &taken, &mut is_up).await;
            if is_up {
                lock(&taken).tally.connected -= 1;
            }
        });
    }
}

async fn session(
    socket: TcpStream,
    acceptor: &TlsAcceptor,
    taken: &Shared,
    is_up: &mut bool,
) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = acceptor.accept(socket).await?;
    let mut input = Vec::with_capacity(INPUT_BYTES);
    let mut output = Vec::new();
    let mut rate = Rate::default();
    while stream.read_buf(&mut input).await? > 0 {
        let mut read = 0;
        let mut is_over = false;
        {
            let mut taken = lock(taken);
            while let Some((frame, length)) = frames::first(&input[read..])? {
                read += length;
                match frame {
                    Frame::Connect => {
                        taken.tally.connected += 1;
                        taken.tally.connects += 1;
                        *is_up = true;
                        output.extend_from_slice(&CONNACK);
                    }
                    Frame::Publish { packet_id, body } => {
                        if rate.is_over(Instant::now()) {
                            taken.tally.discarded += 1;
                        } else {
                            taken.take(body);
                            append_puback(packet_id, &mut output);
                        }
                    }
                    Frame::Ping => output.extend_from_slice(&PINGRESP),
                    Frame::Disconnect => is_over = true,
                }
            }
        }
        if is_over {
            return Ok(());
        }
        input.drain(..read);
        stream.write_all(&output).await?;
        stream.flush().await?;
        output.clear();
    }
    Ok(())
}

/// The publishes of one connection within a second.
#[derive(Debug, Default)]
struct Rate(VecDeque<Instant>);

impl Rate {
    /// Counts one more; whether it is too many.
    fn is_over(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= SECOND) {
            self.0.pop_front();
        }
        if self.0.len() >= PUBLISHES_PER_S {
            return true;
        }
        self.0.push_back(now);
        false
    }
}

fn lock(taken: &Shared) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_a_hundred_within_a_second_is_too_much() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let over = (0..150).filter(|_| rate.is_over(start)).count();
        assert_eq!(over, 50);
        assert!(rate.is_over(start + Duration::from_millis(999)));
        assert!(!rate.is_over(start + SECOND));
    }
}
