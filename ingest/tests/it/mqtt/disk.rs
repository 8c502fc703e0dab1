//! A disk that is full, slow or gone under the broker: who publishes is slowed
//! and not acknowledged, all else goes on, and nothing is lost in silence.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex};

use ingest::broker::SessionLimits;
use journal::Disk;
use serde_json::json;

use super::client::{Client, Hello, publish};
use super::*;

const TELEMETRY: &str = "v1/devices/me/telemetry";

/// A disk that may be full, and whose syncs may have to be allowed one by one.
#[derive(Debug, Default)]
struct BadDisk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_full: bool,
    /// How many more syncs there may be; none is any number.
    allowed_syncs: Option<u64>,
}

impl BadDisk {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn fill(&self) {
        self.change(|state| state.is_full = true);
    }

    fn hold(&self) {
        self.change(|state| state.allowed_syncs = Some(0));
    }

    fn allow_a_sync(&self) {
        self.change(|state| *state.allowed_syncs.as_mut().unwrap() += 1);
    }

    fn heal(&self) {
        self.change(|state| *state = State::default());
    }
}

impl Disk for BadDisk {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if self.state.lock().unwrap().is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        journal::LocalDisk.write(file, slices, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        while state.allowed_syncs == Some(0) {
            state = self.changed.wait(state).unwrap();
        }
        if let Some(allowed) = &mut state.allowed_syncs {
            *allowed -= 1;
        }
        drop(state);
        file.sync_data()
    }
}

/// A disk, and a setup on it that looks for room again every few milliseconds.
fn on_a_bad_disk() -> (Arc<BadDisk>, Setup) {
    let disk = Arc::new(BadDisk::default());
    let mut setup = Setup::new().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    setup.journal.retry_min_ms = 1;
    setup.journal.retry_max_ms = 10;
    (disk, setup)
}

