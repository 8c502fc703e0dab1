//! One server of a round, with what consumes its messages.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use loadtest::connect::{Login, Target, connect};
use loadtest::enrol::{self, Enrolled};
use loadtest::packets::{QoS, Version};
use loadtest::plan::Plan;
use loadtest::subject::{self, Subject};
use loadtest::usage;
use serde::Serialize;
use tokio::process::Child;

use crate::Options;
use crate::mosquitto::{self, Subscriber};
use crate::rumqttd::Helper;

/// How long a server may take to take connections.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Locations that Baken's routers stand at in turns.
const LOCATIONS: u32 = 16;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Baken,
    Rumqttd,
    /// Its subscriber takes QoS 1, as a consumer that may lose nothing must.
    Mosquitto,
    /// Its subscriber takes QoS 0, which costs mosquitto less.
    MosquittoQos0,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Baken, Self::Rumqttd, Self::Mosquitto, Self::MosquittoQos0];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baken => "baken",
            Self::Rumqttd => "rumqttd",
            Self::Mosquitto => "mosquitto, subscriber at QoS 1",
            Self::MosquittoQos0 => "mosquitto, subscriber at QoS 0",
        })
    }
}

/// A server that runs.
pub struct Contender {
    pub target: Target,
    pub logins: Vec<Login>,
    server: Server,
}

enum Server {
    Baken { subject: Box<Subject>, enrolled: Enrolled },
    Rumqttd(Helper),
    Mosquitto { child: Child, subscriber: Subscriber, _folder: tempfile::TempDir },
}

/// What had become of the acknowledged messages in the end.
#[derive(Clone, Copy, Debug)]
pub enum Consumed {
    /// Baken's history shows them.
    Stored { complete: bool },
    /// So many reached the consumer.
    Delivered(u64),
}

impl Contender {
    pub async fn start(kind: Kind, options: &Options, plan: &Plan) -> anyhow::Result<Self> {
        let anonymous = enrol::anonymous(options.connections, Version::V311, 60);
        match kind {
            Kind::Baken => {
                let baken = subject::baken(options.baken.as_deref())?;
                let subject = Subject::start(&baken, false, false).await?;
                let api = subject.api.as_ref().context("Baken has an API")?;
                let enrolled = Enrolled::make(api, plan, options.connections, 0, LOCATIONS).await?;
                Ok(Self {
                    target: subject.target.clone(),
                    logins: enrolled.logins(Version::V311, 60),
                    server: Server::Baken { subject: Box::new(subject), enrolled },
                })
            }
            Kind::Rumqttd => {
                let target = free_target()?;
                let helper = Helper::start(target.address)?;
                await_connections(&target).await?;
                Ok(Self { target, logins: anonymous, server: Server::Rumqttd(helper) })
            }
            Kind::Mosquitto | Kind::MosquittoQos0 => {
                let target = free_target()?;
                let (child, folder) = mosquitto::start(target.address)?;
                await_connections(&target).await?;
                let qos = match kind {
                    Kind::MosquittoQos0 => QoS::AtMostOnce,
                    _ => QoS::AtLeastOnce,
                };
                let subscriber = Subscriber::start(&target, qos).await?;
                let server = Server::Mosquitto { child, subscriber, _folder: folder };
                Ok(Self { target, logins: anonymous, server })
            }
        }
    }

    /// Processor time of the server's process so far.
    pub async fn cpu_us(&self) -> anyhow::Result<u64> {
        let pid = match &self.server {
            Server::Baken { subject, .. } => {
                let usage = subject.usage().await?.context("Baken's use is known")?;
                return Ok(usage.cpu_us);
            }
            Server::Rumqttd(helper) => helper.pid(),
            Server::Mosquitto { child, .. } => child.id(),
        };
        Ok(usage::of(pid.context("the server has ended")?)?.cpu_us)
    }

    /// Waits until the consumer has all that was acknowledged, or no more comes.
    pub async fn consumed(
        &mut self,
        plan: &Plan,
        ledgers: Vec<loadtest::ledger::Ledger>,
    ) -> anyhow::Result<Consumed> {
        let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged()).sum();
        match &mut self.server {
            Server::Baken { subject, enrolled } => {
                let api = subject.api.as_ref().context("Baken has an API")?;
                let devices = enrolled.devices(api, plan).await?;
                let evidence =
                    loadtest::readback::Evidence { plan: plan.clone(), ledgers, devices };
                let caught_up = evidence.catch_up(api, Duration::from_secs(120)).await?;
                Ok(Consumed::Stored { complete: caught_up.complete })
            }
            Server::Rumqttd(helper) => settle(acknowledged, async || helper.consumed().await).await,
            Server::Mosquitto { subscriber, .. } => {
                settle(acknowledged, async || Ok(subscriber.received())).await
            }
        }
    }

    /// Ends the server.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self.server {
            Server::Baken { subject, .. } => subject.close().await,
            Server::Rumqttd(helper) => helper.stop().await,
            Server::Mosquitto { mut child, .. } => Ok(child.kill().await?),
        }
    }
}

/// Waits until `consumed` reaches `all` or stands still.
async fn settle(
    all: u64,
    mut consumed: impl AsyncFnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<Consumed> {
    const STANDS_STILL: Duration = Duration::from_secs(3);
    let (mut last, mut since) = (consumed().await?, Instant::now());
    while last < all && since.elapsed() < STANDS_STILL {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = consumed().await?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(Consumed::Delivered(last))
}

fn free_target() -> anyhow::Result<Target> {
    let address: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    Ok(Target::new(address, None))
}

async fn await_connections(target: &Target) -> anyhow::Result<()> {
    let login = enrol::anonymous(1, Version::V311, 60).remove(0);
    let started = Instant::now();
    while connect(target, 0, &login).await.is_err() {
        if started.elapsed() > START_TIMEOUT {
            bail!("the server takes no connections at {}", target.address);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
