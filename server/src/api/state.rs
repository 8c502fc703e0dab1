//! What the API's handlers stand on: the parts of the node that is running.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use alarms::AlarmWorkers;
use alarms::backtest::Backtests;
use forwarders::Forwarders;
use ingest::{Broker, Connections, Submitter};
use journal::Journal;
use notifier::Notifier;
use notifier::links::LinkKey;
use notifier::webhook::WebhookOptions;
use store::Store;

use super::auth::FailureLimit;
use super::metrics::ApiMetrics;
use super::streams::Streams;
use super::turns::Work;
use crate::audit::Audit;
use crate::backup::Backups;
use crate::health::Health;
use crate::secret::Secret;
use crate::standing::Standings;

/// The state of every handler: `State(state): State<AppState>`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Parts>);

/// The parts, as fields of [`AppState`].
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub journal: Journal,
    /// The routers that are connected now: RPC, pushes, disconnecting.
    pub connections: Connections,
    /// The broker itself; it knows which messages were refused.
    pub broker: Arc<Broker>,
    /// Puts rows into the journal as the broker does.
    pub submitter: Submitter,
    /// Evaluates rules; its commands are the way in for profiles and for what
    /// people do to alarms.
    pub alarms: Arc<AlarmWorkers>,
    /// Tells people of alarms.
    pub notifier: Arc<Notifier>,
    /// Signs the links of messages.
    pub links: LinkKey,
    /// Where people reach this installation; empty where nobody said.
    pub public_url: String,
    /// What a user's webhook may be.
    pub webhook: WebhookOptions,
    /// Profiles tried on stored history.
    pub backtests: Backtests,
    /// Readings to customers' own platforms.
    pub forwarders: Forwarders,
    /// Backups of the node's folder.
    pub(crate) backups: Backups,
    /// How locations stand.
    pub standings: Standings,
    pub secret: Secret,
    /// All metrics of the process.
    pub registry: prometheus::Registry,
    /// Whether the node is alive and ready, and why not.
    pub health: Health,
    pub(crate) metrics: ApiMetrics,
    /// Who came in, who was refused, and what people did that is no document.
    pub(crate) audit: Audit,
    pub(crate) failures: FailureLimit,
    /// Live streams and exports, which are bounded.
    pub streams: Streams,
    /// Work that takes turns.
    pub work: Work,
    /// How long a client may take no byte of its answer.
    pub(crate) write_stall: Duration,
}

impl AppState {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
