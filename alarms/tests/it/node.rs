//! A journal, a store and the workers over one folder, which can be killed and
//! opened again.

use std::path::Path;
use std::time::{Duration, Instant};

use alarms::{AlarmOptions, AlarmWorkers};
use journal::{EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{
    Credentials, Device, DeviceId, DocumentBody, Location, LocationId, Origin, PartitionId, Record,
    RecordBuilder, RecordKind, RouterId, Tenant, TenantId, TenantSettings, TimestampMs, Value,
    partition_of,
};
use store::alarms::{EventQuery, EventRow};
use store::{HistoryOptions, NewRouter, Store, StoreOptions};

/// 2100-01-01: ahead of the wall clock, so that only what is in the journal
/// moves time and two runs can be compared.
pub const FAR_MS: i64 = 4_102_444_800_000;

pub const PARTITIONS: u16 = 2;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    pub journal: Journal,
    pub store: Store,
    pub workers: AlarmWorkers,
}

/// What the tests' readings are of.
#[derive(Clone, Debug)]
pub struct Place {
    pub tenant: TenantId,
    pub location: LocationId,
    pub router: RouterId,
    pub devices: Vec<DeviceId>,
}

impl Node {
    pub fn open(dir: &Path, options: &AlarmOptions) -> Self {
        let registry = Registry::new();
        let journal = Journal::open_embedded(
            EmbeddedOptions {
                dir: dir.join("journal"),
                partitions: PARTITIONS,
                ..EmbeddedOptions::default()
            },
            &registry,
        )
        .unwrap();
        let store = Store::open_embedded(
            StoreOptions {
                dir: dir.join("store"),
                partitions: PARTITIONS,
                history: HistoryOptions::default(),
            },
            &registry,
        )
        .unwrap();
        let workers = AlarmWorkers::start(&journal, &store, options, None, &registry).unwrap();
        Self { journal, store, workers }
    }

    /// Ends without a snapshot or a last commit, wherever the workers are.
    pub async fn kill(self) {
        drop(self.workers);
        self.journal.close().await;
        self.store.close().await;
    }

    pub async fn stop(self) {
        self.workers.stop().await;
        self.journal.close().await;
        self.store.close().await;
    }

    /// Waits until the tenant's system alarms are in the journal, so that what
    /// comes after them has the same positions in every run.
    async fn until_settled(&self, tenant: TenantId) {
        let started = Instant::now();
        loop {
            let alarms = self.store.alarms();
            let is_there = alarms.system_profile(tenant).await.unwrap().is_some();
            if is_there && alarms.deliveries().await.unwrap().is_empty() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the system alarms did not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn router(&self, location: LocationId, name: &str) -> RouterId {
        let router = NewRouter {
            location,
            name: name.to_owned(),
            credentials: Credentials::AccessToken { hash: name.to_owned() },
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        RouterId(self.store.directory().create_routers(vec![router]).await.unwrap()[0].id)
    }

    /// A tenant with one location, one router and a few devices.
    pub async fn place(&self, devices: usize) -> Place {
        let directory = self.store.directory();
        let settings = TenantSettings::default();
        let tenant = Tenant { name: "Acme".to_owned(), settings };
        let tenant = TenantId(directory.create(DocumentBody::Tenant(tenant)).await.unwrap().id);
        self.until_settled(tenant).await;
        let location = Location {
            tenant,
            name: "Hall".to_owned(),
            time_zone: "Europe/Amsterdam".to_owned(),
            groups: Vec::new(),
        };
        let location = directory.create(DocumentBody::Location(location)).await.unwrap();
        let location = LocationId(location.id);
        let router = self.router(location, "router").await;
        let mut ids = Vec::new();
        for index in 0..devices {
            let device = Device {
                tenant,
                location,
                router,
                name: format!("machine-{index}"),
                device_type: Some("machine".to_owned()),
                behind_router: true,
            };
            let made = directory.create(DocumentBody::Device(device)).await.unwrap();
            ids.push(DeviceId(made.id));
        }
        Place { tenant, location, router, devices: ids }
    }

    pub async fn append(&self, place: &Place, record: Record) {
        let partition = place.partition();
        self.journal.submit(partition, record).await.unwrap().await.unwrap();
    }

    /// Waits until everything durable is evaluated and committed.
    pub async fn settle(&self) {
        self.until("all partitions are caught up", || {
            self.workers.status().iter().all(|status| {
                assert_eq!(status.stopped, None);
                status.behind == 0
            })
        })
        .await;
    }

    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// All events of alarms, the oldest first.
    pub async fn events(&self) -> Vec<EventRow> {
        let mut all: Vec<EventRow> = Vec::new();
        loop {
            let query = EventQuery {
                after: all.last().map(|event| event.sequence),
                oldest_first: true,
                limit: 1_000,
                ..EventQuery::default()
            };
            let page = self.store.alarms().events(query).await.unwrap();
            if page.is_empty() {
                all.retain(|event| event.alarm.is_some());
                return all;
            }
            all.extend(page);
        }
    }
}

impl Place {
    pub fn partition(&self) -> PartitionId {
        partition_of(self.tenant, self.location, PARTITIONS)
    }

    /// One message of each reading: (device, time, temperature).
    pub fn record(&self, readings: &[(usize, i64, f64)]) -> Record {
        let mut builder = RecordBuilder::new(RecordKind::Readings);
        for &(device, at, value) in readings {
            let device = self.devices[device];
            let origin = Origin { tenant: self.tenant, router: self.router, device };
            let key = builder.key("temperature").unwrap();
            let at = TimestampMs(at);
            builder.push(origin, key, at, at, Some(Value::Number(value))).unwrap();
        }
        builder.finish()
    }
}
