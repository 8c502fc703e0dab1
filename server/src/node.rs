//! A node put together: each part is started in the order in which a reading
//! needs it, and stopped in the opposite one, so that what was taken in before
//! the stop becomes durable and is acknowledged.
//!
//! It decides nothing: limits come from the configuration, work is done by the
//! parts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alarms::backtest::{BacktestOptions, Backtests};
use alarms::{AlarmOptions, AlarmWorkers, Publishing};
use anyhow::Context as _;
use ingest::recorder::Recorder;
use ingest::{Broker, BrokerOptions, Presence, Submitter};
use journal::{Journal, KafkaOptions};
use prometheus::Registry;
use schema::{ApiToken, DocumentBody};
use store::{ListQuery, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::api::auth::FailureLimit;
use crate::api::listener::{ConnectionLimits, HttpServer};
use crate::api::metrics::ApiMetrics;
use crate::api::service::{ServiceLimits, health_service, service};
use crate::api::state::Parts;
use crate::api::streams::Streams;
use crate::api::turns::Work;
use crate::api::{AppState, backtests};
use crate::audit::{Audit, AuditTasks};
use crate::backup::{self, Backups};
use crate::config::{ApiConfig, Config, JournalConfig, MqttConfig, Role};
use crate::continuity::refuse_another_journal;
use crate::folder::{DataFolder, RunFile};
use crate::health::{Health, HealthLimits, Phase};
use crate::host;
use crate::notifications::{self, Telling, link_key, webhook_options};
use crate::secret::{Secret, generate_token, optional_line};
use crate::standing::Standings;
use crate::upkeep::Upkeep;

/// The journal's folder below the data folder.
pub(crate) const JOURNAL_DIR: &str = "journal";
/// The store's folder below the data folder.
pub(crate) const STORE_DIR: &str = "store";
/// The directory's file there; while it is missing, the folder is new.
pub(crate) const DIRECTORY_FILE: &str = "directory.db";

/// The name of the token that the first start makes.
const ADMIN_TOKEN_NAME: &str = "admin";

/// How long requests that are being answered may take when the node stops.
const API_STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    state: AppState,
    recorder: Arc<Recorder>,
    upkeep: Upkeep,
    telling: Option<Telling>,
    presence: Arc<Presence>,
    audit_tasks: AuditTasks,
    http: HttpServer,
    run: RunFile,
    folder: DataFolder,
}

impl Node {
    /// Starts all parts. On return routers and clients are being served.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        crate::install_crypto();
        host::raise_file_limit(config.mqtt.limits.max_connections);
        let folder = DataFolder::open(&config.server.data_dir)?;
        folder.refuse_migrated(config.store.url.is_set(), config.journal.url.is_set())?;
        let store_dir = folder.path().join(STORE_DIR);
        let is_used = store_dir.join(DIRECTORY_FILE).exists();
        // Taken before the journal is read, so that a port that is taken is
        // told at once.
        let listener = bind(&config.api).await?;

        let registry = Registry::new();
        host::register(&config.server, &registry)?;
        let name = host::node_name(&config.server);
        let journal = open_journal(&config.journal, &name, folder.path(), &registry).await?;
        let store = open_store(&store_dir, journal.partitions(), &config, &registry).await?;
        refuse_another_journal(&journal, &store).await?;
        let is_used = if config.store.url.is_set() { !is_new(&store) } else { is_used };
        let secret = folder.secret(&config.server.secret_file, is_used)?;
        admit_admin(&folder, &store, &secret).await?;
        let upkeep = Upkeep::start(&store);
        // Before anything is taken in, so that the journal knows what is still needed.
        let (forwarders, troubles) =
            crate::forwarding::start(&config, &secret, &journal, &store, &registry).await?;
        let submitter = Submitter::start(&journal, &config.journal.batch_options(), &registry)?;
        let roles = &config.server.roles;
        let recorder = Arc::new(match roles.has(Role::Recorder) {
            true => start_recorder(&config, &journal, &store, &registry)?,
            false => Recorder::elsewhere(&journal),
        });
        let publishing = crate::transitions::open(&config, &journal, &store).await?;
        let alarms = Arc::new(start_alarms(&config, &journal, &store, publishing, &registry)?);
        let notifier = Arc::new(notifications::notifier(
            &config.notifications,
            &store,
            &secret,
            &alarms,
            &registry,
        )?);
        let telling = match roles.has(Role::Notifier) {
            true => Some(Telling::start(&notifier, &journal, &registry)?),
            false => None,
        };
        tokio::spawn(crate::forwarding::listen(troubles, Arc::clone(&alarms)));
        let broker =
            Arc::new(start_broker(&config, &secret, &journal, &submitter, &store, &registry)?);

