//! The double of a platform, as the process that it is: what it takes it counts,
//! acknowledges and compares with the plan.

use std::path::Path;
use std::sync::Arc;

use loadtest::connect::{Login, Target, Tls, connect};
use loadtest::forwarding::{Ask, HubProcess, Tally};
use loadtest::packets::{self, QoS, Version};
use loadtest::swing::Swing;
use loadtest::values;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BASE_MS: i64 = 1_764_000_000_000;

fn target(hub: &HubProcess, with_certificate: bool) -> Target {
    let address = hub.address();
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&address.ca)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if with_certificate {
        let key = PrivateKeyDer::from_pem_slice(address.private_key.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![certificate(&address.certificate)], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let server_name = ServerName::try_from("localhost").unwrap();
    let address = ([127, 0, 0, 1], address.port).into();
    Target::new(address, Some(Tls { config: Arc::new(config), server_name }))
}

fn login() -> Login {
    Login {
        version: Version::V311,
        client_id: "site-1".to_owned(),
        user: None,
        password: None,
        keep_alive_s: 60,
    }
}

/// A publish as a forwarder makes it, of the boolean `k3`.
fn publish(number: u64, packet_id: u16, out: &mut Vec<u8>) {
    let sample = Swing::default().sample(values::series(7, 0, false), 3, number);
    let value = sample == values::Sample::Boolean(true);
    let ts = BASE_MS + number.cast_signed();
    let body =
        format!(r#"{{"device":"router-000007","id":"x","ts":{ts},"values":{{"k3":{value}}}}}"#);
    let (qos, topic) = (QoS::AtLeastOnce, "baken/location-7/router-000007");
    let at = packets::publish_head(Version::V311, qos, topic, body.len(), out).unwrap();
    out[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(body.as_bytes());
}

#[tokio::test]
async fn what_the_double_takes_it_counts_and_acknowledges() {
    let mut hub = HubProcess::start(Path::new(env!("CARGO_BIN_EXE_loadtest"))).await.unwrap();
    hub.ask(Ask::Begin { base_ms: BASE_MS, selected_keys: 1 }).await.unwrap();
    let mut stream = connect(&target(&hub, true), 0, &login()).await.unwrap().stream;
    let mut bytes = Vec::new();
    for (packet_id, number) in [(1, 0), (2, 1), (3, 3), (4, 1)] {
        publish(number, packet_id, &mut bytes);
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut acknowledged = [0; 16];
    stream.read_exact(&mut acknowledged).await.unwrap();
    let wanted: Vec<u8> = (1..=4).flat_map(|packet_id| [0x40, 2, 0, packet_id]).collect();
    assert_eq!(acknowledged[..], wanted);
    let tally = hub.ask(Ask::Tally).await.unwrap();
    let connections = Tally { connected: 1, connects: 1, ..Tally::default() };
    let counted = Tally { messages: 3, values: 3, doubled: 1, skipped: 1, ..connections };
    assert_eq!(tally, counted);

    // A hundred a second and connection: what is over is not acknowledged.
    hub.ask(Ask::Begin { base_ms: BASE_MS, selected_keys: 1 }).await.unwrap();
    bytes.clear();
    for number in 0..200 {
        publish(number, u16::try_from(number + 5).unwrap(), &mut bytes);
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut answers = vec![0; 4 * 96];
    stream.read_exact(&mut answers).await.unwrap();
    let tally = hub.ask(Ask::Tally).await.unwrap();
    assert!(tally.discarded >= 1 && tally.messages >= 96, "{tally:?}");
    assert_eq!(tally.wrong, 0);
    drop(stream);
    hub.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_nobody_is_let_in() {
    let mut hub = HubProcess::start(Path::new(env!("CARGO_BIN_EXE_loadtest"))).await.unwrap();
    assert!(connect(&target(&hub, false), 0, &login()).await.is_err());
    assert_eq!(hub.ask(Ask::Tally).await.unwrap(), Tally::default());
    hub.stop().await.unwrap();
}
