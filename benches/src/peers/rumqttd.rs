//! `rumqttd` embedded in a process of its own, with a consumer in that process,
//! so that its processor time is the broker's and the consumer's alone.
//!
//! Parent and helper talk by lines: for each line that the helper reads it
//! writes how many messages its consumer has taken. It ends with its input.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use loadtest::template::DEVICE_TOPIC;
use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The settings of the `rumqttd.toml` that comes with it.
fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "v4-1".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    Config {
        router: RouterConfig {
            max_connections: 10_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 104_857_600,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("1".to_owned(), server)])),
        ..Config::default()
    }
}

/// Runs the broker and its consumer until standard input ends.
pub fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let mut broker = Broker::new(config(listen));
    let (mut subscriber, mut messages) = broker.link("consumer")?;
    subscriber.subscribe(DEVICE_TOPIC)?;
    let consumed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&consumed);
    std::thread::spawn(move || -> anyhow::Result<()> {
        loop {
            match messages.recv()? {
                Some(Notification::Forward(_)) => {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                // The router has gone to sleep on us until it is told.
                Some(Notification::Unschedule) => messages.ready()?,
                _ => {}
            }
        }
    });
    std::thread::spawn(move || {
        // The parent sees it as a broker that takes no connections.
        if let Err(error) = broker.start() {
            eprintln!("rumqttd: {error}");
        }
    });
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", consumed.load(Ordering::Relaxed))?;
        out.flush()?;
    }
    Ok(())
}

/// The helper process, as its parent has it.
pub struct Helper {
    child: Child,
    ask: ChildStdin,
    answers: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["rumqttd-broker", &listen.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let ask = child.stdin.take().context("its input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        Ok(Self { child, ask, answers })
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How many messages the consumer has taken.
    pub async fn consumed(&mut self) -> anyhow::Result<u64> {
        self.ask.write_all(b"\n").await?;
        let line = self.answers.next_line().await?.context("the helper ended")?;
        Ok(line.parse()?)
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
