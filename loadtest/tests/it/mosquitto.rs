//! A mosquitto of a test's own, and a subscriber that sees all it is given.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use loadtest::connect::{Login, Target, Tls, connect, tls_from_ca};
use loadtest::packets::{self, Packet, QoS, Version};
use loadtest::plan::Plan;
use loadtest::swing::Swing;
use schema::TimestampMs;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Generous: only a test that has failed already waits for so long.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Mosquitto {
    folder: TempDir,
    address: SocketAddr,
    tls: bool,
    child: Option<Child>,
}

impl Mosquitto {
    pub async fn start(tls: bool) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
             max_queued_messages 0\nuser root\n",
            address.port()
        );
        if tls {
            let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            std::fs::write(path("certificate.pem"), made.cert.pem()).unwrap();
            std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
            text += &format!("certfile {}\nkeyfile {}\n", path("certificate.pem"), path("key.pem"));
        }
        std::fs::write(path("mosquitto.conf"), text).unwrap();
        let mut broker = Self { folder, address, tls, child: None };
        broker.start_again().await;
        broker
    }

    pub async fn start_again(&mut self) {
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
            .expect("mosquitto must be installed for this test");
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto can be started");
        self.child = Some(child);
        let login = login("first", Version::V311);
        let up = async {
            while connect(&self.target(), 0, &login).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, up).await.expect("mosquitto takes connections");
    }

    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    pub fn target(&self) -> Target {
        let tls: Option<Tls> = self.tls.then(|| {
            tls_from_ca(&self.folder.path().join("certificate.pem"), "127.0.0.1").unwrap()
        });
        Target::new(self.address, tls)
    }
}

pub fn login(client_id: &str, version: Version) -> Login {
    Login {
        version,
        client_id: client_id.to_owned(),
        user: Some("token".to_owned()),
        password: None,
        keep_alive_s: 30,
    }
}

pub fn logins(count: u32, version: Version) -> Vec<Login> {
    (0..count).map(|number| login(&format!("router-{number}"), version)).collect()
}

pub fn plan() -> Plan {
    Plan {
        live_base: TimestampMs(1_764_000_000_000),
        buffered_base: TimestampMs(1_763_000_000_000),
        keys: 5,
        times_per_message: 1,
        devices_behind: 2,
        buffered_every: 10,
        times_per_batch: 4,
        swing: Swing::default(),
    }
}

/// Payloads of all messages that a subscriber was given, once there are enough.
pub struct Subscriber {
    payloads: JoinHandle<Vec<Vec<u8>>>,
}

impl Subscriber {
    /// Subscribes to everything and gathers until `count` messages are there.
    pub async fn start(broker: &Mosquitto, count: u64) -> Self {
        let login = login("subscriber", Version::V311);
        let accepted = connect(&broker.target(), 0, &login).await.unwrap();
        let (subscribed, ready) = oneshot::channel();
        let payloads = tokio::spawn(gather(accepted.stream, count, subscribed));
        ready.await.unwrap();
        Self { payloads }
    }

    pub async fn payloads(self) -> Vec<Vec<u8>> {
        let payloads = tokio::time::timeout(DEADLINE, self.payloads).await;
        payloads.expect("all messages come through").unwrap()
    }
}

async fn gather(
    mut stream: loadtest::connect::Stream,
    count: u64,
    subscribed: oneshot::Sender<()>,
) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    packets::append_subscribe(Version::V311, "#", QoS::AtLeastOnce, &mut out);
    let (mut input, mut payloads, mut subscribed) = (Vec::new(), Vec::new(), Some(subscribed));
    while (payloads.len() as u64) < count {
        stream.write_all(&out).await.unwrap();
        out.clear();
        assert!(stream.read_buf(&mut input).await.unwrap() > 0, "mosquitto closed");
        let mut at = 0;
        while let Some((packet, length)) = packets::parse(Version::V311, &input[at..]).unwrap() {
            at += length;
            match packet {
                Packet::SubAck { .. } => subscribed.take().unwrap().send(()).unwrap(),
                Packet::Publish { packet_id, payload, .. } => {
                    packet_id.inspect(|&id| packets::append_puback(id, &mut out));
                    payloads.push(payload.to_vec());
                }
                other => panic!("{other:?}"),
            }
        }
        input.drain(..at);
    }
    payloads
}
