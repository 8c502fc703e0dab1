//! The broker over real sockets, a real journal and a real store, spoken to in
//! hand-written bytes.

mod attributes;
mod calls;
mod client;
mod credentials;
mod disk;
mod hostile;
mod presence;
mod publishes;
mod sessions;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::batch::{BatchOptions, Submitter};
use ingest::broker::{Broker, BrokerOptions};
use ingest::recorder::{Recorder, RecorderOptions};
use journal::{Disk, EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{
    Credentials, DeviceId, DocumentBody, Location, LocationId, RouterId, Tenant, TenantId,
    TenantSettings,
};
use store::history::HistoryOptions;
use store::{NewRouter, Store, StoreOptions};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
const SECRET: &[u8] = b"the installation's secret";

/// A whole node without its HTTP API.
struct Node {
    broker: Broker,
    store: Store,
    recorder: Arc<Recorder>,
    registry: Registry,
    journal: Journal,
    tenant: TenantId,
    location: LocationId,
    _dir: TempDir,
}

struct Setup {
    options: BrokerOptions,
    settings: TenantSettings,
    journal: EmbeddedOptions,
    batch: BatchOptions,
}

impl Setup {
    fn new() -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options =
            BrokerOptions { plain: vec![any], secret: SECRET.to_vec(), ..BrokerOptions::default() };
        let journal = EmbeddedOptions { partitions: 2, ..EmbeddedOptions::default() };
        let settings = TenantSettings::default();
        Self { options, settings, journal, batch: BatchOptions::default() }
    }

    fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.journal.disk = disk;
        self
    }

    async fn start(self) -> Node {
        let dir = TempDir::new().unwrap();
        let registry = Registry::new();
        let journal = EmbeddedOptions { dir: dir.path().join("journal"), ..self.journal };
        let journal = Journal::open_embedded(journal, &registry).unwrap();
        let options = StoreOptions {
            dir: dir.path().join("store"),
            partitions: journal.partitions(),
            history: HistoryOptions::default(),
        };
        let store = Store::open_embedded(options, &registry).unwrap();
        let submitter = Submitter::start(&journal, &self.batch, &registry).unwrap();
        let options = RecorderOptions::default();
        let recorder =
            Recorder::start(&journal, store.history(), store.attributes(), &options, &registry)
                .unwrap();
        let (directory, attributes) = (store.directory().clone(), store.attributes().clone());
        let broker = Broker::start(
            self.options,
            journal.clone(),
            submitter,
            directory,
            attributes,
            &registry,
        )
        .unwrap();
        let tenant = Tenant { name: "acme".to_owned(), settings: self.settings };
        let tenant = store.directory().create(DocumentBody::Tenant(tenant)).await.unwrap().id;
        let location = Location {
            tenant: TenantId(tenant),
            name: "here".to_owned(),
            time_zone: "UTC".to_owned(),
            groups: Vec::new(),
        };
        let location = store.directory().create(DocumentBody::Location(location)).await.unwrap().id;
        let (tenant, location) = (TenantId(tenant), LocationId(location));
        let recorder = Arc::new(recorder);
        Node { broker, store, recorder, registry, journal, tenant, location, _dir: dir }
    }
}

impl Node {
    async fn start() -> Self {
        Setup::new().start().await
    }

    fn address(&self) -> SocketAddr {
        self.broker.plain_addresses()[0]
    }

    async fn router(&self, name: &str, credentials: Credentials) -> RouterId {
        let router = NewRouter {
            location: self.location,
            name: name.to_owned(),
            credentials,
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        let made = self.store.directory().create_routers(vec![router]).await.unwrap();
        RouterId(made[0].id)
    }

    /// A router whose access token is its name.
    async fn token_router(&self, name: &str) -> RouterId {
        let hash = ingest::auth::token_hash(SECRET, name);
        self.router(name, Credentials::AccessToken { hash }).await
    }

    fn device(&self, name: &str) -> DeviceId {
        DeviceId(self.store.directory().device_by_name(self.tenant, name).unwrap().id)
    }

    /// A counter of the broker, over all its labels or those with `label`.
    fn counter(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name);
        let metrics = metrics.flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .filter(|metric| {
                label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
            })
            .map(|metric| {
                let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
                value as u64
            })
            .sum()
    }

    /// Latest values of a device as text, once all that is durable is recorded.
    async fn latest(&self, device: DeviceId) -> Vec<(String, String)> {
        until("all is recorded", || {
            self.recorder.status().iter().all(|partition| partition.behind == 0)
        })
        .await;
        let latest = self.store.history().latest(device, None).await.unwrap();
        latest
            .into_iter()
            .map(|found| (found.key.to_string(), format!("{:?}", found.value)))
            .collect()
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