        let presence = Arc::new(start_presence(&config, &broker, &recorder, &store, &registry)?);
        let standings = Standings::start(
            &store,
            Arc::clone(&presence),
            Arc::clone(&alarms),
            Arc::clone(&recorder),
            (config.mqtt.public_hosts.0.clone(), journal.partitions()),
            &registry,
        )?;
        let audit = Audit::register(store.alarms(), &registry)?;
        let audit_tasks = AuditTasks::start(&audit, store.directory(), broker.logins());
        let lag = HealthLimits {
            max_recorder_lag_records: config.history.max_lag_records,
            max_alarms_lag_records: config.alarms.max_lag_records,
        };
        let health = Health::new(journal.clone(), Arc::clone(&recorder), Arc::clone(&alarms), lag);
        let trials = BacktestOptions {
            grace_ms: i64::from(config.alarms.grace_ms),
            ..BacktestOptions::default()
        };
        let render = backtests::render(store.directory().clone());
        let backtests = Backtests::new(store.clone(), trials, render, &registry)?;
        let backups = start_backups(&config, &journal, &store, &alarms, &audit, &registry)?;
        let state = AppState::new(Parts {
            backups,
            store,
            journal,
            connections: broker.connections(),
            broker,
            submitter,
            alarms,
            notifier,
            links: link_key(&secret),
            public_url: config.notifications.public_url.clone(),
            webhook: webhook_options(&config.notifications.webhook),
            backtests,
            forwarders,
            standings,
            secret,
            metrics: ApiMetrics::register(&registry)?,
            registry: registry.clone(),
            health,
            audit: audit.clone(),
            failures: FailureLimit::default(),
            streams: Streams::register(&registry)?,
            work: Work::register(&registry)?,
            write_stall: Duration::from_millis(config.api.write_stall_ms),
        });
        let router = match config.server.roles.has(Role::Api) {
            true => service(state.clone(), limits(&config)),
            false => health_service(state.clone(), limits(&config)),
        };
        let http = HttpServer::start(listener, router, connection_limits(&config))?;
        let run = RunFile {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: format!("http://{}", reachable(http.local_addr())),
            mqtt: first(state.broker.plain_addresses()),
            mqtt_tls: first(state.broker.tls_addresses()),
        };
        // Before the file says that the node is there to be asked.
        state.health.enter(Phase::Serving);
        folder.write_run_file(&run)?;
        tracing::info!(api = run.api, mqtt = run.mqtt, mqtt_tls = run.mqtt_tls, "serving");
        Ok(Self { state, recorder, upkeep, telling, presence, audit_tasks, http, run, folder })
    }

    /// Where the node can be reached.
    #[must_use]
    pub fn run_file(&self) -> &RunFile {
        &self.run
    }

    /// The token in the folder's `admin-token`, if it is there.
    pub fn admin_token(&self) -> anyhow::Result<Option<String>> {
        Ok(self.folder.admin_token()?)
    }

    /// The parts, as the API's handlers have them.
    #[must_use]
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Reads the TLS certificates again; on an error the former ones stay.
    pub fn reload_tls(&self) {
        match self.state.broker.reload_tls() {
            Ok(()) => tracing::info!("the TLS certificates were read again"),
            Err(error) => {
                tracing::error!(%error, "the TLS certificates cannot be read; the former stay");
            }
        }
    }

    /// Has routers go to other nodes, where there are any, and says in its health
    /// that it is about to stop. It takes as long as there are connections for the
    /// rate `mqtt.limits.drain_per_s`.
    pub async fn drain(&self) {
        self.state.health.enter(Phase::Stopping);
        self.state.broker.drain().await;
    }

    /// Stops all parts, the last started first. What was acknowledged is on disk
    /// long before; this makes the rest durable or leaves it unacknowledged.
    pub async fn stop(self) {
        let Self { state, recorder, upkeep, telling, presence, audit_tasks, http, folder, .. } =
            self;
        state.health.enter(Phase::Stopping);
        folder.remove_run_file();
        state.streams.close();
        http.stop(API_STOP_PATIENCE).await;
        state.backtests.stop().await;
        state.backups.stop().await;
        // Before the connections end, so that nobody is said to have gone.
        presence.stop().await;
        state.broker.shutdown().await;
        // Before the alarms: it tells them of what it can't deliver.
        if let Some(telling) = telling {
            telling.stop().await;
        }
        state.alarms.stop().await;
        state.forwarders.close().await;
        recorder.close().await;
        state.submitter.close().await;
        state.journal.close().await;
        audit_tasks.stop().await;
        drop(upkeep);
        state.store.close().await;
        drop(folder);
    }
}

