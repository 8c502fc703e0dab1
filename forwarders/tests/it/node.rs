//! A journal, a store and forwarders in a folder, without a broker: the tests
//! write the journal themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forwarders::engine::{Accounting, Standing};
use forwarders::{ForwarderOptions, Forwarders, State, Trouble};
use journal::{EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{
    Credentials, DocumentBody, Forwarder, Location, LocationId, Origin, PartitionId, RecordBuilder,
    RecordKind, RouterId, Sealed, Tenant, TenantId, TenantSettings, TimestampMs, Value,
    partition_of,
};
use serde_json::{Value as Json, json};
use store::{HistoryOptions, NewRouter, Store, StoreOptions};
use tokio::sync::mpsc;

/// Generous: these tests share their machine with others.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const PARTITIONS: u16 = 2;

/// A node that runs.
pub struct Node {
    pub journal: Journal,
    pub store: Store,
    pub forwarders: Forwarders,
    pub troubles: mpsc::Receiver<Trouble>,
}

/// A router's own device, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub origin: Origin,
    pub location: LocationId,
}

/// Allows the doubles, which stand on this machine.
pub fn options() -> ForwarderOptions {
    ForwarderOptions {
        threads: 1,
        commit_interval_ms: 20,
        allowed_networks: "127.0.0.0/8,::1".parse().unwrap(),
        ..ForwarderOptions::default()
    }
}

