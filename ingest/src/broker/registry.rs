//! Who is connected, and the way to them from elsewhere.
//!
//! By router, in a sharded map; no reading passes here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use schema::{DeviceId, RouterId, TimestampMs};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::SmallVec;
use store::{Directory, Entry};
use tokio::sync::oneshot;

use super::fleet::{Fleet, Shown};
use super::frame::Version;
use super::mailbox::Mailbox;
use super::session::{Call, End, PushRefused};

/// What may be asked of a connection.
#[derive(Debug)]
pub(crate) enum Message {
    /// Shared attributes of this device have changed in the store.
    SharedChanged(DeviceId),
    Call(Call, Reply),
    End(End),
}

pub(crate) type Reply = oneshot::Sender<Result<Box<str>, PushRefused>>;

/// One connection, as others see it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub number: u64,
    /// As it was when its credentials were checked.
    pub router: Arc<Entry<schema::Router>>,
    pub client_id: Box<str>,
    pub peer: SocketAddr,
    pub version: Version,
    pub is_tls: bool,
    pub connected_at: TimestampMs,
    pub publishes: AtomicU64,
    pub bytes: AtomicU64,
    /// When telemetry was last read from it, in milliseconds; 0 before the first.
    pub telemetry_at: AtomicI64,
    /// How long it may be silent; `i64::MAX` sets no limit.
    pub silent_after_ms: AtomicI64,
    /// The cluster's revision in which other nodes were told of it; 0 before.
    pub announced: AtomicU64,
    pub mailbox: Mailbox<Message>,
}

impl Handle {
    pub(crate) fn end(&self, end: End) {
        self.mailbox.push_urgent(Message::End(end));
    }

    /// When telemetry was last read from it, or else when it came.
    pub(crate) fn last_heard_ms(&self) -> i64 {
        self.telemetry_at.load(Ordering::Relaxed).max(self.connected_at.0)
    }

    pub(crate) fn silent_after_ms(&self) -> i64 {
        self.silent_after_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent_after(&self, limit_ms: i64) {
        self.silent_after_ms.store(limit_ms, Ordering::Relaxed);
    }
}

/// A connection, for an operator to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub router: RouterId,
    pub client_id: String,
    pub peer: SocketAddr,
    pub is_mqtt5: bool,
    pub is_tls: bool,
    pub connected_at: TimestampMs,
    /// Publishes that were read since then, refused ones included; not known of a
    /// session that another node holds.
    pub publishes: Option<u64>,
    /// Bytes that were read since then, likewise.
    pub bytes: Option<u64>,
    /// The name of the node that holds it, if it is another one.
    pub node: Option<String>,
}

/// Why a call to a device has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RpcError {
    #[error("there is no such device")]
    UnknownDevice,
    #[error("the device's router is not connected, or has not connected the device")]
    Offline,
    #[error("the router has not subscribed to calls")]
    NotSubscribed,
    #[error("too many calls wait for the router's answers")]
    Busy,
    #[error("the call is larger than the router takes")]
    TooLarge,
    #[error("the router did not answer in time")]
    Timeout,
    #[error("the router disconnected before it answered")]
    Disconnected,
}

impl RpcError {
    /// The same call may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::UnknownDevice | Self::TooLarge => false,
            Self::Offline
            | Self::NotSubscribed
            | Self::Busy
            | Self::Timeout
            | Self::Disconnected => true,
        }
    }
}

impl From<PushRefused> for RpcError {
    fn from(refused: PushRefused) -> Self {
        match refused {
            PushRefused::NotSubscribed => Self::NotSubscribed,
            PushRefused::NotConnected => Self::Offline,
            PushRefused::Full => Self::Busy,
            PushRefused::TooLarge => Self::TooLarge,
        }
    }
}

type Handles = SmallVec<[Arc<Handle>; 1]>;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    routers: DashMap<RouterId, Handles>,
    next_number: AtomicU64,
    next_call: AtomicU64,
}

impl Registry {
    pub(crate) fn take_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a connection. One of the same router and client id is told to end;
    /// of two at once, one finds the other here.
    pub(crate) fn insert(&self, handle: Arc<Handle>) {
        let mut handles = self.routers.entry(RouterId(handle.router.id)).or_default();
        if let Some(place) = handles.iter().position(|other| other.client_id == handle.client_id) {
            handles.swap_remove(place).end(End::TakenOver);
        }
        handles.push(handle);
    }

    /// Removes this connection, unless another has taken its place.
    pub(crate) fn remove(&self, handle: &Handle) {
        let router = RouterId(handle.router.id);
        let is_empty = self.routers.get_mut(&router).is_some_and(|mut handles| {
            handles.retain(|other| other.number != handle.number);
            handles.is_empty()
        });
        if is_empty {
            self.routers.remove_if(&router, |_, handles| handles.is_empty());
        }
    }

    pub(crate) fn of(&self, router: RouterId) -> Handles {
        self.routers.get(&router).map(|handles| handles.clone()).unwrap_or_default()
    }

    pub(crate) fn for_each_router(&self, mut visit: impl FnMut(RouterId, &[Arc<Handle>])) {
        for handles in &self.routers {
            visit(*handles.key(), &handles);
        }
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Handle>)) {
        for handles in &self.routers {
            handles.iter().for_each(&mut visit);
        }
    }
}

/// The node's connections; a cheap handle.
#[derive(Clone, Debug)]
pub struct Connections {
    registry: Arc<Registry>,
    fleet: Option<Arc<Fleet>>,
    directory: Directory,
    now_us: fn() -> u64,
}