async fn bind(config: &ApiConfig) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on api.listen = {}", config.listen))
}

pub(crate) fn start_recorder(
    config: &Config,
    journal: &Journal,
    store: &Store,
    registry: &Registry,
) -> anyhow::Result<Recorder> {
    let options = config.history.recorder_options();
    Recorder::start(journal, store.history(), store.attributes(), &options, registry)
        .context("cannot start the recorder")
}

pub(crate) fn start_alarms(
    config: &Config,
    journal: &Journal,
    store: &Store,
    publishing: Option<Publishing>,
    registry: &Registry,
) -> anyhow::Result<AlarmWorkers> {
    let refused_repeat_ms = config.mqtt.presence.options().refused_repeat_ms();
    let options = AlarmOptions { refused_repeat_ms, ..config.alarms.options() };
    let workers = match config.server.roles.has(Role::Alarms) {
        true => AlarmWorkers::start(journal, store, &options, publishing, registry),
        false => AlarmWorkers::elsewhere(journal, store, &options, registry),
    };
    workers.context("cannot start the alarm workers")
}

fn start_broker(
    config: &Config,
    secret: &Secret,
    journal: &Journal,
    submitter: &Submitter,
    store: &Store,
    registry: &Registry,
) -> anyhow::Result<Broker> {
    let mqtt: &MqttConfig = &config.mqtt;
    let takes_routers = config.server.roles.has(Role::Ingest);
    let options = BrokerOptions {
        plain: mqtt.listen.0.into_iter().filter(|_| takes_routers).collect(),
        tls: mqtt.tls.listen.0.into_iter().filter(|_| takes_routers).collect(),
        tls_files: mqtt.tls_files(),
        secret: secret.as_bytes().to_vec(),
        listener: mqtt.listener_limits(config.server.shutdown_timeout_ms / 2),
        session: mqtt.session_limits(),
        payload: mqtt.payload_limits(),
        auth: mqtt.auth_limits(),
        address: mqtt.address_limits(),
        cluster: store.cluster().cloned(),
        name: crate::host::node_name(&config.server),
    };
    Broker::start(
        options,
        journal.clone(),
        submitter.clone(),
        store.directory().clone(),
        store.attributes().clone(),
        registry,
    )
    .context("cannot start the broker")
}

fn start_presence(
    config: &Config,
    broker: &Broker,
    recorder: &Arc<Recorder>,
    store: &Store,
    registry: &Registry,
) -> anyhow::Result<Presence> {
    let options = config.mqtt.presence.options();
    let history = store.history().clone();
    if !config.server.roles.has(Role::Ingest) {
        return Ok(Presence::elsewhere(broker));
    }
    Presence::start(broker, Arc::clone(recorder), history, options, registry)
        .context("cannot watch whether routers are there")
}

fn start_backups(
    config: &Config,
    journal: &Journal,
    store: &Store,
    alarms: &AlarmWorkers,
    audit: &Audit,
    registry: &Registry,
) -> anyhow::Result<Backups> {
    let source = backup::Source {
        folder: config.server.data_dir.clone(),
        journal: journal.clone(),
        store: store.clone(),
        alarms: Some(alarms.commands().clone()),
        secret_is_elsewhere: !config.server.secret_file.as_os_str().is_empty(),
        rate_bytes_per_s: config.backup.rate_bytes_per_s,
        reserve_bytes: config.journal.reserve_bytes,
    };
    Ok(Backups::new(&config.backup.folder, source, audit, registry)?)
}