/// Connects, pings, calls and is answered; and has a publish unanswered behind.
async fn goes_on_beside(node: &Node, name: &str) -> Client {
    node.token_router(name).await;
    let mut client = Client::connected(node.address(), &Hello::token(name).v5()).await;
    client.ping().await;
    assert_eq!(client.subscribe("v1/devices/me/rpc/request/+", 1).await, 1);
    let (connections, device) = (node.broker.connections(), node.device(name));
    let call =
        tokio::spawn(async move { connections.rpc(device, "set", &json!(1), DEADLINE).await });
    let (topic, id, _) = client.message().await;
    client.puback(id).await;
    client.publish(&topic.replace("request", "response"), 0, r#"{"is":"set"}"#).await;
    assert_eq!(call.await.unwrap(), Ok(json!({"is": "set"})));
    client.publish(TELEMETRY, 9, r#"{"a":1}"#).await;
    // A PUBACK would come before this.
    client.ping().await;
    client
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_disk_has_it_and_the_socket_is_then_not_read() {
    let (disk, mut setup) = on_a_bad_disk();
    setup.options.session = SessionLimits { max_inflight_rows: 1_000, ..SessionLimits::default() };
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1")).await;
    disk.hold();
    let one = publish(false, TELEMETRY, 1, r#"{"a":1}"#);
    client.send(&one.repeat(1_500)).await;
    client.send(b"\xc0\x00").await;
    until("the bound is reached", || node.counter("baken_broker_readings_total", "") == 1_000)
        .await;
    until("the reads pause", || node.counter("baken_broker_paused_reads_total", "") > 0).await;
    // Nothing but the disk can bring a PUBACK, and the ping stands behind
    // publishes that are not read.
    assert_eq!(node.counter("baken_broker_readings_total", ""), 1_000);
    assert_eq!(node.counter("baken_broker_sent_bytes_total", ""), 4, "CONNACK and no more");
    disk.heal();
    let mut acknowledged = 0;
    for _ in 0..1_501 {
        match client.next().await {
            Some((0x40, body)) if body == [0, 1] => acknowledged += 1,
            other => assert_eq!(other, Some((0xd0, Vec::new()))),
        }
    }
    assert_eq!(acknowledged, 1_500, "nothing was dropped");
}

#[tokio::test]
async fn a_full_disk_slows_publishers_and_nothing_else_and_pubacks_come_after_it() {
    let (disk, mut setup) = on_a_bad_disk();
    setup.options.session = SessionLimits { max_inflight_rows: 1_000, ..SessionLimits::default() };
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut publisher = Client::connected(node.address(), &Hello::token("r1")).await;
    disk.fill();
    let all: Vec<_> = (1..=1_500)
        .flat_map(|id| publish(false, TELEMETRY, id, &format!(r#"{{"a":{id}}}"#)))
        .collect();
    publisher.send(&all).await;
    until("the journal stalls", || node.counter("baken_journal_stalls_total", "") == 1).await;
    until("the bound is reached", || node.counter("baken_broker_readings_total", "") == 1_000)
        .await;
    until("the reads pause", || node.counter("baken_broker_paused_reads_total", "") > 0).await;
    assert_eq!(node.counter("baken_broker_sent_bytes_total", ""), 4, "CONNACK and no PUBACK");
    let mut other = goes_on_beside(&node, "r2").await;
    assert_eq!(node.counter("baken_broker_readings_total", ""), 1_001, "r1 is not read");
    disk.heal();
    for id in 1..=1_500u16 {
        assert_eq!(publisher.next().await, Some((0x40, id.to_be_bytes().to_vec())));
    }
    assert_eq!(other.next().await, Some((0x40, vec![0, 9])));
    let latest = node.latest(node.device("r1")).await;
    assert_eq!(latest, [("a".to_owned(), "Integer(1500)".to_owned())]);
    assert_eq!(node.counter("baken_broker_given_up_rows_total", ""), 0);
}

#[tokio::test]
async fn a_slow_disk_slows_publishers_and_nothing_else() {
    let (disk, setup) = on_a_bad_disk();
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut publisher = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    disk.hold();
    // Five times the Receive Maximum that the client was told: slowed, not ended.
    let all: Vec<_> = (1..=500)
        .flat_map(|id| publish(true, TELEMETRY, id, &format!(r#"{{"a":{id}}}"#)))
        .collect();
    publisher.send(&all).await;
    let readings = || node.counter("baken_broker_readings_total", "");
    until("the Receive Maximum is reached", || readings() == 100).await;
    until("the reads pause", || node.counter("baken_broker_paused_reads_total", "") > 0).await;
    let mut other = goes_on_beside(&node, "r2").await;
    assert_eq!(readings(), 101, "r1 is not read");
    let sent = || node.counter("baken_broker_sent_bytes_total", "");
    let (mut is_other_answered, sent_before) = (false, sent());
    for id in 1..=500u16 {
        // At least one submission is durable with each sync, and perhaps more.
        disk.allow_a_sync();
        assert_eq!(publisher.next().await, Some((0x40, id.to_be_bytes().to_vec())));
        // In this order, as both only rise; r2 has a reading and 14 bytes of these.
        let (readings, answered) = (readings(), (sent() - sent_before) / 4);
        assert!(readings <= answered + 101, "{readings} taken, {answered} answered");
        if id % 100 == 0 {
            other.send(b"\xc0\x00").await;
            if other.next().await == Some((0x40, vec![0, 9])) {
                is_other_answered = true;
                assert_eq!(other.next().await, Some((0xd0, Vec::new())));
            }
        }
    }
    disk.heal();
    assert!(is_other_answered);
    let latest = node.latest(node.device("r1")).await;
    assert_eq!(latest, [("a".to_owned(), "Integer(500)".to_owned())]);
}

#[tokio::test]
async fn what_came_at_qos_0_and_finds_no_room_before_its_connection_ends_is_counted() {
    let (disk, mut setup) = on_a_bad_disk();
    setup.options.session = SessionLimits { max_inflight_rows: 3, ..SessionLimits::default() };
    setup.options.listener.shutdown_timeout_ms = 20;
    setup.batch.queue_bytes = 4_096;
    let node = setup.start().await;
    let routers = [node.token_router("r1").await, node.token_router("r2").await];
    let mut first = Client::connected(node.address(), &Hello::token("r1")).await;
    disk.hold();
    let keys: Vec<_> = (0..200).map(|key| format!(r#""k{key}":1"#)).collect();
    first.publish(TELEMETRY, 5, &format!("{{{}}}", keys.join(","))).await;
    until("the queue is full", || node.counter("baken_batch_queue_bytes", "") == 4_096).await;
    let mut second = Client::connected(node.address(), &Hello::token("r2")).await;
    let one = |id| publish(false, TELEMETRY, id, r#"{"a":1,"b":2,"c":3}"#);
    // The first takes the session to its bound; the others were read with it.
    second.send(&[one(0), one(0), one(7), one(0)].concat()).await;
    until("it waits for room", || node.counter("baken_broker_readings_total", "") == 203).await;
    node.broker.connections().disconnect(routers[1]);
    assert_eq!(second.ended().await, None);
    let given_up = |reason| node.counter("baken_broker_given_up_rows_total", reason);
    until("they are counted", || given_up("no_room") == 3).await;
    until("and those unread", || node.counter("baken_broker_unread_publishes_total", "") == 2)
        .await;
    // What has its place in the queue is not given up with its connection.
    node.broker.connections().disconnect(routers[0]);
    assert_eq!(first.ended().await, None);
    disk.heal();
    let begun = Instant::now();
    while node.latest(node.device("r1")).await.len() < 200 {
        assert!(begun.elapsed() < DEADLINE, "it is not stored");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((given_up("no_room"), given_up("journal_failed")), (3, 0));
}

#[tokio::test]
async fn what_came_at_qos_0_and_the_journal_cannot_take_is_counted() {
    let (disk, setup) = on_a_bad_disk();
    let node = setup.start().await;
    node.token_router("r1").await;
    let mut client = Client::connected(node.address(), &Hello::token("r1").v5()).await;
    disk.fill();
    client.publish(TELEMETRY, 0, r#"{"a":1,"b":2}"#).await;
    client.publish("v1/devices/me/attributes", 0, r#"{"serial":"x"}"#).await;
    client.publish(TELEMETRY, 5, r#"{"a":3}"#).await;
    until("all is taken", || node.counter("baken_broker_readings_total", "") == 3).await;
    until("the journal stalls", || node.counter("baken_journal_stalls_total", "") == 1).await;
    // Closing a stalled journal fails what waits for it.
    node.journal.close().await;
    assert_eq!(client.ended().await, Some(0x88), "and no PUBACK");
    let given_up = || node.counter("baken_broker_given_up_rows_total", "journal_failed");
    until("they are counted", || given_up() == 3).await;
}
