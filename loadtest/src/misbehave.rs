//! Clients that do what none should, beside the load: the others must not feel
//! them. What they send is no part of the audit.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::connect::{Login, Stream, Target, connect, open};
use crate::packets::{self, QoS, Version};
use crate::shared::{count, counted};
use crate::template::DEVICE_TOPIC;

/// Between two misdeeds of one client.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one waits for the server to throw it out before it leaves itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of an oversized payload: sixteen times the default limit.
const OVERSIZED_BYTES: usize = 1024 * 1024;

const MALFORMED: [&str; 8] = [
    "{",
    "{\"ts\":\"x\",\"values\":{}}",
    "[1,2,3]",
    "\"text\"",
    "{\"a\":}",
    "{\"ts\":1,\"values\":[]}",
    "{\"a\":1e999}",
    "\u{0}\u{1}",
];

/// What a client does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Publishes payloads that are not telemetry.
    Malformed,
    /// Publishes payloads far over the limit.
    Oversized,
    /// Asks for answers and never reads them.
    SlowReader,
    /// Sends random bytes that are no MQTT.
    Garbage,
    /// Connects and says nothing.
    Silent,
}

/// What came of it.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    thrown_out: AtomicU64,
    not_let_in: AtomicU64,
}

/// The clients of a run that misbehave.
#[derive(Debug)]
pub struct Misbehaving {
    clients: JoinSet<()>,
    counts: Arc<Counts>,
}

/// What the misbehaving clients did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MisbehaviourReport {
    /// Messages, requests or connections of the wrong kind.
    pub sent: u64,
    /// Times that the server closed the connection.
    pub thrown_out: u64,
    /// Times that the server didn't accept a new connection.
    pub not_let_in: u64,
}

impl Misbehaving {
    /// Starts a client for each login and misdeed.
    #[must_use]
    pub fn start(target: &Target, clients: Vec<(Misdeed, Login)>, seed: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for (number, (misdeed, login)) in (0..).zip(clients) {
            let client = Client {
                target: target.clone(),
                number,
                login,
                counts: Arc::clone(&counts),
                random: StdRng::seed_from_u64(seed ^ u64::from(number)),
            };
            tasks.spawn(client.run(misdeed));
        }
        Self { clients: tasks, counts }
    }

    /// Ends them all.
    pub async fn stop(mut self) -> MisbehaviourReport {
        self.clients.shutdown().await;
        MisbehaviourReport {
            sent: counted(&self.counts.sent),
            thrown_out: counted(&self.counts.thrown_out),
            not_let_in: counted(&self.counts.not_let_in),
        }
    }
}

struct Client {
    target: Target,
    number: u32,
    login: Login,
    counts: Arc<Counts>,
    random: StdRng,
}

impl Client {
    async fn run(mut self, misdeed: Misdeed) {
        loop {
            let done = match misdeed {
                Misdeed::Malformed => self.malformed().await,
                Misdeed::Oversized => self.oversized().await,
                Misdeed::SlowReader => self.slow_reader().await,
                Misdeed::Garbage => self.garbage().await,
                Misdeed::Silent => self.silent().await,
            };
            if done.is_none() {
                count(&self.counts.not_let_in, 1);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn malformed(&mut self) -> Option<()> {
        let mut stream = self.greeted().await?;
        loop {
            let payload = MALFORMED[self.random.random_range(0..MALFORMED.len())];
            let bytes = publish(self.login.version, payload.as_bytes());
            count(&self.counts.sent, 1);
            let mut answer = [0; 64];
            let answered = async {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                stream.read(&mut answer).await
            };
            if answered.await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(PAUSE).await;
            } else {
                count(&self.counts.thrown_out, 1);
                return Some(());
            }
        }
    }

    async fn oversized(&mut self) -> Option<()> {
        let mut stream = self.greeted().await?;
        let bytes = publish(self.login.version, &vec![b' '; OVERSIZED_BYTES]);
        count(&self.counts.sent, 1);
        // The server may close while this is being written.
        let _ = stream.write_all(&bytes).await;
        self.await_the_end(&mut stream).await;
        Some(())
    }

    async fn slow_reader(&mut self) -> Option<()> {
        let mut stream = self.greeted().await?;
        let mut bytes = Vec::new();
        let filter = "v1/devices/me/attributes/response/+";
        packets::append_subscribe(self.login.version, filter, QoS::AtMostOnce, &mut bytes);
        let ask = br#"{"clientKeys":"a,b","sharedKeys":"c,d"}"#;
        loop {
            for _ in 0..100 {
                let topic = "v1/devices/me/attributes/request/1";
                let version = self.login.version;
                packets::publish_head(version, QoS::AtMostOnce, topic, ask.len(), &mut bytes);
                bytes.extend_from_slice(ask);
            }
            count(&self.counts.sent, 100);
            // Stands still once both directions are full, as it should.
            if stream.write_all(&bytes).await.is_err() {
                count(&self.counts.thrown_out, 1);
                return Some(());
            }
            bytes.clear();
        }
    }

    async fn garbage(&mut self) -> Option<()> {
        let mut stream = open(&self.target, self.number).await.ok()?;
        let mut bytes = vec![0; self.random.random_range(1..2_000)];
        self.random.fill_bytes(&mut bytes);
        count(&self.counts.sent, 1);
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        self.await_the_end(&mut stream).await;
        Some(())
    }

    async fn silent(&mut self) -> Option<()> {
        let mut stream = open(&self.target, self.number).await.ok()?;
        count(&self.counts.sent, 1);
        self.await_the_end(&mut stream).await;
        Some(())
    }

    async fn greeted(&self) -> Option<Stream> {
        Some(connect(&self.target, self.number, &self.login).await.ok()?.stream)
    }

    async fn await_the_end(&self, stream: &mut Stream) {
        let end = async {
            let mut bytes = [0; 1024];
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        if tokio::time::timeout(PATIENCE, end).await.is_ok() {
            count(&self.counts.thrown_out, 1);
        }
    }
}

fn publish(version: Version, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 64);
    let id_at =
        packets::publish_head(version, QoS::AtLeastOnce, DEVICE_TOPIC, payload.len(), &mut bytes);
    if let Some(at) = id_at {
        bytes[at..at + 2].copy_from_slice(&1u16.to_be_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes
}