impl Connections {
    pub(crate) fn new(
        registry: Arc<Registry>,
        fleet: Option<Arc<Fleet>>,
        directory: Directory,
        now_us: fn() -> u64,
    ) -> Self {
        Self { registry, fleet, directory, now_us }
    }

    /// Calls a device and waits for its answer.
    ///
    /// # Errors
    /// [`RpcError`]; after a timeout the device may still have done it.
    pub async fn rpc(
        &self,
        device: DeviceId,
        method: &str,
        params: &Value,
        timeout: Duration,
    ) -> Result<Value, RpcError> {
        let router = self.directory.device(device).ok_or(RpcError::UnknownDevice)?.router;
        let answer = async {
            let here = match self.call_here(device, method, params, timeout).await {
                Err(RpcError::Offline) => None,
                answered => Some(answered),
            };
            match (here, &self.fleet) {
                (Some(answered), _) => answered.map(String::from),
                (None, None) => Err(RpcError::Offline),
                (None, Some(fleet)) => {
                    let call = self.registry.next_call.fetch_add(1, Ordering::Relaxed);
                    fleet.call(call, router, device, (method, params), timeout).await
                }
            }
        };
        let answer =
            tokio::time::timeout(timeout, answer).await.map_err(|_| RpcError::Timeout)??;
        Ok(serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    /// Calls a device whose router is connected to this node; the answer is JSON.
    pub(super) async fn call_here(
        &self,
        device: DeviceId,
        method: &str,
        params: &Value,
        timeout: Duration,
    ) -> Result<Box<str>, RpcError> {
        let router = self.directory.device(device).ok_or(RpcError::UnknownDevice)?.router;
        let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let expires_us = (self.now_us)().saturating_add(timeout_us);
        let mut error = RpcError::Offline;
        let answer = async {
            for handle in self.registry.of(router) {
                let call = self.registry.next_call.fetch_add(1, Ordering::Relaxed);
                let (method, params) = (method.to_owned(), params.clone());
                let call = Call { call, device, method, params, expires_us };
                let (reply, answer) = oneshot::channel();
                if handle.mailbox.push(Message::Call(call, reply)).is_err() {
                    continue;
                }
                match answer.await {
                    Ok(Ok(answer)) => return Ok(answer),
                    // Perhaps another connection of the router takes calls.
                    Ok(Err(refused)) => error = refused.into(),
                    Err(_dropped) => error = RpcError::Disconnected,
                }
            }
            Err(error)
        };
        tokio::time::timeout(timeout, answer).await.map_err(|_| RpcError::Timeout)?
    }

    /// Shared attributes of a device have changed: its router gets what the
    /// store holds for it, whichever node it is connected to. To be called once
    /// the change is durable in the journal; a router that is away gets it when
    /// it subscribes again.
    pub async fn push_shared(&self, device: DeviceId) {
        self.push_shared_here(device);
        if let Some((fleet, entry)) = self.fleet.as_ref().zip(self.directory.device(device)) {
            fleet.push_shared(entry.router, device).await;
        }
    }

    pub(super) fn push_shared_here(&self, device: DeviceId) {
        let Some(entry) = self.directory.device(device) else { return };
        for handle in self.registry.of(entry.router) {
            // A full mailbox is a client that takes nothing; the store keeps
            // the change as undelivered.
            let _ = handle.mailbox.push(Message::SharedChanged(device));
        }
    }

    /// Ends all connections of a router.
    pub fn disconnect(&self, router: RouterId) {
        for handle in self.registry.of(router) {
            handle.end(End::Revoked);
        }
    }

    /// A router's connections, those to other nodes included.
    #[must_use]
    pub fn sessions(&self, router: RouterId) -> Vec<SessionInfo> {
        let info = |handle: &Arc<Handle>| SessionInfo {
            router,
            client_id: handle.client_id.to_string(),
            peer: handle.peer,
            is_mqtt5: handle.version == Version::V5,
            is_tls: handle.is_tls,
            connected_at: handle.connected_at,
            publishes: Some(handle.publishes.load(Ordering::Relaxed)),
            bytes: Some(handle.bytes.load(Ordering::Relaxed)),
            node: None,
        };
        let mut sessions: Vec<SessionInfo> = self.registry.of(router).iter().map(info).collect();
        sessions.extend(self.sessions_elsewhere(router));
        sessions
    }

    /// Whether a router is connected to any node.
    #[must_use]
    pub fn is_connected(&self, router: RouterId) -> bool {
        let is_elsewhere = |fleet: &Arc<Fleet>| !fleet.holders(router).is_empty();
        !self.registry.of(router).is_empty() || self.fleet.as_ref().is_some_and(is_elsewhere)
    }

    fn sessions_elsewhere(&self, router: RouterId) -> Vec<SessionInfo> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let sessions = fleet.elsewhere(router);
        let nodes = if sessions.is_empty() { Vec::new() } else { fleet.cluster.nodes() };
        let shown = sessions.into_iter().filter_map(|session| {
            let shown: Shown = serde_json::from_str(&session.shown).ok()?;
            let holder = nodes.iter().find(|node| Some(node.id) == session.node);
            Some(SessionInfo {
                router,
                client_id: session.client_id.into(),
                peer: shown.peer,
                is_mqtt5: shown.is_mqtt5,
                is_tls: shown.is_tls,
                connected_at: session.connected_at,
                publishes: None,
                bytes: None,
                node: Some(holder.map_or_else(String::new, |node| node.name.clone())),
            })
        });
        shown.collect()
    }
}
