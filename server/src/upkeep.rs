//! What follows from the directory: how long the history keeps each tenant's
//! readings, and that nothing is kept of devices that are deleted.
//!
//! It stands beside a reading's way: it only tells the store. A tenant that is
//! deleted keeps the retention that it had until the process ends; its readings
//! are out of everybody's sight with its devices.

use schema::{DeviceId, DocumentKind, TenantId};
use store::{Attributes, Directory, History, ListQuery, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// Runs until it is dropped or the directory is closed.
#[derive(Debug)]
pub struct Upkeep {
    tasks: [JoinHandle<()>; 2],
}

impl Upkeep {
    /// On return each tenant's retention is in force; from then on it follows
    /// the directory.
    #[must_use]
    pub fn start(store: &Store) -> Self {
        let (directory, history) = (store.directory().clone(), store.history().clone());
        // Before the tenants are read, so that no change falls in between.
        let changes = directory.subscribe();
        retain_all(&directory, &history);
        let following = tokio::spawn(follow(changes, directory, history));
        let sweeping = sweep(store.directory().clone(), store.attributes().clone());
        Self { tasks: [following, tokio::spawn(sweeping)] }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn retain_all(directory: &Directory, history: &History) {
    let mut query = ListQuery::default();
    loop {
        let tenants = directory.tenants(&query);
        for tenant in &tenants.items {
            history.set_retention(TenantId(tenant.id), tenant.settings.retention_days);
        }
        match tenants.next {
            Some(next) => query.after = Some(next),
            None => return,
        }
    }
}

async fn follow(mut changes: Receiver<store::Change>, directory: Directory, history: History) {
    loop {
        match changes.recv().await {
            Ok(change) if change.kind == DocumentKind::Tenant => {
                let id = TenantId(change.id);
                if let Some(tenant) = directory.tenant(id) {
                    history.set_retention(id, tenant.settings.retention_days);
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                tracing::info!(missed, "behind the directory: reading every tenant's retention");
                retain_all(&directory, &history);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Takes up what a crash between a device's deletion and that of its attributes
/// has left. An id is never used again, so what is not in the directory now
/// never will be.
async fn sweep(directory: Directory, attributes: Attributes) {
    let known = match attributes.devices().await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "attributes of deleted devices are looked for at the next start");
            return;
        }
    };
    let gone: Vec<DeviceId> =
        known.into_iter().filter(|device| directory.device(*device).is_none()).collect();
    if gone.is_empty() {
        return;
    }
    let devices = gone.len();
    match attributes.forget(gone).await {
        Ok(()) => tracing::info!(devices, "attributes of deleted devices were removed"),
        Err(error) => tracing::warn!(%error, devices, "attributes of deleted devices stay"),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use schema::{
        Credentials, DocumentBody, Location, LocationId, PartitionId, Position, Tenant,
        TenantSettings, TimestampMs,
    };
    use store::{AttributeChange, NewRouter, Scope, StoreOptions};

    use super::*;

    async fn device_of_a_new_router(directory: &Directory) -> DeviceId {
        let tenant = Tenant { name: "t".to_owned(), settings: TenantSettings::default() };
        let tenant = directory.create(DocumentBody::Tenant(tenant)).await.unwrap();
        let location = Location {
            tenant: TenantId(tenant.id),
            name: "l".to_owned(),
            time_zone: "UTC".to_owned(),
            groups: Vec::new(),
        };
        let location = directory.create(DocumentBody::Location(location)).await.unwrap();
        let router = NewRouter {
            location: LocationId(location.id),
            name: "r".to_owned(),
            credentials: Credentials::AccessToken { hash: "00".repeat(32) },
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        let router = directory.create_routers(vec![router]).await.unwrap().remove(0);
        let DocumentBody::Router(router) = router.body else { panic!("a router was made") };
        router.device
    }

    #[tokio::test]
    async fn only_what_is_not_in_the_directory_loses_its_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            partitions: 1,
            history: store::HistoryOptions::default(),
        };
        let store = Store::open_embedded(options, &Registry::new()).unwrap();
        let kept = device_of_a_new_router(store.directory()).await;
        let gone = DeviceId(kept.0 + 1_000);
        let change = |device, scope| AttributeChange {
            device,
            scope,
            key: "k".to_owned(),
            value: Some(serde_json::json!(1)),
            at: TimestampMs(1),
        };
        let changes = vec![
            change(kept, Scope::Client),
            change(kept, Scope::Shared),
            change(gone, Scope::Client),
            change(gone, Scope::Shared),
        ];
        let attributes = store.attributes();
        attributes.apply(PartitionId(0), Position(1), changes).await.unwrap();
        assert_eq!(attributes.devices().await.unwrap(), [kept, gone]);
        sweep(store.directory().clone(), attributes.clone()).await;
        assert_eq!(attributes.devices().await.unwrap(), [kept]);
        assert_eq!(attributes.get(kept, Scope::Shared, None).await.unwrap().len(), 1);
        store.close().await;
    }
}
