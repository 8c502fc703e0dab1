//! MQTT over TLS, and certificates that change under a running node.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::harness::{Baken, serve, text, until};

/// A new certificate in the folder; its DER form.
fn certificate(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    cert.der().clone()
}

/// The certificate that the server shows to who trusts these.
async fn shown(address: &str, trusted: &[CertificateDer<'static>]) -> CertificateDer<'static> {
    server::install_crypto();
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_new_certificate_is_taken_at_sighup_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = certificate(dir.path());
    let cert = format!("mqtt.tls.cert={}", dir.path().join("cert.pem").display());
    let key = format!("mqtt.tls.key={}", dir.path().join("key.pem").display());
    let args = ["--set", "mqtt.tls.listen=127.0.0.1:0", "--set", &cert, "--set", &key];
    let baken = Baken::start_with(&args).await;
    let address = baken.run.mqtt_tls.clone().unwrap();
    assert_eq!(shown(&address, std::slice::from_ref(&first)).await, first);

    let second = certificate(dir.path());
    let both = [first, second.clone()];
    baken.signal(Signal::HUP);
    until("the new certificate", async || (shown(&address, &both).await == second).then_some(()))
        .await;

    std::fs::write(dir.path().join("cert.pem"), "broken").unwrap();
    baken.signal(Signal::HUP);
    until("a line on the broken certificate", async || {
        baken.log().await.contains("the TLS certificates cannot be read").then_some(())
    })
    .await;
    assert_eq!(shown(&address, &both).await, second);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(&dir.path().join("data"))
        .args(["--set", "mqtt.tls.listen=127.0.0.1:0"])
        .args(["--set", "mqtt.tls.cert=/nowhere/cert.pem"])
        .args(["--set", "mqtt.tls.key=/nowhere/key.pem"])
        .output()
        .await
        .unwrap();
    assert_eq!(served.status.code(), Some(1));
    let error = text(&served.stderr);
    assert!(error.contains("/nowhere/"), "{error}");
}
