//! TLS: versions, client certificates, reloading, half-open handshakes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ingest::broker::{ListenerLimits, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Client, Hello};
use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn issue(issuer: &Issuer, name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write_server(dir: &Path, issuer: &Issuer) {
    let (certificate, key) = issue(issuer, "server");
    fs::write(dir.join("key.pem"), key).unwrap();
    fs::write(dir.join("certificate.pem"), certificate).unwrap();
}

struct Secure {
    node: Node,
    server_ca: Issuer,
    client_ca: Issuer,
    dir: TempDir,
}

async fn secure(listener: ListenerLimits) -> Secure {
    let dir = TempDir::new().unwrap();
    let (server_ca, client_ca) = (authority("servers"), authority("clients"));
    write_server(dir.path(), &server_ca);
    fs::write(dir.path().join("ca.pem"), client_ca.pem()).unwrap();
    let mut setup = Setup::new();
    setup.options.listener = listener;
    setup.options.tls = vec!["127.0.0.1:0".parse().unwrap()];
    setup.options.tls_files = Some(TlsFiles {
        certificate: dir.path().join("certificate.pem"),
        key: dir.path().join("key.pem"),
        client_ca: Some(dir.path().join("ca.pem")),
    });
    Secure { node: setup.start().await, server_ca, client_ca, dir }
}

impl Secure {
    fn address(&self) -> SocketAddr {
        self.node.broker.tls_addresses()[0]
    }

    async fn open(
        &self,
        trusted: &Issuer,
        version: &'static rustls::SupportedProtocolVersion,
        identity: Option<&(String, String)>,
    ) -> std::io::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Client::over(stream))
    }
}

const NOBODY: Hello<'static> =
    Hello { is_v5: false, id: "c", user: None, password: None, keep_alive_s: 60, will: None };

#[tokio::test]
async fn both_versions_of_tls_carry_readings() {
    let secure = secure(ListenerLimits::default()).await;
    secure.node.token_router("r1").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = secure.open(&secure.server_ca, version, None).await.unwrap();
        assert_eq!(client.hello(&Hello::token("r1")).await, [0, 0]);
        for _ in 0..3 {
            assert_eq!(client.acknowledged("v2/t", r#"{"a":1}"#).await, 0);
        }
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000));
        assert_eq!(client.acknowledged("v2/t", &large).await, 0);
    }
    let sessions = secure.node.counter("baken_broker_connects_total", "accepted");
    assert_eq!(sessions, 2);
}

#[tokio::test]
async fn a_client_certificate_is_known_by_fingerprint_or_by_the_name_our_ca_signed() {
    let secure = secure(ListenerLimits::default()).await;
    let ours = issue(&secure.client_ca, "router-7");
    let forged = issue(&authority("somebody"), "router-7");
    let pinned = issue(&authority("somebody"), "whoever");
    let der = CertificateDer::from_pem_slice(pinned.0.as_bytes()).unwrap();
    let sha256 = ingest::auth::fingerprint(&der);
    let common_name = "router-7".to_owned();
    secure.node.router("by-name", Credentials::CommonName { common_name }).await;
    secure.node.router("by-print", Credentials::Fingerprint { sha256 }).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (identity, code) in
            [(Some(&ours), 0), (Some(&pinned), 0), (Some(&forged), 5), (None, 5)]
        {
            let mut client = secure.open(&secure.server_ca, version, identity).await.unwrap();
            assert_eq!(client.hello(&NOBODY).await, [0, code]);
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let limits = ListenerLimits { tls_reload_interval_ms: 20, ..ListenerLimits::default() };
    let secure = secure(limits).await;
    secure.node.token_router("r1").await;
    let tls13 = &rustls::version::TLS13;
    let mut before = secure.open(&secure.server_ca, tls13, None).await.unwrap();
    assert_eq!(before.hello(&Hello::token("r1")).await, [0, 0]);
    fs::write(secure.dir.path().join("certificate.pem"), "broken").unwrap();
    assert!(secure.node.broker.reload_tls().is_err());
    assert!(secure.open(&secure.server_ca, tls13, None).await.is_ok(), "the former one stays");
    let renewed = authority("renewed");
    write_server(secure.dir.path(), &renewed);
    let begun = Instant::now();
    while secure.open(&renewed, tls13, None).await.is_err() {
        assert!(begun.elapsed() < DEADLINE, "the files are never read again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    before.ping().await;
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_and_harm_nobody() {
    let limits = ListenerLimits { max_unauthenticated: 20, ..ListenerLimits::default() };
    let secure = secure(limits).await;
    secure.node.token_router("r1").await;
    let mut half_open = Vec::new();
    for number in 0..100 {
        let mut client = Client::open(secure.address()).await;
        if number % 2 == 0 {
            // The beginning of a ClientHello.
            client.try_send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
        }
        half_open.push(client);
    }
    until("the oldest are closed", || {
        secure.node.counter("baken_broker_connects_total", "silent") == 80
    })
    .await;
    assert_eq!(secure.node.counter("baken_broker_unauthenticated_connections", ""), 20);
    let tls13 = &rustls::version::TLS13;
    let mut client = secure.open(&secure.server_ca, tls13, None).await.unwrap();
    assert_eq!(client.hello(&Hello::token("r1")).await, [0, 0]);
    assert_eq!(client.acknowledged("v2/t", r#"{"a":1}"#).await, 0);
}
