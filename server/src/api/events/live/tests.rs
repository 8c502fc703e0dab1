//! A stream's pace while much happens.

use axum::body::Body;
use http_body::Body as _;
use prometheus::Registry;
use schema::{Provenance, TimestampMs, TransitionId};
use serde_json::json;
use store::NewEvent;
use tempfile::TempDir;

use super::*;
use crate::api::streams::Streams;

const FOREVER: Duration = Duration::from_secs(3_600);

/// Something that a test waits for comes within this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A stream of all events of a store with so many, of which it is told by hand.
struct Running {
    told: watch::Sender<u64>,
    body: Body,
    store: AlarmStore,
    _dir: TempDir,
}

async fn running(events: u128, query: EventQuery, pace: Pace) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let store = AlarmStore::open(dir.path(), &Registry::new()).unwrap();
    let event = |number| NewEvent {
        id: TransitionId(number),
        tenant: None,
        at: TimestampMs(1),
        kind: "tenant_created".to_owned(),
        location: None,
        device: None,
        document: None,
        actor: None,
        provenance: Provenance::default(),
        body: json!({}),
    };
    store.record((1..=events).map(event).collect()).await.unwrap();
    let (told, latest) = watch::channel(0);
    let (out, body) = outflow(DEADLINE);
    let follower = Follower {
        store: store.clone(),
        query: EventQuery { oldest_first: true, limit: PAGE, ..query },
        last: 0,
        latest,
        out,
        pace,
        sent_at: Instant::now(),
        _place: Streams::register(&Registry::new()).unwrap().enter(None).unwrap(),
    };
    tokio::spawn(follower.run(std::future::pending()));
    Running { told, body, store, _dir: dir }
}

impl Running {
    async fn next(&mut self) -> String {
        let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
        let frame = tokio::time::timeout(DEADLINE, frame).await.expect("a piece in time");
        let data = frame.expect("the stream goes on").unwrap().into_data().unwrap();
        String::from_utf8(data.to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_stream_that_leaves_out_what_happens_says_that_it_is_there() {
    let pace = Pace { heartbeat: Duration::from_millis(500), look_pause: Duration::ZERO };
    let query = EventQuery { kinds: vec!["alarm_raised".to_owned()], ..EventQuery::default() };
    let mut stream = running(1, query, pace).await;
    assert!(stream.next().await.starts_with("retry: "));
    let told = stream.told.clone();
    let flood = tokio::spawn(async move {
        for number in 1.. {
            told.send_replace(number);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for _ in 0..2 {
        assert_eq!(stream.next().await, ": here\n\n");
    }
    flood.abort();
    stream.store.close().await;
}

#[tokio::test]
async fn what_happens_within_a_pause_is_found_by_one_look() {
    const EVENTS: u64 = 100;
    let look_pause = Duration::from_millis(200);
    let pace = Pace { heartbeat: FOREVER, look_pause };
    let started = Instant::now();
    let mut stream = running(u128::from(EVENTS), EventQuery::default(), pace).await;
    assert!(stream.next().await.starts_with("retry: "));
    let told = stream.told.clone();
    tokio::spawn(async move {
        for number in 1..=EVENTS {
            told.send_replace(number);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (mut seen, mut pieces) = (0, 0);
    while seen < EVENTS {
        seen += stream.next().await.matches("data: ").count() as u64;
        pieces += 1;
    }
    let pauses = started.elapsed().as_millis() / look_pause.as_millis();
    assert!(pieces <= pauses + 2, "{pieces} looks in {pauses} pauses");
    stream.store.close().await;
}