impl Node {
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &options()).await
    }

    pub async fn start_with(dir: &Path, options: &ForwarderOptions) -> Self {
        Self::start_keeping(dir, options, 1 << 30).await
    }

    /// On a journal that keeps so many bytes.
    pub async fn start_keeping(dir: &Path, options: &ForwarderOptions, bytes: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = Registry::new();
        let journal_options = EmbeddedOptions {
            dir: dir.join("journal"),
            partitions: PARTITIONS,
            segment_bytes: 64 << 10,
            retention_bytes: bytes,
            retention_check_ms: 50,
            // So that what is behind is read from files.
            tail_bytes: 32 << 10,
            record_bytes: 60 << 10,
            ..EmbeddedOptions::default()
        };
        let journal = Journal::open_embedded(journal_options, &registry).unwrap();
        let store_options = StoreOptions {
            dir: dir.join("store"),
            partitions: PARTITIONS,
            history: HistoryOptions::default(),
        };
        let store = Store::open_embedded(store_options, &registry).unwrap();
        let (sender, troubles) = mpsc::channel(100);
        // The tests' secrets are not sealed.
        let unseal = Arc::new(|_: &str, sealed: &Sealed| Some(sealed.0.clone()));
        let forwarders =
            Forwarders::start(&journal, &store, unseal, sender, options, &registry).await.unwrap();
        Self { journal, store, forwarders, troubles }
    }

    pub async fn stop(self) {
        self.forwarders.close().await;
        self.journal.close().await;
        self.store.close().await;
    }

    pub async fn tenant(&self, name: &str) -> TenantId {
        let tenant = Tenant { name: name.to_owned(), settings: TenantSettings::default() };
        let made = self.store.directory().create(DocumentBody::Tenant(tenant)).await.unwrap();
        TenantId(made.id)
    }

    /// A location with a router, whose own device is given back.
    pub async fn device(&self, tenant: TenantId, name: &str, groups: &[&str]) -> Device {
        let directory = self.store.directory();
        let location = Location {
            tenant,
            name: format!("at {name}"),
            time_zone: "UTC".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let made = directory.create(DocumentBody::Location(location)).await.unwrap();
        let location = LocationId(made.id);
        let router = NewRouter {
            location,
            name: name.to_owned(),
            credentials: Credentials::AccessToken { hash: format!("{tenant}/{name}") },
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        let made = directory.create_routers(vec![router]).await.unwrap();
        let DocumentBody::Router(router) = &made[0].body else { panic!("a router") };
        let origin = Origin { tenant, router: RouterId(made[0].id), device: router.device };
        Device { origin, location }
    }

    /// Makes a forwarder from its JSON, and waits until it has begun.
    pub async fn forwarder(&self, document: Json) -> u64 {
        let forwarder: Forwarder = serde_json::from_value(document).unwrap();
        let body = DocumentBody::Forwarder(forwarder);
        let id = self.store.directory().create(body).await.unwrap().id;
        until("a forwarder begins", async || {
            let standing = self.forwarders.standing(id)?;
            // Disabled ones have no lanes.
            let lanes = self.forwarders.accounting(id).await.unwrap();
            (standing.state == State::Disabled || lanes.stopped.is_none()).then_some(())
        })
        .await;
        // Its lanes are heard of by then, which was asked after them.
        id
    }

    /// Changes a forwarder's document.
    pub async fn change(&self, id: u64, change: impl FnOnce(&mut Forwarder)) {
        let entry = self.store.directory().forwarder(id).unwrap();
        let mut forwarder = entry.body.clone();
        change(&mut forwarder);
        let body = DocumentBody::Forwarder(forwarder);
        self.store.directory().update(id, None, body).await.unwrap();
    }

    /// Appends numbers of one key, each a second after the one before.
    pub async fn append(&self, device: Device, key: &str, from_s: i64, values: &[f64]) {
        let rows: Vec<(i64, Value<'_>)> =
            (from_s..).zip(values).map(|(at, value)| (at * 1_000, Value::Number(*value))).collect();
        self.append_rows(device, key, &rows).await;
    }

    pub async fn append_rows(&self, device: Device, key: &str, rows: &[(i64, Value<'_>)]) {
        let partition = self.partition(device);
        for chunk in rows.chunks(500) {
            let mut builder = RecordBuilder::new(RecordKind::Readings);
            for (at_ms, value) in chunk {
                let local = builder.key(key).unwrap();
                let at = TimestampMs(*at_ms);
                builder.push(device.origin, local, at, at, Some(*value)).unwrap();
            }
            let pending = self.journal.submit(partition, builder.finish()).await.unwrap();
            pending.await.unwrap();
        }
    }

    pub fn partition(&self, device: Device) -> PartitionId {
        partition_of(device.origin.tenant, device.location, PARTITIONS)
    }

    pub fn standing(&self, id: u64) -> Standing {
        self.forwarders.standing(id).unwrap()
    }

    pub async fn accounting(&self, id: u64) -> Accounting {
        let accounting = self.forwarders.accounting(id).await.unwrap();
        let counts = accounting.counts;
        assert_eq!(
            counts.selected,
            counts.settled() + accounting.queued + accounting.in_flight,
            "{accounting:?}"
        );
        accounting
    }

    /// Waits until a forwarder has dealt with so many selected readings.
    pub async fn settled(&self, id: u64, selected: u64) -> Accounting {
        let mut last = Accounting::default();
        let is_settled =
            |it: &Accounting| it.counts.selected >= selected && it.queued + it.in_flight == 0;
        let deadline = Instant::now() + DEADLINE;
        while !is_settled(&last) {
            assert!(Instant::now() < deadline, "{selected} readings in time: {last:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
            last = self.accounting(id).await;
        }
        last
    }

    pub async fn stands(&self, id: u64, state: State) -> Standing {
        until(state.as_str(), async || {
            let standing = self.forwarders.standing(id)?;
            (standing.state == state).then_some(standing)
        })
        .await
    }
}

/// A forwarder of a location to an InfluxDB, of the key `t`.
pub fn influxdb(device: Device, url: &str) -> Json {
    json!({
        "tenant": device.origin.tenant,
        "name": format!("of {}", device.origin.device),
        "scope": { "location": device.location },
        "enabled": true,
        "platform": "influxdb",
        "settings": { "url": url, "bucket": "b" },
        "secrets": { "token": "secret-token" },
        "items": [{ "key": "t", "data_type": "number", "settings": { "measurement": "m" } }],
    })
}

/// Asks until the answer is as wanted.
pub async fn until<F: Future<Output = Option<T>>, T>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
