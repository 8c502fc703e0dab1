//! What a running broker keeps an eye on: the directory's changes and the TLS
//! files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use schema::{DocumentKind, RouterId};
use store::{Change, Entry, ListQuery};
use tokio::sync::broadcast::error::RecvError;

use super::node::Node;
use super::session::End;

/// Disconnects routers that may not be connected any more, and has sessions
/// look again at tenants and devices that have changed.
pub(super) async fn directory(node: Arc<Node>) {
    let mut changes = node.directory.subscribe();
    // What changed before this task ran.
    node.check_all();
    loop {
        match changes.recv().await {
            Ok(change) => node.changed(&change),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "behind the directory: looking at every session");
                node.check_all();
                node.note_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Reads the TLS files again when they change.
pub(super) async fn certificates(node: Arc<Node>) {
    let interval = Duration::from_millis(node.options.listener.tls_reload_interval_ms.max(1));
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let reader = Arc::clone(&node);
        let reload = move || reader.tls.as_ref().map(super::Tls::reload_if_changed);
        let reloaded = match tokio::task::spawn_blocking(reload).await {
            Ok(Some(reloaded)) => reloaded,
            Ok(None) | Err(_) => return,
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                node.metrics.reloads.with_label_values(&["ok"]).inc();
                tracing::info!("the TLS certificate was read again");
            }
            Err(error) => {
                node.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(%error, "the TLS files have changed but cannot be used");
            }
        }
    }
}

impl Node {
    fn changed(&self, change: &Change) {
        match change.kind {
            DocumentKind::Router => {
                self.check(RouterId(change.id));
                if change.version > 1 {
                    self.ledger.changed(RouterId(change.id), Self::now().wall);
                }
            }
            DocumentKind::Tenant => {
                self.ledger.settings_changed();
                self.tenants_epoch.fetch_add(1, Ordering::Release);
            }
            // One that is new is known to nobody yet.
            DocumentKind::Device if change.version > 1 || change.deleted => {
                self.devices_epoch.fetch_add(1, Ordering::Release);
            }
            _ => {}
        }
    }

    fn check_all(&self) {
        self.tenants_epoch.fetch_add(1, Ordering::Release);
        self.devices_epoch.fetch_add(1, Ordering::Release);
        self.ledger.settings_changed();
        self.registry.for_each(|handle| {
            if !self.is_current(&handle.router) {
                handle.end(End::Revoked);
            }
        });
    }

    /// Any router may have been enabled, disabled or deleted.
    fn note_all(&self) {
        let at = Self::now().wall;
        let mut query = ListQuery::default();
        loop {
            let page = self.directory.routers(&query);
            for router in page.items {
                self.ledger.changed(RouterId(router.id), at);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return,
            }
        }
    }

    fn check(&self, router: RouterId) {
        for handle in self.registry.of(router) {
            if !self.is_current(&handle.router) {
                handle.end(End::Revoked);
            }
        }
    }

    /// Whether who was let in as `router` would be let in now.
    pub(super) fn is_current(&self, router: &Entry<schema::Router>) -> bool {
        self.directory.router(RouterId(router.id)).is_some_and(|now| {
            now.enabled && (now.version == router.version || now.credentials == router.credentials)
        })
    }
}
