//! All routers of a run: starts them, says when to begin, storm, drain and
//! stop, and gathers what they leave behind.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::connect::{Login, Target};
use crate::ledger::Ledger;
use crate::publisher::{Finished, Load, Publisher};
use crate::shared::{Control, Phase, Shared, counted};

/// Connections that are opened at the same time at the start.
pub const DOORS: usize = 256;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    control: watch::Sender<Control>,
    routers: JoinSet<Finished>,
    connections: u64,
}

/// What a fleet leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// One for each connection, by its number.
    pub ledgers: Vec<Ledger>,
    /// Messages at QoS 1 that were neither acknowledged nor refused in the end.
    pub unanswered: u64,
}

impl Fleet {
    /// Starts a connection for each login. None offers anything before
    /// [`Fleet::begin`].
    #[must_use]
    pub fn start(load: Load, target: Target, logins: Vec<Login>) -> Self {
        let (control, receiver) = watch::channel(Control { phase: Phase::Connect, storm: 0 });
        let shared = Arc::new(Shared::default());
        let (load, target) = (Arc::new(load), Arc::new(target));
        let doors = Arc::new(Semaphore::new(DOORS));
        let connections = logins.len();
        let mut routers = JoinSet::new();
        for (number, login) in (0..).zip(logins) {
            let phase = f64::from(number) / f64::from(u32::try_from(connections).unwrap_or(1));
            let publisher = Publisher::new(
                number,
                phase,
                Arc::clone(&load),
                Arc::clone(&shared),
                Arc::clone(&target),
                login,
            );
            routers.spawn(publisher.run(receiver.clone(), Arc::clone(&doors)));
        }
        Self { shared, control, routers, connections: connections as u64 }
    }

    /// The counters, to be looked at while the fleet runs.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until every router is connected.
    ///
    /// # Errors
    /// If not all are within `deadline`; says why not.
    pub async fn connected(&self, deadline: Duration) -> anyhow::Result<()> {
        let all = async {
            while counted(&self.shared.counters.connected) < self.connections {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            let connected = counted(&self.shared.counters.connected);
            let reasons = self.shared.reasons();
            bail!("{connected} of {} connections came up: {reasons:?}", self.connections);
        }
        Ok(())
    }

    /// Begins the load.
    pub fn begin(&self) {
        self.shared.begin();
        self.phase(Phase::Load);
    }

    /// Drops all connections at once; each comes back at once.
    pub fn storm(&self) {
        self.control.send_modify(|control| control.storm += 1);
    }

    /// Offers nothing new, waits until all is answered or `deadline` is over,
    /// and ends the fleet.
    ///
    /// # Errors
    /// If a router's task fell over, which is a defect here.
    pub async fn drain(mut self, deadline: Duration) -> anyhow::Result<Outcome> {
        self.phase(Phase::Drain);
        let mut finished = Vec::new();
        let drained = tokio::time::timeout(deadline, gather(&mut self.routers, &mut finished));
        match drained.await {
            Ok(result) => result?,
            Err(_) => {
                self.phase(Phase::Stop);
                gather(&mut self.routers, &mut finished).await?;
            }
        }
        finished.sort_by_key(|finished| finished.number);
        Ok(Outcome {
            unanswered: finished.iter().map(|finished| finished.unanswered).sum(),
            ledgers: finished.into_iter().map(|finished| finished.ledger).collect(),
        })
    }

    fn phase(&self, phase: Phase) {
        self.control.send_modify(|control| control.phase = phase);
    }
}

async fn gather(
    routers: &mut JoinSet<Finished>,
    finished: &mut Vec<Finished>,
) -> anyhow::Result<()> {
    while let Some(router) = routers.join_next().await {
        finished.push(router.context("a router's task fell over")?);
    }
    Ok(())
}