/// The first address, as a client on this machine reaches it.
fn first(addresses: &[SocketAddr]) -> Option<String> {
    addresses.first().map(|address| reachable(*address).to_string())
}

/// `name` is the node's, by which brokers know it.
pub(crate) async fn open_journal(
    config: &JournalConfig,
    name: &str,
    folder: &Path,
    registry: &Registry,
) -> anyhow::Result<Journal> {
    if config.url.is_set() {
        let password = optional_line("journal.password_file", &config.password_file)?;
        let options = config.kafka_options(&password)?;
        let options = KafkaOptions { client_id: format!("baken-{name}"), ..options };
        let opened = Journal::open_kafka(options, registry).await;
        return opened.context("cannot open the journal in Kafka");
    }
    let options = config.options(folder.join(JOURNAL_DIR));
    let registry = registry.clone();
    // Recovery reads files: not on a thread of the runtime.
    let opened = spawn_blocking(move || Journal::open_embedded(options, &registry)).await?;
    opened.context("cannot open the journal")
}

pub(crate) async fn open_store(
    dir: &Path,
    partitions: u16,
    config: &Config,
    registry: &Registry,
) -> anyhow::Result<Store> {
    let registry = registry.clone();
    if config.store.url.is_set() {
        let password = optional_line("store.password_file", &config.store.password_file)?;
        let postgres = config.store.postgres_options(&password)?;
        let history = config.history.postgres_options();
        let patience = Duration::from_millis(config.store.start_patience_ms.into());
        postgres.await_server(patience).await.context("store.url")?;
        let opened = Store::open_postgres(&postgres, partitions, &history, &registry).await;
        return opened.context("cannot open the store in PostgreSQL");
    }
    let history = config.history.options();
    let options = StoreOptions { dir: dir.to_owned(), partitions, history };
    let opened = spawn_blocking(move || Store::open_embedded(options, &registry)).await?;
    opened.context("cannot open the store")
}

/// Whether nobody was ever admitted to the installation.
fn is_new(store: &Store) -> bool {
    let one = ListQuery { limit: 1, ..ListQuery::default() };
    let directory = store.directory();
    directory.api_tokens(&one).items.is_empty() && directory.tenants(&one).items.is_empty()
}

/// Makes the token of the whole installation at the first start. A token that
/// was revoked, or a file that was taken away, stays so.
async fn admit_admin(folder: &DataFolder, store: &Store, secret: &Secret) -> anyhow::Result<()> {
    let directory = store.directory();
    let all = ListQuery { limit: 1, ..ListQuery::default() };
    let is_new = directory.api_tokens(&all).items.is_empty();
    if !is_new {
        return Ok(());
    }
    // The file comes first: after a crash in between, its token is taken in
    // then, and nobody is locked out.
    let token = match folder.admin_token()? {
        Some(token) => token,
        None => {
            let token = generate_token()?;
            folder.write_admin_token(&token)?;
            token
        }
    };
    let body = DocumentBody::ApiToken(ApiToken {
        tenant: None,
        name: ADMIN_TOKEN_NAME.to_owned(),
        hash: secret.token_hash(&token),
        read_only: false,
    });
    directory.create(body).await.context("cannot store the admin token")?;
    tracing::info!("a token of the whole installation is in the folder's file admin-token");
    Ok(())
}

fn limits(config: &Config) -> ServiceLimits {
    ServiceLimits {
        max_body_bytes: usize::try_from(config.api.max_body_bytes).unwrap_or(usize::MAX),
        request_timeout: Duration::from_millis(config.api.request_timeout_ms),
        max_requests: config.api.max_requests as usize,
        metrics_need_token: config.metrics.require_token,
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        max_connections: config.api.max_connections as usize,
        write_stall: Duration::from_millis(config.api.write_stall_ms),
    }
}

/// An address that a client on this machine can connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}
