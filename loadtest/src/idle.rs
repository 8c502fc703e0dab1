//! `loadtest idle`: connections that do nothing, and what each costs the server.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use schema::TimestampMs;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::connect::{Login, Target, connect};
use crate::course::{CONNECT_DEADLINE, interrupted};
use crate::enrol::{self, Enrolled};
use crate::fleet::DOORS;
use crate::options::IdleOptions;
use crate::packets::PINGREQ;
use crate::plan::Plan;
use crate::shared::{count, counted};
use crate::subject::Subject;
use crate::swing::Swing;
use crate::usage;

/// What the server is told; a ping comes after half of it.
const KEEP_ALIVE_S: u16 = 600;
/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);
const LOCATIONS: u32 = 16;

/// What idle connections cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IdleReport {
    pub connections: u32,
    pub tls: bool,
    pub connect_s: f64,
    /// Memory of the server before the first connection.
    pub rss_before_bytes: u64,
    /// With all of them.
    pub rss_after_bytes: u64,
    /// When they had been held for a while.
    pub rss_end_bytes: u64,
    /// The difference at the end, for each.
    pub bytes_per_connection: u64,
    /// Connections that the server ended.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counts {
    up: AtomicU64,
    lost: AtomicU64,
}

/// Opens the connections, holds them and measures.
///
/// # Errors
/// If they don't come up, or the server's memory can't be known.
pub async fn idle(options: &IdleOptions) -> anyhow::Result<IdleReport> {
    ensure!(options.connections > 0, "--connections must be at least 1");
    usage::check_file_limit(options.connections)?;
    let mut subject = Subject::open(&options.server).await?;
    subject.target.sources =
        (1..=options.sources).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))).collect();
    let version = options.mqtt_version.into();
    let logins = match &subject.api {
        Some(api) => Enrolled::make(api, &no_load(), options.connections, 0, LOCATIONS)
            .await?
            .logins(version, KEEP_ALIVE_S),
        None => enrol::anonymous(options.connections, version, KEEP_ALIVE_S),
    };
    tokio::time::sleep(SETTLE).await;
    let before = rss_bytes(&subject).await?;

    let counts = Arc::new(Counts::default());
    let mut connections = hold(&subject.target, logins, &counts);
    let measured = measure(options, &subject, before, &counts, &mut connections).await;
    // They give their sockets back before the server's folder is removed.
    connections.shutdown().await;
    subject.close().await?;
    measured
}

async fn measure(
    options: &IdleOptions,
    subject: &Subject,
    before: u64,
    counts: &Counts,
    connections: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<IdleReport> {
    let started = Instant::now();
    let wanted = u64::from(options.connections);
    while counted(&counts.up) < wanted {
        tokio::time::sleep(LOOK).await;
        if started.elapsed() > CONNECT_DEADLINE {
            bail!("only {} of {wanted} connections came up", counted(&counts.up));
        }
        while let Some(ended) = connections.try_join_next() {
            ended?.context("a connection didn't come up")?;
        }
    }
    let connect_s = started.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let after = rss_bytes(subject).await?;
    eprintln!("{wanted} connections after {connect_s:.1} s");

    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(options.seconds)) => {}
        () = interrupted() => {}
    }
    let end = rss_bytes(subject).await?;
    Ok(IdleReport {
        connections: options.connections,
        tls: options.server.tls,
        connect_s,
        rss_before_bytes: before,
        rss_after_bytes: after,
        rss_end_bytes: end,
        bytes_per_connection: end.saturating_sub(before) / wanted,
        lost: counted(&counts.lost),
    })
}

fn hold(target: &Target, logins: Vec<Login>, counts: &Arc<Counts>) -> JoinSet<anyhow::Result<()>> {
    let target = Arc::new(target.clone());
    let doors = Arc::new(Semaphore::new(DOORS));
    let mut connections = JoinSet::new();
    for (number, login) in (0..).zip(logins) {
        let (target, doors, counts) = (Arc::clone(&target), Arc::clone(&doors), Arc::clone(counts));
        connections.spawn(async move {
            let door = doors.acquire().await?;
            let mut stream = connect(&target, number, &login).await?.stream;
            drop(door);
            count(&counts.up, 1);
            let ping = Duration::from_secs(u64::from(KEEP_ALIVE_S) / 2);
            let mut answer = [0; 16];
            loop {
                // Its own error shows at the next read.
                let read = tokio::time::timeout(ping, stream.read(&mut answer)).await;
                match read {
                    Ok(Ok(1..)) => {}
                    Ok(_) => {
                        counts.lost.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    Err(_) => {
                        let _ = stream.write_all(&PINGREQ).await;
                        let _ = stream.flush().await;
                    }
                }
            }
        });
    }
    connections
}

async fn rss_bytes(subject: &Subject) -> anyhow::Result<u64> {
    let usage = subject.usage().await?;
    Ok(usage.context("the server's memory can't be known; name it by --server-pid")?.rss_bytes)
}

fn no_load() -> Plan {
    Plan {
        live_base: TimestampMs(0),
        buffered_base: TimestampMs(0),
        keys: 1,
        times_per_message: 1,
        devices_behind: 0,
        buffered_every: 0,
        times_per_batch: 1,
        swing: Swing::default(),
    }
}
