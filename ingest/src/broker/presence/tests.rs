//! What is said of routers that come and go while it is being said.

use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;

use journal::{EmbeddedOptions, Journal};
use schema::{
    Credentials, DeviceId, DocumentBody, KEY_CONNECTED, KEY_ENABLED, KEY_SILENT, Location,
    LocationId, Tenant, TenantId, TenantSettings,
};
use store::history::{HistoryOptions, ReadingValue};
use store::{NewRouter, Store, StoreOptions};

use super::super::BrokerOptions;
use super::super::frame::Version;
use super::super::mailbox::Mailbox;
use super::super::registry::Handle;
use super::super::session::{Counts, End, Refusal};
use super::ledger::Edge;
use super::statement::Said;
use super::*;
use crate::batch::{BatchOptions, Submitter};
use crate::recorder::RecorderOptions;

/// The task as it stands when the history is caught up, driven by hand.
struct Scene {
    task: Task,
    store: Store,
    broker: Broker,
    router: RouterId,
    device: DeviceId,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = prometheus::Registry::new();
        let journal = EmbeddedOptions {
            dir: dir.path().join("journal"),
            partitions: 1,
            ..EmbeddedOptions::default()
        };
        let journal = Journal::open_embedded(journal, &metrics).unwrap();
        let history = HistoryOptions::default();
        let store = StoreOptions { dir: dir.path().join("store"), partitions: 1, history };
        let store = Store::open_embedded(store, &metrics).unwrap();
        let submitter = Submitter::start(&journal, &BatchOptions::default(), &metrics).unwrap();
        let options = RecorderOptions::default();
        let (history, attributes) = (store.history().clone(), store.attributes().clone());
        let recorder =
            Recorder::start(&journal, &history, &attributes, &options, &metrics).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = BrokerOptions { plain: vec![any], ..BrokerOptions::default() };
        let directory = store.directory().clone();
        let broker =
            Broker::start(options, journal, submitter, directory, attributes, &metrics).unwrap();
        let (router, device) = router(&store).await;
        let node = Arc::clone(&broker.node);
        node.ledger.switch(true);
        let task = Task {
            keys: Keys::new(node.submitter.keys()),
            shared: Arc::new(Shared { node, known: DashMap::new(), is_settled: false.into() }),
            metrics: Metrics::register(&metrics).unwrap(),
            recorder: Arc::new(recorder),
            history,
            options: PresenceOptions::default(),
            started_at: Node::now().wall,
            silent: Default::default(),
            refused: Default::default(),
            came: Default::default(),
            limits_changed: Default::default(),
            sharing: None,
            stopping: watch::channel(false).1,
        };
        Self { task, store, broker, router, device, _dir: dir }
    }

    fn node(&self) -> &Arc<Node> {
        &self.broker.node
    }

    /// Puts a connection into the registry.
    fn register(&self, connected_at: TimestampMs) -> Arc<Handle> {
        let router = self.node().directory.router(self.router).unwrap();
        let handle = Arc::new(Handle {
            number: self.node().registry.take_number(),
            router,
            client_id: "press".into(),
            peer: "127.0.0.1:1".parse().unwrap(),
            version: Version::V5,
            is_tls: false,
            connected_at,
            publishes: 0.into(),
            bytes: 0.into(),
            telemetry_at: 0.into(),
            silent_after_ms: AtomicI64::new(i64::MAX),
            announced: 0.into(),
            mailbox: Mailbox::new(),
        });
        self.node().registry.insert(Arc::clone(&handle));
        handle
    }

    fn known(&self) -> Option<Known> {
        self.task.shared.known.get(&self.router).map(|known| *known)
    }

    fn remember(&mut self, known: Known) {
        if known.silent_since.is_some() {
            self.task.silent.insert(self.router);
        }
        self.task.shared.known.insert(self.router, known);
    }

    fn rows(&self) -> u64 {
        self.task.metrics.rows.get()
    }

    /// Waits until the history holds a value of a key; its time.
    async fn told(&self, key: &str, value: ReadingValue) -> TimestampMs {
        let begun = std::time::Instant::now();
        loop {
            let keys = Some(vec![key.to_owned()]);
            let latest = self.store.history().latest(self.device, keys).await.unwrap();
            if let Some(found) = latest.into_iter().find(|it| it.value == value) {
                return found.observed_at;
            }
            assert!(begun.elapsed().as_secs() < 60, "{key} is never {value:?}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

async fn router(store: &Store) -> (RouterId, DeviceId) {
    let directory = store.directory();
    let tenant = Tenant { name: "acme".to_owned(), settings: TenantSettings::default() };
    let tenant = TenantId(directory.create(DocumentBody::Tenant(tenant)).await.unwrap().id);
    let location = Location {
        tenant,
        name: "here".to_owned(),
        time_zone: "UTC".to_owned(),
        groups: Vec::new(),
    };
    let location = directory.create(DocumentBody::Location(location)).await.unwrap().id;
    let router = NewRouter {
        location: LocationId(location),
        name: "press".to_owned(),
        credentials: Credentials::AccessToken { hash: "h".to_owned() },
        enabled: true,
        cloud_host: None,
        send_interval_s: None,
    };
    let made = directory.create_routers(vec![router]).await.unwrap();
    let id = RouterId(made[0].id);
    (id, directory.router(id).unwrap().device)
}

/// Said long ago.
fn connected(since: TimestampMs) -> Known {
    Known { connected: true, enabled: true, since, silent_since: None, said_at: since }
}

fn earlier(ms: i64) -> TimestampMs {
    TimestampMs(Node::now().wall.0 - ms)
}

#[tokio::test]
async fn a_router_that_only_its_document_changes_has_stood_so_since_now() {
    let mut scene = Scene::new().await;
    let long_ago = earlier(3_600_000);
    let _handle = scene.register(long_ago);
    scene.remember(Known { enabled: false, ..connected(long_ago) });
    let before = Node::now().wall;
    scene.node().ledger.changed(scene.router, before);
    scene.task.take_edges().await.unwrap();
    let known = scene.known().unwrap();
    assert!(known.enabled && known.said_at >= before, "{known:?}, not before {before}");
    assert_eq!(known.since, long_ago, "it is there since it came");
    assert!(scene.told(KEY_ENABLED, ReadingValue::Boolean(true)).await >= before);
}

#[tokio::test]
async fn silence_that_a_limit_ends_or_begins_does_so_now() {
    let mut scene = Scene::new().await;
    let long_ago = earlier(3_600_000);
    let handle = scene.register(long_ago);
    scene.task.shared.is_settled.store(true, std::sync::atomic::Ordering::Release);
    let said_at = earlier(1_800_000);
    scene.remember(Known { silent_since: Some(long_ago), said_at, ..connected(long_ago) });
    // The limit is gone, and nothing was heard.
    let before = Node::now().wall;
    scene.task.look_for_silence().await.unwrap();
    assert!(scene.told(KEY_SILENT, ReadingValue::Boolean(false)).await >= before);
    assert_eq!(scene.known().unwrap().silent_since, None);
    // One that is long over comes by the documents, and then one by the time.
    handle.set_silent_after(60_000);
    scene.task.limits_changed.insert(scene.router);
    let before = Node::now().wall;
    scene.task.look_for_silence().await.unwrap();
    assert!(scene.told(KEY_SILENT, ReadingValue::Boolean(true)).await >= before);
    assert!(scene.task.limits_changed.is_empty());

    scene.task.silent.clear();
    scene.remember(connected(long_ago));
    scene.task.look_for_silence().await.unwrap();
    assert_eq!(scene.known().unwrap().said_at, TimestampMs(long_ago.0 + 60_000));
}

#[tokio::test]
async fn who_came_back_and_left_while_all_are_looked_at_was_not_away_since_the_start() {
    let mut scene = Scene::new().await;
    scene.remember(connected(earlier(3_600_000)));
    // Noted while the routers are looked at, so behind the last take.
    let came_at = TimestampMs(scene.task.started_at.0 + 5);
    let gone_at = TimestampMs(came_at.0 + 5);
    let handle = scene.register(came_at);
    scene.node().ledger.connected(scene.router, came_at);
    scene.task.take_edges().await.unwrap();
    scene.node().registry.remove(&handle);
    // It is out of the registry, and its edge is not noted yet.
    scene.task.settle().await.unwrap();
    assert!(scene.known().unwrap().connected, "its edge will tell");
    scene.node().ledger.disconnected(scene.router, gone_at, End::Socket);
    scene.task.take_edges().await.unwrap();
    let known = scene.known().unwrap();
    assert_eq!((known.connected, known.since), (false, gone_at));
    assert!(scene.task.came.is_empty(), "nothing is kept past the grace");
    assert_eq!(scene.told(KEY_CONNECTED, ReadingValue::Boolean(false)).await, gone_at);
}

/// The same where neither its coming nor its going was taken.
#[tokio::test]
async fn of_one_that_moved_meanwhile_its_edge_tells() {
    let mut scene = Scene::new().await;
    scene.remember(connected(earlier(3_600_000)));
    let came_at = TimestampMs(scene.task.started_at.0 + 5);
    let gone_at = TimestampMs(came_at.0 + 5);
    scene.node().ledger.connected(scene.router, came_at);
    scene.node().ledger.disconnected(scene.router, gone_at, End::Socket);
    scene.task.look_at_all().await.unwrap();
    assert!(scene.known().unwrap().connected);
    scene.task.take_edges().await.unwrap();
    assert_eq!(scene.known().unwrap().since, gone_at);

    // A changed document is no coming or going: it was away since the start.
    let mut scene = Scene::new().await;
    scene.remember(connected(earlier(3_600_000)));
    scene.node().ledger.changed(scene.router, came_at);
    scene.task.look_at_all().await.unwrap();
    let known = scene.known().unwrap();
    assert_eq!((known.connected, known.since), (false, scene.task.started_at));
}

#[tokio::test]
async fn a_connection_that_comes_to_no_session_is_said_to_be_gone() {
    let mut scene = Scene::new().await;
    let came_at = Node::now().wall;
    let handle = scene.register(came_at);
    // Somebody looks while it is registered.
    scene.node().ledger.changed(scene.router, came_at);
    scene.task.take_edges().await.unwrap();
    assert!(scene.known().unwrap().connected);
    drop(super::super::accept::Registered { node: scene.node(), handle: Some(handle) });
    scene.task.take_edges().await.unwrap();
    assert!(!scene.known().unwrap().connected);
    scene.told(KEY_CONNECTED, ReadingValue::Boolean(false)).await;
}

#[tokio::test]
async fn what_was_said_is_not_said_again_when_its_edge_comes_again() {
    let mut scene = Scene::new().await;
    scene.remember(connected(earlier(3_600_000)));
    scene.remember(Known { connected: false, ..connected(earlier(60_000)) });
    let (came_at, gone_at) = (earlier(50), earlier(40));
    let edge = Edge { at: gone_at, came_at: Some(came_at), cause: Some(End::Socket) };
    scene.node().ledger.put_back(scene.router, edge);
    scene.task.take_edges().await.unwrap();
    let rows = scene.rows();
    assert!(rows > 0 && !scene.known().unwrap().connected);
    scene.node().ledger.put_back(scene.router, edge);
    scene.task.take_edges().await.unwrap();
    assert_eq!(scene.rows(), rows);
}

#[tokio::test]
async fn an_edge_that_is_put_back_keeps_that_the_router_came() {
    let ledger = Ledger::default();
    ledger.switch(true);
    let router = RouterId(7);
    let older = Edge { at: TimestampMs(1), came_at: Some(TimestampMs(1)), cause: None };
    ledger.disconnected(router, TimestampMs(5), End::Socket);
    ledger.put_back(router, older);
    let taken = ledger.take_edges()[&router];
    assert_eq!((taken.at, taken.came_at), (TimestampMs(5), Some(TimestampMs(1))));
    assert!(taken.cause.is_some());
    // And what ended its connection, where only its document has changed since.
    ledger.changed(router, TimestampMs(9));
    ledger.put_back(router, taken);
    let again = ledger.take_edges()[&router];
    assert_eq!((again.at, again.came_at), (TimestampMs(5), Some(TimestampMs(1))));
}

#[tokio::test]
async fn of_refused_messages_what_was_told_is_not_told_again() {
    let mut scene = Scene::new().await;
    let mut counts = Counts::default();
    counts.refused[Refusal::Rate.index()] = 3;
    let (told, untold) = (scene.router, RouterId(99));
    for router in [told, untold] {
        scene.node().ledger.refused(router, &counts, Node::now().wall);
    }
    let due = scene.node().ledger.take_refused(|_| true);
    assert_eq!(due.len(), 2);
    let said = Said { routers: vec![told], error: Some(crate::batch::SubmitError::Closed.into()) };
    scene.task.note_told(due, said, tokio::time::Instant::now()).unwrap_err();
    assert!(scene.task.refused.contains_key(&told));
    let left = scene.node().ledger.take_refused(|_| true);
    let left: Vec<RouterId> = left.into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [untold], "the one of which it was not told");
}

/// What is durable counts as said, whatever becomes of the others.
#[tokio::test]
async fn a_statement_that_fails_takes_none_with_it_that_is_durable() {
    let mut scene = Scene::new().await;
    let _handle = scene.register(Node::now().wall);
    let statement = |scene: &Scene| {
        let rows = |keys: &Keys, router: &schema::Router, (): &()| {
            keys.none_refused(router.device, Node::now().wall, false)
        };
        scene.task.of_routers(&[(scene.router, ())], rows)
    };
    let said = statement(&scene);
    let said = scene.task.say(said).await;
    assert_eq!((said.routers, said.error.is_none()), (vec![scene.router], true));
    scene.node().submitter.close().await;
    let unsaid = statement(&scene);
    let unsaid = scene.task.say(unsaid).await;
    assert!(unsaid.routers.is_empty() && unsaid.error.is_some());
}

#[tokio::test]
async fn how_long_a_router_is_silent_is_known_after_a_restart() {
    let mut scene = Scene::new().await;
    let long_ago = TimestampMs(earlier(3_600_000).0 / 1_000 * 1_000);
    let _handle = scene.register(long_ago);
    scene.node().ledger.connected(scene.router, long_ago);
    scene.task.take_edges().await.unwrap();
    scene.node().registry.for_each(|handle| handle.set_silent_after(60_000));
    scene.task.look_for_silence().await.unwrap();
    scene.told(KEY_SILENT, ReadingValue::Boolean(true)).await;
    // As a new process finds it.
    scene.task.shared.known.clear();
    scene.task.silent.clear();
    let router = scene.node().directory.router(scene.router).unwrap();
    let known = scene.task.recall(scene.router, &router).await.unwrap().unwrap();
    assert_eq!(known.silent_since, Some(long_ago));
}
