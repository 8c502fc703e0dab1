//! A real mosquitto with one subscriber that takes all messages.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use loadtest::connect::{Stream, Target, connect};
use loadtest::enrol;
use loadtest::packets::{self, Packet, QoS, Version};
use loadtest::template::DEVICE_TOPIC;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PROGRAMS: [&str; 3] =
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
const INPUT_BYTES: usize = 256 * 1024;

/// Starts mosquitto without any limit that would make it drop or slow messages.
pub fn start(address: SocketAddr) -> anyhow::Result<(Child, TempDir)> {
    let program = PROGRAMS
        .into_iter()
        .find(|program| Path::new(program).exists())
        .context("mosquitto isn't installed")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {} {}\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\n\
         max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\npersistence false\n",
        address.port(),
        address.ip()
    );
    std::fs::write(&file, text)?;
    let child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, folder))
}

/// Takes every message and counts it.
pub struct Subscriber {
    received: Arc<AtomicU64>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Subscriber {
    pub async fn start(target: &Target, qos: QoS) -> anyhow::Result<Self> {
        let mut login = enrol::anonymous(1, Version::V311, 60).remove(0);
        "subscriber".clone_into(&mut login.client_id);
        let accepted = connect(target, 0, &login).await?;
        let received = Arc::new(AtomicU64::new(0));
        let (subscribed, ready) = oneshot::channel();
        let task = tokio::spawn(take(accepted.stream, qos, Arc::clone(&received), subscribed));
        tokio::time::timeout(Duration::from_secs(10), ready)
            .await
            .context("no SUBACK")?
            .context("the subscriber ended")?;
        Ok(Self { received, task })
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    mut stream: Stream,
    qos: QoS,
    received: Arc<AtomicU64>,
    subscribed: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let (mut out, mut subscribed) = (Vec::new(), Some(subscribed));
    packets::append_subscribe(Version::V311, DEVICE_TOPIC, qos, &mut out);
    let (mut input, mut filled) = (vec![0; INPUT_BYTES], 0);
    loop {
        stream.write_all(&out).await?;
        out.clear();
        let read = stream.read(&mut input[filled..]).await?;
        if read == 0 {
            bail!("mosquitto closed the subscriber's connection");
        }
        filled += read;
        let (mut at, mut messages) = (0, 0);
        while let Some((packet, length)) = packets::parse(Version::V311, &input[at..filled])? {
            at += length;
            match packet {
                Packet::SubAck { .. } => {
                    subscribed.take().map(|subscribed| subscribed.send(()));
                }
                Packet::Publish { packet_id, .. } => {
                    packet_id.inspect(|&id| packets::append_puback(id, &mut out));
                    messages += 1;
                }
                _ => {}
            }
        }
        input.copy_within(at..filled, 0);
        filled -= at;
        received.fetch_add(messages, Ordering::Relaxed);
    }
}
